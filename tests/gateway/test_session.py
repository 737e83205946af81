"""One worker's session: its slots, what it holds, and how it differs from what the database says."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from dispatchd.application.gateway.messages import Assignment, CancelSignal, Drain
from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.ports import ClaimedExecution
from dispatchd.domain.errors import Superseded, Unavailable
from dispatchd.domain.ids import ExecutionId, JobId
from dispatchd.domain.worker import Registration, WorkerStatus
from gateway.claimed import claimed, ids

LEASE = timedelta(seconds=30)
NOTHING: frozenset[ExecutionId] = frozenset()


def session_with(
    slots: int = 3,
    *,
    resumes: bool = True,
    resumed: Mapping[ExecutionId, JobId] | None = None,
    earlier: Mapping[ExecutionId, JobId] | None = None,
    held: tuple[ExecutionId, ...] = (),
) -> WorkerSession:
    registration = Registration("mailer", ("email",), slots, batching=True, resumes=resumes, process_id="p", held=held)
    session = WorkerSession(ids.session_id(), registration, "anonymous", "peer", LEASE)
    session.opened(session.heard_at, resumed or {}, earlier or {})
    return session


def assign(session: WorkerSession, *, sent: bool = True) -> ClaimedExecution:
    execution = claimed()
    session.assign(execution)
    if sent:
        # As if the writer had taken it.
        session.outbox.withdraw(execution.execution_id)
        session.was_sent(execution.execution_id)
    return execution


async def sent(session: WorkerSession) -> list[object]:
    """What waits to be written; at least one message must."""
    return list(await session.outbox.take())


async def test_slots_are_what_is_not_held_here_or_by_earlier_sessions() -> None:
    session = session_with(4, resumed={ids.execution_id(): ids.job_id()}, earlier={ids.execution_id(): ids.job_id()})
    assert session.free_slots == 2
    execution = assign(session)
    assert session.free_slots == 1
    session.reported(execution.execution_id)
    assert session.free_slots == 2
    session.reported(next(iter(session.earlier)))
    assert session.free_slots == 3
    session.update(Registration("mailer", ("email",), 1))
    assert session.free_slots == 0


@pytest.mark.parametrize("status", list(WorkerStatus))
async def test_only_a_ready_or_busy_worker_takes_work(status: WorkerStatus) -> None:
    session = session_with(3)
    session.heard(status)
    assert session.free_slots == (3 if status in (WorkerStatus.READY, WorkerStatus.BUSY) else 0)


async def test_a_session_that_is_silent_doubtful_draining_or_over_takes_none() -> None:
    silent = session_with()
    silent.heard_at -= LEASE.total_seconds() * 0.51
    assert silent.free_slots == 0
    silent.heard()
    assert silent.free_slots == 3
    doubtful = session_with()
    doubtful.distrust()
    assert doubtful.free_slots == 0
    assert doubtful.renewal() is not None, "to find out what is the matter"
    draining = session_with()
    draining.drain("bye")
    assert draining.free_slots == 0
    over = session_with()
    over.end(Superseded("mailer"))
    assert over.free_slots == 0
    assert over.renewal() is None


async def test_a_session_ends_once_and_its_unwritten_assignments_stay_unsent() -> None:
    session = session_with()
    written = assign(session)
    unwritten = assign(session, sent=False)
    session.end(Superseded("mailer"))
    session.end(Unavailable("later"))
    assert isinstance(session.ended.result(), Superseded)
    assert session.outbox.withdraw_assignments() == []
    assert {execution_id: held.was_sent for execution_id, held in session.held.items()} == {
        written.execution_id: True,
        unwritten.execution_id: False,
    }


async def test_a_drain_returns_what_was_not_written_and_tells_who_can_resume() -> None:
    session = session_with()
    unwritten = assign(session, sent=False)
    assert session.drain("bye") == [unwritten.execution_id]
    assert await sent(session) == [Drain("bye")]
    plain = session_with(resumes=False)
    plain.drain("bye")
    plain.outbox.send(Drain("the test's own"))
    assert await sent(plain) == [Drain("the test's own")]


async def test_what_ended_elsewhere_keeps_its_slot_until_the_worker_answers() -> None:
    session = session_with()
    execution = assign(session)
    session.unwanted(execution.execution_id, "canceled")
    session.unwanted(execution.execution_id, "canceled")
    assert await sent(session) == [CancelSignal((execution.execution_id,), "canceled")]
    assert session.free_slots == 2
    assert session.lease_ack().lost == (execution.execution_id,)
    assert session.lease_ack().lost == (execution.execution_id,), "until it is answered"
    session.reported(execution.execution_id)
    assert session.free_slots == 3
    assert session.lease_ack().lost == ()


async def test_what_ended_before_it_was_written_is_taken_back() -> None:
    session = session_with()
    unwritten, written = assign(session, sent=False), assign(session, sent=False)
    session.unwanted(unwritten.execution_id, "canceled")
    assert session.free_slots == 2
    assert session.lease_ack().lost == ()
    [message] = await sent(session)
    assert isinstance(message, Assignment)
    assert message.execution is written


async def test_what_a_resuming_worker_lists_and_does_not_get_is_told_once() -> None:
    resumed, lost = ids.execution_id(), ids.execution_id()
    session = session_with(resumed={resumed: ids.job_id()}, held=(resumed, lost))
    assert session.lease_ack().lost == (lost,)
    assert session.lease_ack().lost == ()


# --- compared with the database -----------------------------------------------------------------------------------


def compare(
    session: WorkerSession, *in_database: ExecutionId, claiming: frozenset[ExecutionId] = NOTHING
) -> set[ExecutionId]:
    return session.compare(session.known, frozenset(in_database), claiming)


async def test_what_only_the_database_knows_at_two_renewals_in_a_row_is_unclear() -> None:
    session = session_with()
    unclear = ids.execution_id()
    assert compare(session, unclear) == set()
    assert compare(session) == set()
    assert compare(session, unclear) == set(), "not in a row"
    assert compare(session, unclear) == {unclear}
    assert compare(session, unclear) == set(), "it is being returned"


async def test_what_is_still_being_claimed_or_saved_is_not_unclear() -> None:
    session = session_with()
    claiming, execution = ids.execution_id(), assign(session)
    for _ in range(3):
        assert compare(session, claiming, execution.execution_id, claiming=frozenset({claiming})) == set()
    session.reported(execution.execution_id)
    for _ in range(3):
        assert compare(session, execution.execution_id) == set()
    session.saved(execution.execution_id)
    assert compare(session, execution.execution_id) == set()
    assert compare(session, execution.execution_id) == {execution.execution_id}, "refused by the database, say"


async def test_what_was_assigned_or_reported_while_the_renewal_was_under_way_is_not_lost() -> None:
    session = session_with()
    reported = assign(session)
    known = session.known
    session.reported(reported.execution_id)
    assigned = assign(session)
    assert session.compare(known, frozenset({reported.execution_id}), NOTHING) == set()
    assert session.compare(known, NOTHING, NOTHING) == set()
    assert session.held[assigned.execution_id].is_wanted


async def test_what_the_database_holds_no_more_is_not_wanted() -> None:
    session = session_with()
    execution = assign(session)
    assert compare(session) == set()
    assert not session.held[execution.execution_id].is_wanted
    assert execution.execution_id not in session.known


async def test_what_earlier_sessions_hold_only_becomes_less() -> None:
    one, other = ids.execution_id(), ids.execution_id()
    session = session_with(3, earlier={one: ids.job_id(), other: ids.job_id()})
    assert session.compare_earlier(frozenset({one, other})) is False
    assert session.compare_earlier(frozenset({one})) is True
    assert session.free_slots == 2
    session.reported(one)
    assert session.compare_earlier(frozenset({one})) is False, "as it was before the report was saved"
    assert session.free_slots == 3


# --- renewals -----------------------------------------------------------------------------------------------------


async def test_only_heartbeats_and_started_notices_renew() -> None:
    session = session_with()
    assert session.renewal() is None
    session.heard()
    assert session.renewal() is None
    session.heard(WorkerStatus.BUSY)
    renewal = session.renewal()
    assert renewal is not None
    assert renewal.status is WorkerStatus.BUSY
    session.renewed(session.heard_at, NOTHING)
    assert session.renewal() is None
    execution = assign(session)
    session.started(execution.execution_id)
    session.started(ids.execution_id())
    renewal = session.renewal()
    assert renewal is not None
    assert list(renewal.started) == [execution.execution_id]
    session.renewed(session.heard_at, NOTHING)
    assert session.renewal() is not None, "the notice is still to be written"
    session.renewed(session.heard_at, frozenset({execution.execution_id}))
    assert session.renewal() is None


async def test_a_heartbeat_that_came_while_a_renewal_was_under_way_is_renewed_too() -> None:
    session = session_with()
    session.heard(WorkerStatus.READY)
    sent_at = session.heard_at
    session.heard(WorkerStatus.READY)
    session.renewed(sent_at, NOTHING)
    assert session.renewal() is not None
