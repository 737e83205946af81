"""Python runs this at the start of every process that has this folder on PYTHONPATH: it profiles one role.

The profile covers the main thread, where the event loop runs.
"""

import atexit
import cProfile
import os
import sys


def write(profile: cProfile.Profile, file: str) -> None:
    profile.disable()
    profile.dump_stats(file)


if sys.orig_argv[-1:] == [os.environ.get("DISPATCHD_PROFILE_ROLE")]:
    running = cProfile.Profile()
    atexit.register(write, running, os.environ["DISPATCHD_PROFILE_FILE"])
    running.enable()
