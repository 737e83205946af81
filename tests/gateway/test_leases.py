"""Leases: who keeps one, who loses one, what a lost one costs, and that there are never two for one execution."""

from datetime import datetime, timedelta
from functools import partial

import grpc
import pytest

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, Session, eventually, uuid_of
from gateway.outage import behind, host_and_port
from gateway.roles import RunningRole, Site
from gateway.worker_stream import ACCEPTED, BATCHING, RESUME, STALE, STARTED, WorkerStream, worker
from tcp_proxy import proxy_to


async def test_heartbeats_keep_a_lease(site: Site, scheduler: RunningRole, jobs: Client, facts: Facts) -> None:
    await jobs.submit()
    async with site.gateway(LEASE_DURATION="1500ms") as gateway, worker(gateway.address) as stream:
        await stream.register()
        execution_id = (await stream.assignment()).execution_id
        first = await facts.session(stream.worker_id)

        async def is_past_two_leases() -> bool:
            await stream.beat()
            now = await facts.session(stream.worker_id)
            assert now.ended_at is None
            return now.last_seen_at > first.last_seen_at + timedelta(seconds=3)

        await eventually(is_past_two_leases, "two leases are over", look_s=0.2)
        assert (await stream.finish(execution_id)).outcome == ACCEPTED


async def test_a_lost_lease_is_a_failed_attempt_and_a_late_result_changes_nothing(
    site: Site, scheduler: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_id = await jobs.submit(backoff_s=0)
    async with (
        site.gateway(WORKER_HEARTBEAT_TTL="60s") as gateway,
        worker(gateway.address) as silent,
        worker(gateway.address) as stream,
    ):
        await silent.register()
        first = await silent.assignment()
        lost = await facts.ended(first.execution_id, "lease_lost")
        session = await facts.session(silent.worker_id)
        assert lost.finished_at is not None
        assert timedelta(0) <= lost.finished_at - session.lease_expires_at < timedelta(seconds=2)
        assert silent.worker_id in (lost.error_message or "")
        await stream.register()
        second = await stream.assignment()
        assert (second.job_id, second.attempt) == (job_id, 2)
        assert second.execution_id != first.execution_id
        before = await facts.executions(job_id)
        assert (await silent.finish(first.execution_id, payload=b"late")).outcome == STALE
        await silent.give_back(first.execution_id)
        assert (await silent.ack()).outcome == STALE
        assert await facts.executions(job_id) == before
        assert (await stream.finish(second.execution_id, payload=b"in time")).outcome == ACCEPTED
        assert (await silent.finish(first.execution_id, success=False)).outcome == STALE
    assert (await jobs.job(job_id)).result == b"in time"


async def test_a_session_that_has_ended_is_told_so_and_renewed_no_more(gateway: RunningRole, facts: Facts) -> None:
    async with worker(gateway.address) as stream:
        await stream.register()
        await facts.sql("update worker_sessions set ended_at = now()")
        ended = await facts.session(stream.worker_id)
        await stream.beat()
        code, details = await stream.ended()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "lease" in details
        after = await facts.session(stream.worker_id)
        assert after.lease_expires_at == ended.lease_expires_at


async def test_a_stream_that_is_silent_too_long_is_closed_and_its_worker_offline(site: Site, facts: Facts) -> None:
    async with site.gateway(WORKER_HEARTBEAT_TTL="1s") as gateway, worker(gateway.address) as stream:
        await stream.register()
        code, details = await stream.ended()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "1 s" in details

        async def is_offline() -> bool:
            session = await facts.session(stream.worker_id)
            return session.status == "offline" and session.closed_at is not None

        await eventually(is_offline, "the worker is offline")


async def test_a_session_silent_for_half_its_lease_is_assigned_nothing_until_it_is_heard(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    async with worker(gateway.address) as silent, worker(gateway.address) as stream:
        await silent.register(slots=100)
        heard_at = await facts.value("select now()")

        async def half_a_lease_is_over() -> bool:
            return bool(await facts.value("select now() - $1 > interval '1.6 s'", heard_at))

        await eventually(half_a_lease_is_over, "half a lease is over")
        await stream.register()
        for _ in range(3):
            job_id = await jobs.submit()
            assignment = await stream.assignment()
            assert assignment.job_id == job_id
            await stream.finish(assignment.execution_id)
        await stream.beat(pb.WORKER_STATUS_DRAINING)
        job_id = await jobs.submit()
        await silent.heartbeat()
        assert (await silent.assignment(patience_s=0.5)).job_id == job_id


# --- the lease that an ack names is the committed one -------------------------------------------------------------


async def test_an_ack_never_promises_more_than_is_committed(site: Site, facts: Facts) -> None:
    async with (
        proxy_to(host_and_port(site)) as proxy,
        behind(site, proxy.port).gateway(LEASE_DURATION="3s", WORKER_HEARTBEAT_TTL="60s") as gateway,
        worker(gateway.address) as stream,
    ):
        await stream.register()

        async def beat() -> timedelta:
            ack = await stream.beat()
            remaining = ack.lease_remaining.ToTimedelta()
            [row] = await facts.sql("select lease_expires_at - now() as committed from worker_sessions")
            assert remaining <= max(row["committed"], timedelta(0)) + timedelta(milliseconds=200)
            return remaining

        async def is_nearly_whole() -> bool:
            return await beat() > timedelta(seconds=2.5)

        async def is_over() -> bool:
            return await beat() == timedelta(0)

        await eventually(is_nearly_whole, "the lease is renewed")
        proxy.go_deaf()
        await eventually(is_over, "the lease runs down while the database is away", look_s=0.05)
        proxy.cut()
        proxy.hear_again()
        await eventually(is_nearly_whole, "the lease is renewed when the database is back", look_s=0.05)


# --- unclear claims -----------------------------------------------------------------------------------------------


class AnswerOfACommit:
    """True for the answer that says that something was committed: of the statement that returned it, or after that."""

    def __init__(self, returned: bytes, *, in_a_statement_of_its_own: bool) -> None:
        self._returned = returned
        self._tag = returned if in_a_statement_of_its_own else b"COMMIT"
        self._is_returned = False

    def __call__(self, data: bytes) -> bool:
        self._is_returned = self._is_returned or self._returned in data
        return self._is_returned and self._tag in data


@pytest.mark.parametrize("with_redis", [True, False])
async def test_a_claim_whose_answer_was_cut_is_returned_after_two_renewals_and_burns_nothing(
    site: Site, jobs: Client, facts: Facts, with_redis: bool
) -> None:
    if with_redis:
        await site.mark_ready_queues_complete()
    async with (
        proxy_to(host_and_port(site)) as proxy,
        behind(site, proxy.port).gateway() as gateway,
        worker(gateway.address) as stream,
    ):
        await stream.register("video", features=[BATCHING])
        proxy.cut_once_before(AnswerOfACommit(b"video.unclear", in_a_statement_of_its_own=with_redis))
        job_id = await jobs.submit("video.unclear")

        async def is_returned() -> bool:
            await stream.beat()
            return (await facts.executions(job_id))[0].end_reason == "returned"

        await eventually(is_returned, "the unclear claim is returned", look_s=0.1)
        assert proxy.cuts == 1
        assignment = await stream.assignment()
        first, second = await facts.executions(job_id)
        assert (first.attempt, first.delivery) == (1, 1)
        assert (second.attempt, second.delivery, second.counted_before) == (1, 2, 0)
        assert second.due_at == first.due_at
        assert (assignment.execution_id, assignment.attempt) == (second.execution_id, 1)
        assert (await stream.finish(assignment.execution_id)).outcome == ACCEPTED


async def test_a_claim_that_is_slow_is_not_taken_for_an_unclear_one(site: Site, jobs: Client, facts: Facts) -> None:
    """Committed, its answer still on its way, and renewals come and go meanwhile."""
    await site.mark_ready_queues_complete()
    async with (
        proxy_to(host_and_port(site)) as proxy,
        behind(site, proxy.port).gateway(LEASE_DURATION="2s", DATABASE_CONNECTIONS="4") as gateway,
        worker(gateway.address) as stream,
    ):
        await stream.register("video", features=[BATCHING])
        proxy.hold_once_before(lambda data: b"video.slow" in data)
        job_id = await jobs.submit("video.slow")
        await eventually(partial(is_claimed, facts, job_id), "the claim is committed")
        for _ in range(4):
            before = await facts.session(stream.worker_id)
            await stream.beat()
            await eventually(partial(is_renewed_since, facts, stream, before), "the lease is renewed")
        [execution] = await facts.executions(job_id)
        assert execution.state == "claimed"
        proxy.hear_again()
        assert (await stream.assignment()).execution_id == execution.execution_id
        assert (await stream.finish(execution.execution_id)).outcome == ACCEPTED


async def is_claimed(facts: Facts, job_id: str) -> bool:
    return (await facts.executions(job_id))[0].state == "claimed"


async def is_renewed_since(facts: Facts, stream: WorkerStream, before: Session) -> bool:
    return (await facts.session(stream.worker_id)).lease_expires_at > before.lease_expires_at


# --- races, held open ---------------------------------------------------------------------------------------------


async def test_a_renewal_that_waits_for_the_sessions_end_renews_nothing(
    scheduler: RunningRole, gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    """The reaper's update is under way when the heartbeat comes: the ending row decides, and there is one lease."""
    job_id = await jobs.submit(backoff_s=0)
    async with worker(gateway.address) as stream, worker(gateway.address) as other:
        await stream.register()
        first = await stream.assignment()
        before = await facts.session(stream.worker_id)
        async with facts.changing(
            "update worker_sessions set ended_at = now() where session_id = $1", before.session_id
        ):
            await stream.beat()
            await facts.blocked("renew_sessions")
        assert (await stream.ended())[0] is grpc.StatusCode.UNAVAILABLE
        after = await facts.session(stream.worker_id)
        assert (after.lease_expires_at, after.last_seen_at) == (before.lease_expires_at, before.last_seen_at)
        await other.register()
        second = await other.assignment()
        assert (second.job_id, second.attempt) == (job_id, 2)
        assert (await facts.execution(first.execution_id)).end_reason == "lease_lost"


async def test_a_reaper_that_meets_a_renewal_ends_nothing(site: Site, jobs: Client, facts: Facts) -> None:
    """The lease is over and its renewal not yet committed: the reaper passes by, and then finds a lease that holds."""
    await jobs.submit()
    async with site.gateway(WORKER_HEARTBEAT_TTL="60s") as gateway, worker(gateway.address) as stream:
        await stream.register()
        execution_id = (await stream.assignment()).execution_id
        session = await facts.session(stream.worker_id)
        await facts.sql("update worker_sessions set lease_expires_at = now() - interval '1 s'")
        async with (
            facts.changing(
                "update worker_sessions set lease_expires_at = now() + interval '30 s' where session_id = $1",
                session.session_id,
            ),
            site.scheduler(),
        ):
            await reaper_has_looked(facts)
            await reaper_has_looked(facts)
        async with site.scheduler():
            await reaper_has_looked(facts)
        assert (await facts.session(stream.worker_id)).ended_at is None
        assert (await facts.execution(execution_id)).state == "claimed"


async def reaper_has_looked(facts: Facts) -> None:
    """Waits until the reaper has ended a session that is over anyhow."""
    session_id = await facts.value(
        "insert into worker_sessions "
        "(session_id, worker_id, process_id, principal, gateway, peer, status, lease_expires_at, last_seen_at) "
        "values (gen_random_uuid(), 'bait', '', 'anonymous', 'none', 'none', 'ready', now() - interval '1 s', now()) "
        "returning session_id"
    )

    async def has_ended() -> datetime | None:
        ended: datetime | None = await facts.value(
            "select ended_at from worker_sessions where session_id = $1", session_id
        )
        return ended

    await eventually(has_ended, "the reaper has ended the bait")


async def test_a_session_that_somebody_keeps_locked_holds_up_no_others_renewal(
    gateway: RunningRole, facts: Facts
) -> None:
    async with worker(gateway.address) as locked, worker(gateway.address) as other:
        await locked.register()
        await other.register()
        session = await facts.session(locked.worker_id)
        async with facts.holding_session(session.session_id):
            for _ in range(3):
                before = await facts.session(other.worker_id)
                await locked.beat()
                await other.beat()
                await eventually(
                    partial(is_renewed_since, facts, other, before), "the other lease is renewed", patience_s=1.5
                )
        await locked.beat()
        await eventually(partial(is_renewed_since, facts, locked, session), "then the locked one is renewed too")


async def test_an_execution_that_somebody_keeps_locked_holds_up_no_renewal(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    """Its started notice waits; the lease does not, and the ack says so."""
    await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register(features=[STARTED])
        execution_id = (await stream.assignment()).execution_id
        async with facts.holding("select from executions where execution_id = $1 for update", uuid_of(execution_id)):
            await stream.send(started=pb.ExecutionsStarted(execution_ids=[execution_id]))
            for _ in range(3):
                before = await facts.session(stream.worker_id)
                await stream.beat()
                await eventually(partial(is_renewed_since, facts, stream, before), "the lease is renewed")

            async def is_acked() -> bool:
                return (await stream.beat()).lease_remaining.ToTimedelta() > timedelta(seconds=2.5)

            await eventually(is_acked, "the ack names the renewed lease")
            assert (await facts.execution(execution_id)).state == "claimed"

        async def is_running() -> bool:
            await stream.beat()
            return (await facts.execution(execution_id)).state == "running"

        await eventually(is_running, "the notice is written")


async def test_a_resume_and_the_reaper_never_both_have_an_execution(
    scheduler: RunningRole, gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    """The worker comes back at the moment its old session ends: resumed, or lost and told so."""
    await jobs.submit(backoff_s=0)
    async with worker(gateway.address, "mailer") as old, worker(gateway.address, "mailer") as new:
        await old.register(features=[RESUME], process_id="p")
        execution_id = (await old.assignment()).execution_id
        session = await facts.session("mailer")
        async with facts.changing(
            "update worker_sessions set ended_at = now() where session_id = $1", session.session_id
        ):
            await new.send(
                registration=pb.WorkerRegistration(
                    worker_id="mailer",
                    capabilities=["email"],
                    features=[RESUME],
                    process_id="p",
                    held_execution_ids=[execution_id],
                )
            )
            await facts.blocked("lock_open_sessions")
        ack = await new.ack()
        assert list(ack.lost_execution_ids) == [execution_id]
        assert (await new.assignment()).attempt == 2
        assert (await facts.execution(execution_id)).end_reason == "lease_lost"
        assert (await new.finish(execution_id)).outcome == STALE
