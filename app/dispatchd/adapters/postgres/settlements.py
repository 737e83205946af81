"""The settlement store: executions end here, whatever ended them, under locks on their jobs and themselves."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from dispatchd.adapters.postgres.database import Connection, Database, Record
from dispatchd.adapters.postgres.queries import SETTLE
from dispatchd.adapters.postgres.rows import fence_values, labels_text, optional_microseconds, policy_of
from dispatchd.application.ports import (
    Completion,
    Decide,
    Decision,
    Followed,
    LockedExecution,
    NotPermitted,
    ReadyEntry,
    Reporter,
)
from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.domain.ids import ExecutionId, JobId, SessionId
from dispatchd.domain.region import RegionFence
from dispatchd.domain.settlement import DeliveryCount


class Locked(NamedTuple):
    """A locked execution, and where it stands or stood in the ready queue."""

    execution: LockedExecution
    due_at: datetime
    capability: str
    priority: int


class PostgresSettlementStore:
    """Fulfils `SettlementStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def complete(self, completions: Sequence[Completion], fence: RegionFence) -> dict[ExecutionId, JobId]:
        async with self._database.connection() as connection:
            rows = await connection.rows(
                SETTLE["complete_executions"],
                execution_ids=[completion.execution_id for completion in completions],
                session_ids=[completion.session_id for completion in completions],
                results=[completion.ending.result or None for completion in completions],
                result_metadata=[labels_text(completion.ending.metadata) for completion in completions],
                **fence_values(fence),
            )
        return {ExecutionId(row["execution_id"]): JobId(row["job_id"]) for row in rows}

    async def settle(self, execution_ids: Sequence[ExecutionId], decide: Decide, fence: RegionFence) -> list[Followed]:
        async with self._database.transaction() as connection:
            locked = await lock_executions(connection, execution_ids)
            return await apply(connection, decide([row.execution for row in locked]), fence)


async def lock_executions(connection: Connection, execution_ids: Sequence[ExecutionId]) -> list[Locked]:
    """Locks jobs, then executions, each in id order; ids that don't exist are left out.

    An execution that waited for its lock may have moved to a session that is younger than the statement's snapshot,
    and then seems to have none: it is looked at again, by a statement that sees that session.
    """
    rows = await connection.rows(SETTLE["lock_executions"], execution_ids=execution_ids)
    if any(row["session_missing"] and row["session_id"] is not None for row in rows):
        rows = await connection.rows(SETTLE["lock_executions"], execution_ids=execution_ids)
    return [_locked(row) for row in rows]


async def apply(connection: Connection, decisions: Sequence[Decision], fence: RegionFence) -> list[Followed]:
    """Writes decisions about locked executions; returns what was inserted after them. Raises NotPermitted."""
    if not decisions:
        return []
    rows = await connection.rows(SETTLE["apply_settlements"], **_columns(decisions), **fence_values(fence))
    if not rows[0]["permitted"]:
        raise NotPermitted
    return [
        Followed(
            ReadyEntry(ExecutionId(row["next_id"]), row["next_capability"], row["next_priority"], row["next_due_at"]),
            is_ready=row["next_state"] == ExecutionState.QUEUED,
        )
        for row in rows
        if row["next_id"] is not None
    ]


def _locked(row: Record) -> Locked:
    execution = LockedExecution(
        execution_id=ExecutionId(row["execution_id"]),
        job_id=JobId(row["job_id"]),
        state=ExecutionState(row["state"]),
        end_reason=EndReason(row["end_reason"]) if row["end_reason"] else None,
        count=DeliveryCount(row["attempt"], row["delivery"], row["attempts_before"], row["counted_before"]),
        policy=policy_of(row),
        session_id=None if row["session_id"] is None else SessionId(row["session_id"]),
        worker_id=row["worker_id"],
        holder=None if row["session_worker"] is None else Reporter(row["session_worker"], row["principal"]),
        session_over=row["session_ended"] or row["session_missing"],
        is_overdue=row["is_overdue"],
    )
    return Locked(execution, row["due_at"], row["capability"], row["priority"])


def _columns(decisions: Sequence[Decision]) -> dict[str, object]:
    settlements = [decision.settlement for decision in decisions]
    following = [settlement.next_execution for settlement in settlements]
    return {
        "execution_ids": [decision.execution.execution_id for decision in decisions],
        "next_ids": [
            None if settlement.next_execution is None else decision.next_id
            for decision, settlement in zip(decisions, settlements, strict=True)
        ],
        "states": [s.state for s in settlements],
        "end_reasons": [s.end_reason for s in settlements],
        "error_messages": [s.error_message or None for s in settlements],
        "error_types": [s.error_type or None for s in settlements],
        "result_metadata": [labels_text(s.metadata) for s in settlements],
        "job_states": [s.job_state for s in settlements],
        "results": [s.result or None for s in settlements],
        "next_attempts": [None if n is None else n.count.attempt for n in following],
        "next_deliveries": [None if n is None else n.count.delivery for n in following],
        "next_attempts_before": [None if n is None else n.count.attempts_before for n in following],
        "next_counted": [None if n is None else n.count.counted_before for n in following],
        "next_delays_us": [None if n is None else optional_microseconds(n.delay) for n in following],
    }
