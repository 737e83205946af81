"""The session store: registrations, take-overs, resumes and renewals."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from dispatchd.adapters.postgres.database import Connection, Database, Record
from dispatchd.adapters.postgres.queries import SESSIONS
from dispatchd.adapters.postgres.rows import fence_values, labels_of, labels_text, microseconds
from dispatchd.adapters.postgres.settlements import apply, lock_executions
from dispatchd.application.ports import (
    DecideOmitted,
    EarlierSession,
    Followed,
    NewSession,
    NotPermitted,
    OpenedSession,
    RegistryRow,
    Renewal,
    RenewalOutcome,
    TransientConflict,
)
from dispatchd.domain.errors import Overloaded
from dispatchd.domain.ids import ExecutionId, JobId, SessionId
from dispatchd.domain.region import RegionFence
from dispatchd.domain.worker import Registration

MOST_TAKEOVERS_A_MINUTE = 5


class PostgresSessionStore:
    """Fulfils `SessionStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, session: NewSession, decide_omitted: DecideOmitted, fence: RegionFence) -> OpenedSession:
        registration = session.registration
        async with self._database.transaction() as connection:
            await connection.run(
                SESSIONS["upsert_worker"],
                **_registry_columns(registration),
                session_id=session.session_id,
            )
            earlier = await _lock_open_sessions(connection, registration.worker_id)
            took_over_from = _taken_over(earlier, registration)
            if took_over_from is not None:
                await _refuse_too_many_takeovers(connection, registration.worker_id)
            inserted = await connection.row(
                SESSIONS["insert_session"],
                session_id=session.session_id,
                worker_id=registration.worker_id,
                process_id=registration.process_id,
                principal=session.principal,
                gateway=session.gateway,
                peer=session.peer,
                lease_us=microseconds(session.lease),
                was_takeover=took_over_from is not None,
                **fence_values(fence),
            )
            if inserted is None:
                raise NotPermitted
            resumed, followed, stayed = await _take_over_executions(connection, session, earlier, decide_omitted, fence)
            await connection.run(
                SESSIONS["supersede_sessions"],
                session_ids=[e.session_id for e in earlier],
                ends_them=registration.resumes,
            )
        return OpenedSession(
            resumed=resumed,
            earlier=stayed,
            displaced=tuple(e for e in earlier if not e.is_superseded),
            took_over_from=took_over_from,
            followed=tuple(followed),
        )

    async def update_registration(self, session_id: SessionId, registration: Registration, fence: RegionFence) -> None:
        async with self._database.connection() as connection:
            await connection.run(
                SESSIONS["update_worker"],
                **_registry_columns(registration),
                session_id=session_id,
                **fence_values(fence),
            )

    async def registry_row(self, worker_id: str) -> RegistryRow | None:
        async with self._database.connection() as connection:
            row = await connection.row(SESSIONS["worker_by_id"], worker_id=worker_id)
        if row is None:
            return None
        return RegistryRow(row["worker_id"], tuple(row["capabilities"]), row["slots"], labels_of(row["labels"]))

    async def worker_of(self, execution_id: ExecutionId) -> str | None:
        async with self._database.connection() as connection:
            row = await connection.row(SESSIONS["worker_of_execution"], execution_id=execution_id)
        return None if row is None else row["worker_id"]

    async def renew(self, renewals: Sequence[Renewal], lease: timedelta, fence: RegionFence) -> RenewalOutcome:
        try:
            return await self._renew(renewals, lease, fence)
        except TransientConflict:
            # Somebody holds the lock on one of the sessions. The others need not wait for that.
            session_ids = [renewal.session_id for renewal in renewals]
            async with self._database.connection() as connection:
                rows = await connection.rows(SESSIONS["unlocked_sessions"], session_ids=session_ids)
            unlocked = {SessionId(row["session_id"]) for row in rows}
            outcome = await self._renew([r for r in renewals if r.session_id in unlocked], lease, fence)
            return replace(outcome, locked=frozenset(session_ids) - unlocked)

    async def _renew(self, renewals: Sequence[Renewal], lease: timedelta, fence: RegionFence) -> RenewalOutcome:
        session_ids = [renewal.session_id for renewal in renewals]
        async with self._database.connection() as connection:
            renewed = frozenset(
                SessionId(row["session_id"])
                for row in await connection.rows(
                    SESSIONS["renew_sessions"],
                    session_ids=session_ids,
                    statuses=[renewal.status for renewal in renewals],
                    lease_us=microseconds(lease),
                    **fence_values(fence),
                )
            )
            lost = [session_id for session_id in session_ids if session_id not in renewed]
            if lost and not await _is_permitted(connection, fence):
                raise NotPermitted
            return RenewalOutcome(
                renewed=renewed,
                superseded=await _superseded_among(connection, lost) if lost else frozenset(),
                locked=frozenset(),
                noticed=await _mark_started(connection, renewals, fence),
                held=await _held_by(connection, session_ids),
                earlier=await _held_by_earlier(connection, [renewal.worker_id for renewal in renewals]),
            )

    async def close(self, session_ids: Sequence[SessionId], fence: RegionFence) -> None:
        async with self._database.connection() as connection:
            await connection.run(SESSIONS["close_sessions"], session_ids=session_ids, **fence_values(fence))


async def _lock_open_sessions(connection: Connection, worker_id: str) -> list[EarlierSession]:
    rows = await connection.rows(SESSIONS["lock_open_sessions"], worker_id=worker_id)
    return [
        EarlierSession(
            SessionId(row["session_id"]),
            row["process_id"],
            row["principal"],
            row["gateway"],
            row["peer"],
            is_superseded=row["superseded_at"] is not None,
            is_closed=row["closed_at"] is not None,
        )
        for row in rows
    ]


def _taken_over(earlier: Sequence[EarlierSession], registration: Registration) -> EarlierSession | None:
    """The open stream of another process that this registration displaces, as far as is known."""
    for session in earlier:
        is_same_process = registration.process_id != "" and session.process_id == registration.process_id
        if not session.is_superseded and not session.is_closed and not is_same_process:
            return session
    return None


async def _refuse_too_many_takeovers(connection: Connection, worker_id: str) -> None:
    row = await connection.row(SESSIONS["recent_takeovers"], worker_id=worker_id)
    if row is not None and row["count"] >= MOST_TAKEOVERS_A_MINUTE:
        raise Overloaded(
            f"worker id {worker_id!r} was taken over {row['count']} times in the last minute: "
            "give every worker process an id of its own",
            timedelta(minutes=1),
        )


async def _take_over_executions(
    connection: Connection,
    session: NewSession,
    earlier: Sequence[EarlierSession],
    decide_omitted: DecideOmitted,
    fence: RegionFence,
) -> tuple[dict[ExecutionId, JobId], list[Followed], dict[ExecutionId, JobId]]:
    """What earlier sessions hold: moved, ended, or left where it is. Only the same principal may resume."""
    if not earlier:
        return {}, [], {}
    registration = session.registration
    own = [e.session_id for e in earlier if e.principal == session.principal]
    held = await connection.rows(SESSIONS["executions_held_by"], session_ids=[e.session_id for e in earlier])
    if not registration.resumes:
        return {}, [], _jobs_by_execution(held)
    # All of them at once, so that their locks are taken in one order.
    locked = await lock_executions(connection, [row["execution_id"] for row in held]) if held else []
    listed = set(registration.held)
    omitted = [
        row.execution for row in locked if row.execution.execution_id not in listed and row.execution.state.is_live
    ]
    is_same_process = any(e.process_id == registration.process_id for e in earlier if not e.is_superseded)
    followed = await apply(connection, decide_omitted(omitted, is_same_process), fence)
    moved = await connection.rows(
        SESSIONS["move_executions"],
        session_id=session.session_id,
        execution_ids=list(registration.held),
        from_sessions=own,
    )
    return _jobs_by_execution(moved), followed, {}


def _jobs_by_execution(rows: Sequence[Record]) -> dict[ExecutionId, JobId]:
    return {ExecutionId(row["execution_id"]): JobId(row["job_id"]) for row in rows}


async def _is_permitted(connection: Connection, fence: RegionFence) -> bool:
    row = await connection.row(SESSIONS["permitted"], **fence_values(fence))
    return row is not None and bool(row["yes"])


async def _mark_started(
    connection: Connection, renewals: Sequence[Renewal], fence: RegionFence
) -> frozenset[ExecutionId]:
    notices = [
        (execution_id, renewal.session_id, age) for renewal in renewals for execution_id, age in renewal.started.items()
    ]
    if not notices:
        return frozenset()
    rows = await connection.rows(
        SESSIONS["mark_started"],
        execution_ids=[execution_id for execution_id, _, _ in notices],
        session_ids=[session_id for _, session_id, _ in notices],
        ages_us=[microseconds(age) for _, _, age in notices],
        **fence_values(fence),
    )
    return frozenset(ExecutionId(row["execution_id"]) for row in rows)


async def _superseded_among(connection: Connection, session_ids: Sequence[SessionId]) -> frozenset[SessionId]:
    rows = await connection.rows(SESSIONS["session_states"], session_ids=session_ids)
    return frozenset(SessionId(row["session_id"]) for row in rows if row["is_superseded"])


async def _held_by(connection: Connection, session_ids: Sequence[SessionId]) -> dict[SessionId, frozenset[ExecutionId]]:
    held: defaultdict[SessionId, set[ExecutionId]] = defaultdict(set)
    for row in await connection.rows(SESSIONS["executions_held_by"], session_ids=session_ids):
        held[SessionId(row["session_id"])].add(ExecutionId(row["execution_id"]))
    return {session_id: frozenset(held[session_id]) for session_id in session_ids}


async def _held_by_earlier(connection: Connection, worker_ids: Sequence[str]) -> dict[str, frozenset[ExecutionId]]:
    held: defaultdict[str, set[ExecutionId]] = defaultdict(set)
    for row in await connection.rows(SESSIONS["held_by_earlier_sessions"], worker_ids=worker_ids):
        held[row["worker_id"]].add(ExecutionId(row["execution_id"]))
    return {worker_id: frozenset(executions) for worker_id, executions in held.items()}


def _registry_columns(registration: Registration) -> dict[str, object]:
    return {
        "worker_id": registration.worker_id,
        "capabilities": list(registration.capabilities),
        "slots": registration.slots,
        "labels": labels_text(registration.labels),
    }
