"""What a worker reports: taken once, by who holds the execution, kept through an outage, and never refused for size."""

import asyncio
import json
import time
from datetime import timedelta
from functools import partial

import pytest

from dispatchd.application import announcer, wait_job
from dispatchd.telemetry import metrics
from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client, client
from gateway.facts import Execution, Facts, eventually, uuid_of
from gateway.outage import behind, host_and_port
from gateway.roles import RunningRole, Site
from gateway.worker_stream import ACCEPTED, BATCHING, STALE, UNKNOWN, WorkerStream, worker
from tcp_proxy import proxy_to

NOBODYS = "exec_00000000000070008000000000000000"
KIB, MIB = 1024, 1024 * 1024


async def take(stream: WorkerStream, *capabilities: str, slots: int = 1) -> str:
    """Registers and takes one execution; its id."""
    await stream.register(*capabilities, slots=slots)
    return (await stream.assignment()).execution_id


# --- what is kept -------------------------------------------------------------------------------------------------


async def test_a_success_ends_the_job_and_keeps_result_and_metadata(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        execution_id = await take(stream)
        result = bytes(range(256))
        ack = await stream.finish(execution_id, payload=result, metadata={"rows": "12", "ünïcode": "✓"})
    assert (ack.execution_id, ack.worker_id, ack.outcome) == (execution_id, stream.worker_id, ACCEPTED)
    job = await jobs.job(job_id)
    assert (job.status, job.result, job.attempts, job.last_error) == (pb.JOB_STATUS_SUCCEEDED, result, 1, "")
    [execution] = await jobs.executions(job_id)
    assert execution.status == pb.EXECUTION_STATUS_SUCCEEDED
    assert execution.end_reason == pb.EXECUTION_END_REASON_SUCCEEDED
    assert execution.metadata == {"rows": "12", "ünïcode": "✓"}
    assert execution.worker_id == stream.worker_id
    assert execution.started_at == execution.claimed_at, "it never said that it had begun"
    assert (await facts.execution(execution_id)).worker_id == stream.worker_id


async def test_a_waiter_is_woken_by_the_gateway_that_has_heard_of_him(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway's first seconds, in which it tells every end, are over; nothing else would wake the waiter."""
    heard: list[float] = []
    monkeypatch.setattr(wait_job, "LOOK_EVERY", timedelta(hours=1))
    monkeypatch.setattr(announcer, "SOMEBODY_WAITS", timedelta(0))
    hear = announcer.Announcer.heard_that_somebody_waits

    def hear_and_note(self: announcer.Announcer) -> None:
        heard.append(time.monotonic())
        hear(self)

    async def has_heard(times: int) -> bool:
        return len(heard) == times

    monkeypatch.setattr(announcer.Announcer, "heard_that_somebody_waits", hear_and_note)
    async with site.control_plane() as plane, client(plane.address) as jobs, site.gateway() as gateway:
        await eventually(partial(has_heard, 1), "the gateway has subscribed")
        monkeypatch.setattr(announcer, "SOMEBODY_WAITS", timedelta(hours=1))
        job_id = await jobs.submit()
        async with worker(gateway.address) as stream:
            execution_id = await take(stream)
            waiting = asyncio.ensure_future(jobs.wait(job_id))
            await eventually(partial(has_heard, 2), "the gateway has heard of the waiter")
            await stream.finish(execution_id)
            assert (await asyncio.wait_for(waiting, 10)).status == pb.JOB_STATUS_SUCCEEDED


async def test_a_failure_is_tried_again_after_the_policys_backoff(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_id = await jobs.submit(backoff_s=100)
    async with worker(gateway.address) as stream:
        execution_id = await take(stream)
        ack = await stream.finish(
            execution_id, success=False, error_message="it rained", error_type="Weather", metadata={"mm": "3"}
        )
    assert ack.outcome == ACCEPTED
    job = await jobs.job(job_id)
    assert (job.status, job.attempts, job.last_error) == (pb.JOB_STATUS_PENDING, 1, "it rained")
    [failed, waiting] = await facts.executions(job_id)
    assert (failed.state, failed.end_reason, failed.error_type) == ("failed", "failed", "Weather")
    assert json.loads(failed.result_metadata or "") == {"mm": "3"}
    assert (waiting.state, waiting.attempt) == ("waiting", 2)
    assert backoff_of(failed, waiting) == pytest.approx(100, rel=0.21)


def backoff_of(failed: Execution, following: Execution) -> float:
    assert failed.finished_at is not None
    return (following.due_at - failed.finished_at).total_seconds()


async def test_the_last_attempt_and_do_not_retry_are_dead_letters(gateway: RunningRole, jobs: Client) -> None:
    last, final = await jobs.submit(max_attempts=1), await jobs.submit()
    async with worker(gateway.address) as stream:
        first = await take(stream, slots=2)
        second = (await stream.assignment()).execution_id
        await stream.finish(first, success=False, error_message="once is enough")
        await stream.finish(second, success=False, do_not_retry=True)
    for job_id, error in [(last, "once is enough"), (final, "the worker reported a failure without a message")]:
        job = await jobs.job(job_id)
        assert (job.status, job.last_error) == (pb.JOB_STATUS_FAILED, error)
        [execution] = await jobs.executions(job_id)
        assert execution.status == pb.EXECUTION_STATUS_DEAD_LETTERED
        assert execution.end_reason == pb.EXECUTION_END_REASON_FAILED


@pytest.mark.parametrize(
    ("retry_after", "expected_s"),
    [
        (timedelta(seconds=1234.5), 1234.5),
        (timedelta(days=8), 7 * 86_400.0),
        (timedelta(days=3_000_000), 7 * 86_400.0),
        (timedelta(0), 0.0),
        (timedelta(seconds=-5), 0.0),
    ],
)
async def test_retry_after_replaces_the_backoff_within_its_bounds(
    gateway: RunningRole, jobs: Client, facts: Facts, retry_after: timedelta, expected_s: float
) -> None:
    job_id = await jobs.submit(backoff_s=100)
    result = pb.TaskResult(error_message="later")
    result.retry_after.FromTimedelta(retry_after)
    async with worker(gateway.address) as stream:
        result.execution_id = await take(stream)
        await stream.beat(pb.WORKER_STATUS_DRAINING)
        await stream.send(result=result)
        await stream.ack()
        failed, following = await facts.executions(job_id)
    assert backoff_of(failed, following) == pytest.approx(expected_s, abs=0.001)
    assert following.attempt == 2, "it counts as an attempt"


async def test_a_result_that_is_too_large_fails_for_good_and_says_what_to_do(
    gateway: RunningRole, jobs: Client
) -> None:
    fits, too_large = await jobs.submit_many(2)
    async with worker(gateway.address) as stream:
        first = await take(stream, slots=2)
        second = (await stream.assignment()).execution_id
        assert (await stream.finish(first, payload=b"x" * MIB)).outcome == ACCEPTED
        assert (await stream.finish(second, payload=b"x" * (MIB + 1))).outcome == ACCEPTED
        assert (await stream.finish(second, payload=b"x" * (MIB + 1))).outcome == ACCEPTED, "a repeat is a repeat"
    assert len((await jobs.job(fits)).result) == MIB
    job = await jobs.job(too_large)
    assert job.status == pb.JOB_STATUS_FAILED
    assert "store it and return a link" in job.last_error


async def test_a_workers_texts_are_cut_and_cleaned_not_refused(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        execution_id = await take(stream)
        ack = await stream.finish(
            execution_id,
            success=False,
            error_message="a\0b" + "€" * 20_000,
            error_type="T\0" * 300,
            metadata={f"{n:03}": "v\0" for n in range(100)} | {"000": "x" * 20_000},
        )
        assert ack.outcome == ACCEPTED
    execution = (await facts.executions(job_id))[0]
    assert execution.error_message is not None
    assert execution.error_message.startswith("a\ufffdb€")
    assert 16 * KIB - 4 < len(execution.error_message.encode()) <= 16 * KIB
    assert execution.error_type is not None
    assert len(execution.error_type.encode()) <= 200
    metadata = json.loads(execution.result_metadata or "{}")
    assert len(metadata) <= 64
    assert len(execution.result_metadata or "") < 20 * KIB


# --- who may report, and how often --------------------------------------------------------------------------------


async def test_a_repeat_is_accepted_without_a_write_and_a_contradiction_is_stale(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    succeeded, failed = await jobs.submit_many(2)
    async with worker(gateway.address) as stream:
        first = await take(stream, slots=2)
        second = (await stream.assignment()).execution_id
        await stream.finish(first, payload=b"the first word")
        await stream.finish(second, success=False, error_message="the first word", do_not_retry=True)
        before = await versions(facts)
        for execution_id, success, outcome in [
            (first, True, ACCEPTED),
            (first, False, STALE),
            (second, False, ACCEPTED),
            (second, True, STALE),
        ]:
            ack = await stream.finish(execution_id, success=success, payload=b"again", error_message="again")
            assert (ack.execution_id, ack.outcome) == (execution_id, outcome)
        await stream.give_back(first, second)
        assert [(await stream.ack()).outcome for _ in range(2)] == [STALE, STALE]
        assert await versions(facts) == before
    assert (await jobs.job(succeeded)).result == b"the first word"
    assert (await jobs.job(failed)).last_error == "the first word"


async def versions(facts: Facts) -> list[tuple[int, int]]:
    rows = await facts.sql(
        "select e.xmin::text::bigint as e, j.xmin::text::bigint as j from executions e join jobs j using (job_id) "
        "order by execution_id"
    )
    return [(row["e"], row["j"]) for row in rows]


async def test_two_words_about_one_execution_in_one_message_count_once(gateway: RunningRole, jobs: Client) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        execution_id = await take(stream)
        words = [True, True, False]
        results = [pb.TaskResult(execution_id=execution_id, success=success) for success in words]
        await stream.send(results=pb.TaskResults(results=results))
        assert [(await stream.ack()).outcome for _ in words] == [ACCEPTED, ACCEPTED, STALE]
    assert (await jobs.job(job_id)).status == pb.JOB_STATUS_SUCCEEDED


async def test_nobody_reports_for_another_worker(gateway: RunningRole, jobs: Client, facts: Facts) -> None:
    await jobs.submit()
    async with worker(gateway.address) as holder, worker(gateway.address) as stranger:
        execution_id = await take(holder)
        await stranger.register("nothing")
        assert (await stranger.finish(execution_id)).outcome == UNKNOWN
        await stranger.give_back(execution_id)
        assert (await stranger.ack()).outcome == UNKNOWN
        assert (await facts.execution(execution_id)).state == "claimed"
        assert (await holder.finish(execution_id)).outcome == ACCEPTED
        assert (await stranger.finish(execution_id)).outcome == UNKNOWN


async def test_what_was_never_assigned_is_unknown(gateway: RunningRole, jobs: Client, facts: Facts) -> None:
    [waiting] = await facts.executions(await jobs.submit("other"))
    async with worker(gateway.address) as stream:
        await stream.register()
        for text in (NOBODYS, waiting.execution_id, "", "no id", "exec_" + "F" * 32, "job_" + "0" * 32, "x" * 10_000):
            ack = await stream.finish(text)
            assert (ack.execution_id, ack.outcome) == (text[:64], UNKNOWN)
    assert (await facts.execution(waiting.execution_id)).state == "queued"


async def test_a_list_of_results_has_an_ack_for_each(gateway: RunningRole, jobs: Client) -> None:
    job_ids = await jobs.submit_many(3)
    async with worker(gateway.address) as stream:
        await stream.register(slots=3, features=[BATCHING])
        held = [assignment.execution_id for assignment in await stream.assignments(3)]
        results = [
            pb.TaskResult(execution_id=held[0], success=True),
            pb.TaskResult(execution_id=held[1], error_message="no"),
            pb.TaskResult(execution_id=NOBODYS, success=True),
            pb.TaskResult(execution_id="no id"),
        ]
        await stream.send(results=pb.TaskResults(results=results))
        acks = [await stream.ack() for _ in results]
        assert {ack.execution_id: ack.outcome for ack in acks} == {
            held[0]: ACCEPTED,
            held[1]: ACCEPTED,
            NOBODYS: UNKNOWN,
            "no id": UNKNOWN,
        }
    statuses = [(await jobs.job(job_id)).status for job_id in job_ids]
    assert statuses == [pb.JOB_STATUS_SUCCEEDED, pb.JOB_STATUS_PENDING, pb.JOB_STATUS_DISPATCHING]


async def test_results_of_an_earlier_session_of_the_worker_count(
    site: Site, gateway: RunningRole, jobs: Client
) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address, "mailer") as old:
        execution_id = await take(old)
    async with (
        site.gateway(INSTANCE_ID="gateway-2") as other_gateway,
        worker(other_gateway.address, "mailer") as new,
    ):
        await new.register()
        assert (await new.finish(execution_id)).outcome == ACCEPTED
    assert (await jobs.job(job_id)).status == pb.JOB_STATUS_SUCCEEDED


async def test_a_result_for_a_canceled_job_is_stale(gateway: RunningRole, jobs: Client) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        execution_id = await take(stream)
        await jobs.cancel(job_id)
        assert (await stream.finish(execution_id)).outcome == STALE
        assert (await stream.finish(execution_id)).outcome == STALE
    assert (await jobs.job(job_id)).status == pb.JOB_STATUS_CANCELED


# --- the database is away, or refuses -----------------------------------------------------------------------------


async def test_results_are_held_through_an_outage_and_saved_after_it(site: Site, jobs: Client) -> None:
    job_ids = await jobs.submit_many(30)
    async with (
        proxy_to(host_and_port(site)) as proxy,
        behind(site, proxy.port).gateway(LEASE_DURATION="3s") as gateway,
        worker(gateway.address) as stream,
    ):
        await stream.register(slots=30, features=[BATCHING])
        held = await stream.assignments(30)
        proxy.go_deaf()
        for assignment in held:
            await stream.result(assignment.execution_id, payload=b"done")

        async def lease_shrinks() -> bool:
            return (await stream.beat()).lease_remaining.ToTimedelta() < timedelta(seconds=1)

        await eventually(lease_shrinks, "the committed lease runs down", look_s=0.1)
        proxy.cut()
        proxy.hear_again()
        outcomes = [(await stream.ack()).outcome for _ in held]
        assert set(outcomes) == {ACCEPTED}
    assert {(await jobs.job(job_id)).result for job_id in job_ids} == {b"done"}


async def test_the_bytes_held_through_an_outage_are_bounded(site: Site, jobs: Client) -> None:
    """At the bound the streams that report are not read; others are, and everything is saved in the end."""
    job_ids = await jobs.submit_many(16)
    most = 0.0
    async with (
        proxy_to(host_and_port(site)) as proxy,
        behind(site, proxy.port).gateway(RESULT_QUEUE_BYTES=str(4 * MIB), WORKER_HEARTBEAT_TTL="60s") as gateway,
        worker(gateway.address) as stream,
        worker(gateway.address) as other,
    ):
        await other.register("nothing")
        await stream.register(slots=16, features=[BATCHING])
        held = await stream.assignments(16)
        proxy.go_deaf()
        sending = asyncio.create_task(send_large(stream, [a.execution_id for a in held]))

        async def is_at_the_bound() -> bool:
            nonlocal most
            await other.beat()
            most = max(most, metrics.REGISTRY.get_sample_value("dispatchd_results_held_bytes") or 0)
            return most > 2 * MIB

        await eventually(is_at_the_bound, "results are held")
        for _ in range(50):
            await is_at_the_bound()
        proxy.cut()
        proxy.hear_again()
        acks = [await stream.ack() for _ in held]
        await sending
        assert {ack.outcome for ack in acks} == {ACCEPTED}
        assert most <= 4 * MIB
        await eventually(partial(nothing_is_held), "nothing is held any more")
    assert {len((await jobs.job(job_id)).result) for job_id in job_ids} == {MIB - KIB}


async def send_large(stream: WorkerStream, execution_ids: list[str]) -> None:
    for execution_id in execution_ids:
        await stream.result(execution_id, payload=b"x" * (MIB - KIB))


async def nothing_is_held() -> bool:
    return metrics.REGISTRY.get_sample_value("dispatchd_results_held_bytes") == 0


async def test_one_result_that_the_database_refuses_holds_up_no_other(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_ids = await jobs.submit_many(50)
    await facts.refuse_state(job_ids[17], "succeeded")
    async with worker(gateway.address) as stream:
        await stream.register(slots=50, features=[BATCHING])
        assigned = {a.execution_id: a.job_id for a in await stream.assignments(50)}
        results = [pb.TaskResult(execution_id=execution_id, success=True) for execution_id in assigned]
        await stream.send(results=pb.TaskResults(results=results))
        acks = [await stream.ack() for _ in results]
    refused = [ack for ack in acks if ack.outcome != ACCEPTED]
    assert [(assigned[ack.execution_id], ack.outcome) for ack in refused] == [(job_ids[17], STALE)]
    assert refused[0].message
    succeeded = await facts.value("select count(*) from jobs where state = 'succeeded'")
    assert succeeded == 49


async def test_one_job_that_somebody_keeps_locked_holds_up_no_other_workers_results(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    async with worker(gateway.address) as unlucky, worker(gateway.address) as other:
        locked = await jobs.submit()
        execution_id = await take(unlucky)
        await other.register("sms", slots=100)
        async with facts.holding("select from jobs where job_id = $1 for update", uuid_of(locked)):
            await unlucky.result(execution_id)
            for _ in range(5):
                # On a slow machine the rounds together take longer than a stream may be silent.
                await unlucky.heartbeat()
                await other.beat()
                await jobs.submit_many(100, "sms")
                held = await other.assignments(100)
                for assignment in held:
                    await other.result(assignment.execution_id)
                for _ in held:
                    assert (await other.ack(5.0)).outcome == ACCEPTED
            assert not unlucky.has_ack
        assert (await unlucky.ack()).outcome == ACCEPTED
