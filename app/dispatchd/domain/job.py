"""The state machine of a job, and its status as clients see it.

::

    ACTIVE ──▶ SUCCEEDED            a worker reports success
       │ ▲
       │ └──── FAILED               redrive: the one edge out of an ended state
       ├─────▶ FAILED               attempts or deliveries are used up, or "do not retry"
       └─────▶ CANCELED             CancelJob

While a job is ACTIVE, its newest execution says whether it is PENDING, DISPATCHING or RUNNING. So a claim
writes one row, and the two tables can never disagree.
"""

from enum import StrEnum
from typing import assert_never

from dispatchd.domain.execution import ExecutionState


class JobState(StrEnum):
    """What is stored on the job."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class JobStatus(StrEnum):
    """What clients see."""

    PENDING = "pending"
    DISPATCHING = "dispatching"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


JOB_TRANSITIONS: dict[tuple[JobState, JobState], str] = {
    (JobState.ACTIVE, JobState.SUCCEEDED): "a worker reports success",
    (JobState.ACTIVE, JobState.FAILED): "attempts or deliveries are used up, or the worker asks not to retry",
    (JobState.ACTIVE, JobState.CANCELED): "CancelJob",
    (JobState.FAILED, JobState.ACTIVE): "redrive",
}
"""Every edge, with its cause. The database's CHECKs and docs/concepts.md are compared with it by a test."""


def job_status(state: JobState, newest_execution: ExecutionState) -> JobStatus:
    """The status of a job from its own state and its newest execution's."""
    match state:
        case JobState.SUCCEEDED:
            return JobStatus.SUCCEEDED
        case JobState.FAILED:
            return JobStatus.FAILED
        case JobState.CANCELED:
            return JobStatus.CANCELED
        case JobState.ACTIVE:
            match newest_execution:
                case ExecutionState.CLAIMED:
                    return JobStatus.DISPATCHING
                case ExecutionState.RUNNING:
                    return JobStatus.RUNNING
                case _:
                    return JobStatus.PENDING
        case _:
            assert_never(state)


def capability_of(job_type: str) -> str:
    """The part of a job type (or of a declared capability) before the first dot."""
    return job_type.partition(".")[0]
