"""Claimed executions out of thin air, for what needs no database."""

from datetime import UTC, datetime, timedelta

from dispatchd.application.ports import ClaimedExecution
from dispatchd.domain.ids import IdGenerator
from dispatchd.domain.submission import NO_TRACE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ids = IdGenerator()


def claimed(payload: bytes | None = b"{}") -> ClaimedExecution:
    return ClaimedExecution(
        execution_id=ids.execution_id(),
        job_id=ids.job_id(),
        session_id=ids.session_id(),
        attempt=1,
        job_type="email.send",
        payload=payload,
        metadata={},
        trace=NO_TRACE,
        due_at=NOW,
        claimed_at=NOW,
        deadline_at=NOW + timedelta(hours=1),
    )
