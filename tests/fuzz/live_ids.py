"""Ids that exist only at run time stand in generated messages as placeholders, so that a seed alone decides the rest.

A placeholder is an id of the right length: 28 times `f`, then its number. It is replaced when a message is sent.

    job_ffff…ffff0007    one of the jobs that were stored last
    exec_ffff…ffff0003   below 0100: an execution that this very stream was assigned
    exec_ffff…ffff0103   an execution that any stream was assigned
"""

import re
from collections import deque
from collections.abc import Sequence

_MARK = "f" * 28
_JOB = re.compile(rb"job_f{28}([0-9a-f]{4})")
_EXECUTION = re.compile(rb"exec_f{28}([0-9a-f]{4})")
_OTHERS_FROM = 0x100
MOST = 0x100
"""Placeholders of each kind."""


def job(number: int) -> str:
    """Stands for a job that exists."""
    return f"job_{_MARK}{number % MOST:04x}"


def own_execution(number: int) -> str:
    """Stands for an execution that the stream itself was assigned."""
    return f"exec_{_MARK}{number % MOST:04x}"


def any_execution(number: int) -> str:
    """Stands for an execution that somebody was assigned."""
    return f"exec_{_MARK}{_OTHERS_FROM + number % MOST:04x}"


class LiveIds:
    """The newest ids of an installation. Placeholders stay as they are, unknown ids, while there are none."""

    def __init__(self) -> None:
        self.jobs: deque[str] = deque(maxlen=MOST)
        self.executions: deque[str] = deque(maxlen=MOST)

    def put_into(self, message: bytes, own: Sequence[str] = ()) -> bytes:
        """A message with ids in place of placeholders; `own` are the executions of its stream."""

        def a_job(found: re.Match[bytes]) -> bytes:
            return _chosen(self.jobs, int(found[1], 16), found[0])

        def an_execution(found: re.Match[bytes]) -> bytes:
            number = int(found[1], 16)
            return _chosen(own if number < _OTHERS_FROM else self.executions, number, found[0])

        return _EXECUTION.sub(an_execution, _JOB.sub(a_job, message))


def _chosen(ids: Sequence[str], number: int, otherwise: bytes) -> bytes:
    return ids[number % len(ids)].encode() if ids else otherwise
