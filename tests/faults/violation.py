"""A broken promise, in a sentence that names the job, the execution, the workers, the times and the files."""

from dataclasses import dataclass

_NS_A_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Violation:
    """`rule` is the name of the function that found it."""

    rule: str
    job_id: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.job_id}: {self.sentence}"


def at(time_ns: int) -> str:
    """A time as the sentences write it: seconds of CLOCK_MONOTONIC, to the microsecond."""
    return f"{time_ns / _NS_A_SECOND:.6f} s"


def ns(time_s: float) -> int:
    """Seconds as nanoseconds."""
    return round(time_s * _NS_A_SECOND)
