"""A launcher that turns into another program which ends when its parent process ends.

It is run as a script, by `child_process.spawn`, and imports nothing of this package, so that it starts quickly:

    python -I -S launch.py '{"parent": 4711, "death_signal": 3, "uid": null, "gid": null, "keep_reach": false}' PROGRAM

A `preexec_fn` could do the same, but may dead-lock in a process that has threads.
"""

import ctypes
import json
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
LINUX_CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    check(libc.prctl(option, *padded))


def check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become(uid: int, gid: int, keep_reach: bool) -> None:
    """Changes to another user; with `keep_reach` it may still enter folders that are closed to that user.

    Root's own folders often are (`/root`), and a server that root starts as somebody else still has to find its
    program and its data there.
    """
    if keep_reach:
        prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if keep_reach:
        bit = 1 << CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
        # Effective, permitted and inheritable; then the same for capabilities from 32 up.
        check(libc.capset(header, (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)))
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)


def main() -> None:
    options = json.loads(sys.argv[1])
    program = sys.argv[2:]
    # Ctrl-C in a terminal goes to the parent alone, which then stops its children in order.
    os.setsid()
    if options["uid"] is not None:
        become(options["uid"], options["gid"], options["keep_reach"])
    # A change of user clears this, so it comes last.
    prctl(PR_SET_PDEATHSIG, options["death_signal"])
    if os.getppid() != options["parent"]:
        raise SystemExit("The process that started this one has ended already.")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
