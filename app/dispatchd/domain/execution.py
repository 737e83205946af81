"""The state machine of an execution (one delivery of one attempt) and the reasons why one ends.

::

    WAITING ──due──▶ QUEUED ──claim──▶ CLAIMED ──started──▶ RUNNING
       │               │                  │                    │
       └───────────────┴────── end ───────┴────────────────────┘
                                │
              SUCCEEDED · FAILED · DEAD_LETTERED
"""

from enum import StrEnum


class ExecutionState(StrEnum):
    """Where an execution stands. On the wire WAITING and QUEUED are both QUEUED."""

    WAITING = "waiting"
    QUEUED = "queued"
    CLAIMED = "claimed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD_LETTERED = "dead_lettered"

    @property
    def is_live(self) -> bool:
        """Whether a worker holds it."""
        return self in (ExecutionState.CLAIMED, ExecutionState.RUNNING)

    @property
    def has_ended(self) -> bool:
        return self in (ExecutionState.SUCCEEDED, ExecutionState.FAILED, ExecutionState.DEAD_LETTERED)


class EndReason(StrEnum):
    """Why an execution ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LEASE_LOST = "lease_lost"
    RETURNED = "returned"
    CANCELED = "canceled"
    TIMED_OUT = "timed_out"


_S = ExecutionState

EXECUTION_TRANSITIONS: dict[tuple[ExecutionState, ExecutionState], str] = {
    (_S.WAITING, _S.QUEUED): "its due time has come",
    (_S.WAITING, _S.FAILED): "the job is canceled",
    (_S.QUEUED, _S.CLAIMED): "a worker-gateway claims it for a worker with a free slot",
    (_S.QUEUED, _S.FAILED): "the job is canceled",
    (_S.CLAIMED, _S.RUNNING): "the worker says that it has begun",
    (_S.CLAIMED, _S.SUCCEEDED): "the worker reports success",
    (_S.CLAIMED, _S.FAILED): "failure, lost lease, timeout, give-back or cancel",
    (_S.CLAIMED, _S.DEAD_LETTERED): "attempts or deliveries are used up, or the worker asks not to retry",
    (_S.RUNNING, _S.SUCCEEDED): "the worker reports success",
    (_S.RUNNING, _S.FAILED): "failure, lost lease, timeout, give-back or cancel",
    (_S.RUNNING, _S.DEAD_LETTERED): "attempts or deliveries are used up, or the worker asks not to retry",
}
"""Every edge, with its cause. The database's CHECKs and docs/concepts.md are compared with it by a test."""
