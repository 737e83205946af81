"""Workers and their tokens: who may connect as whom, and what happens when a token ends."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.roles import RunningRole, Site
from gateway.worker_stream import ACCEPTED, BATCHING, RESUME, UNKNOWN, WorkerStream, worker
from tokens_for_tests import AUTH, bearer, token

DENIED, UNAUTHENTICATED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
async def guarded(site: Site) -> AsyncIterator[RunningRole]:
    """A gateway that asks for tokens; the control-plane of these tests does not."""
    async with site.gateway(**AUTH) as running:
        yield running


async def refusal(stream: WorkerStream, worker_id: str = "mailer") -> tuple[grpc.StatusCode, str]:
    # The refusal may be there before anything was sent.
    with suppress(grpc.aio.AioRpcError):
        await stream.send(registration=pb.WorkerRegistration(worker_id=worker_id, capabilities=["email"]))
    return await stream.ended()


async def test_a_worker_connects_under_the_id_in_its_token(guarded: RunningRole, jobs: Client, facts: Facts) -> None:
    job_id = await jobs.submit()
    async with worker(guarded.address, "mailer", metadata=bearer("mailer", "worker")) as stream:
        await stream.register()
        assignment = await stream.assignment()
        assert (await stream.finish(assignment.execution_id)).outcome == ACCEPTED
        assert await facts.value("select principal from worker_sessions") == "mailer"
    assert (await jobs.job(job_id)).status == pb.JOB_STATUS_SUCCEEDED


@pytest.mark.parametrize(
    ("metadata", "code", "says"),
    [
        (None, UNAUTHENTICATED, "no token"),
        ((("authorization", "Bearer nonsense"),), UNAUTHENTICATED, "can't be read"),
        (bearer("mailer", "viewer", "submitter"), DENIED, "needs one of the roles"),
        (bearer("printer", "worker"), DENIED, "this token is for worker 'printer'"),
    ],
    ids=["no token", "no token at all", "another role", "another worker"],
)
async def test_who_may_not_be_this_worker_gets_no_session(
    guarded: RunningRole,
    facts: Facts,
    metadata: tuple[tuple[str, str], ...] | None,
    code: grpc.StatusCode,
    says: str,
) -> None:
    async with worker(guarded.address, metadata=metadata) as stream:
        found, details = await refusal(stream)
        assert found is code
        assert says in details
    assert not await facts.value("select count(*) from worker_sessions")


@pytest.mark.parametrize("first", ["heartbeat", "result"])
async def test_a_stream_that_begins_without_a_registration_is_checked_all_the_same(
    guarded: RunningRole, jobs: Client, first: str
) -> None:
    """The registry knows the worker; this token is another's."""
    await jobs.submit()
    async with worker(guarded.address, "mailer", metadata=bearer("mailer", "worker")) as stream:
        await stream.register()
        execution_id = (await stream.assignment()).execution_id
        async with worker(guarded.address, "printer", metadata=bearer("printer", "worker")) as thief:
            if first == "heartbeat":
                await thief.heartbeat(worker_id="mailer")
            else:
                await thief.result(execution_id)
            code, details = await thief.ended()
            assert code is DENIED
            assert "'printer'" in details
        assert (await stream.finish(execution_id)).outcome == ACCEPTED


async def test_no_worker_reports_for_another(guarded: RunningRole, jobs: Client, facts: Facts) -> None:
    await jobs.submit()
    async with (
        worker(guarded.address, "mailer", metadata=bearer("mailer", "worker")) as stream,
        worker(guarded.address, "printer", metadata=bearer("printer", "worker")) as thief,
    ):
        await stream.register()
        execution_id = (await stream.assignment()).execution_id
        await thief.register("print")
        assert (await thief.finish(execution_id, payload=b"stolen")).outcome == UNKNOWN
        await thief.give_back(execution_id)
        assert (await facts.execution(execution_id)).state == "claimed"
        assert (await stream.finish(execution_id)).outcome == ACCEPTED


async def test_a_result_of_another_principals_session_is_not_taken(
    site: Site, guarded: RunningRole, jobs: Client, facts: Facts
) -> None:
    """Two tokens of services may register the same id; what one holds the other can't end."""
    await jobs.submit()
    async with (
        worker(guarded.address, "shared", metadata=bearer("team-a", "service")) as first,
        worker(guarded.address, "shared", metadata=bearer("team-b", "service")) as second,
    ):
        await first.register()
        execution_id = (await first.assignment()).execution_id
        await second.register()
        assert (await second.finish(execution_id)).outcome == UNKNOWN
    assert (await facts.execution(execution_id)).state == "claimed"


async def test_a_stream_ends_with_its_token_and_the_worker_comes_back_with_a_new_one(
    guarded: RunningRole, jobs: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatchd.adapters.tokens.LEEWAY", timedelta(0))
    job_id = await jobs.submit()
    # A token ends with a whole second: this one lives for at least two, in which an assignment has to arrive.
    brief = bearer("mailer", "worker", lifetime=timedelta(seconds=3))
    async with worker(guarded.address, "mailer", metadata=brief) as stream:
        await stream.register(features=(RESUME, BATCHING), process_id="p")
        execution_id = (await stream.assignment()).execution_id
        code, details = await stream.ended()
        assert code is UNAUTHENTICATED
        assert "connect again with a new one" in details
        status = status_pb2.Status.FromString((await stream.trailers())["grpc-status-details-bin"])
        hint = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(hint)
        assert hint.retry_delay.ToTimedelta() == timedelta(0)
    async with worker(guarded.address, "mailer", metadata=brief) as late:
        assert (await refusal(late))[0] is UNAUTHENTICATED
    async with worker(guarded.address, "mailer", metadata=bearer("mailer", "worker")) as again:
        await again.register(features=(RESUME, BATCHING), process_id="p", held=[execution_id])
        assert (await again.finish(execution_id)).outcome == ACCEPTED
    assert (await jobs.job(job_id)).attempts == 1


async def test_a_claim_of_the_worker_id_binds_too(guarded: RunningRole) -> None:
    sent = token("mailer", "worker", worker_id="mailer-2")
    async with worker(guarded.address, metadata=(("authorization", f"Bearer {sent}"),)) as stream:
        assert (await refusal(stream))[0] is DENIED


async def test_a_principal_has_no_more_streams_than_it_may(site: Site, jobs: Client) -> None:
    fleet = bearer("fleet", "service")
    async with (
        site.gateway(STREAMS_PER_PRINCIPAL="2", **AUTH) as gateway,
        worker(gateway.address, "one", metadata=fleet) as one,
        worker(gateway.address, "two", metadata=fleet) as two,
        worker(gateway.address, "other", metadata=bearer("other", "worker")) as other,
    ):
        await one.register()
        await two.register()
        async with worker(gateway.address, "three", metadata=fleet) as three:
            code, details = await refusal(three, "three")
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "'fleet' has 2 streams" in details
        await other.register()
        one.cancel()
        await one.ended()

        async def takes_one_more() -> bool:
            async with worker(gateway.address, "three", metadata=fleet) as three:
                await three.send(registration=pb.WorkerRegistration(worker_id="three", capabilities=["email"]))
                try:
                    return bool((await three.ack()).worker_id)
                except AssertionError:
                    return False

        await eventually(takes_one_more, "the stream that ended has made room")


async def test_who_registers_again_and_again_is_refused_with_the_time_to_try_again(site: Site) -> None:
    """However few streams it has at once; others are not its business."""
    fleet = bearer("fleet", "service")
    async with site.gateway(REGISTRATIONS_PER_MINUTE="3", **AUTH) as gateway:
        for number in range(3):
            async with worker(gateway.address, f"fleet-{number}", metadata=fleet) as stream:
                await stream.register()
        async with worker(gateway.address, metadata=fleet) as stream:
            code, details = await refusal(stream)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "'fleet' has registered more than 3 times in a minute" in details
            status = status_pb2.Status.FromString((await stream.trailers())["grpc-status-details-bin"])
            assert status.details[0].Is(error_details_pb2.RetryInfo.DESCRIPTOR)
        async with worker(gateway.address, "other", metadata=bearer("other", "worker")) as stream:
            await stream.register()


async def test_streams_of_the_same_age_are_not_told_to_go_at_the_same_moment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = iter([1_000.0, 0.001])
    asked: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        asked.append((least, most))
        return next(shares)

    async with site.gateway(CONNECTION_AGE="10s") as gateway:
        monkeypatch.setattr("dispatchd.adapters.grpc.worker_service.random.uniform", uniform)
        async with worker(gateway.address) as later, worker(gateway.address) as sooner:
            await later.register(features=(RESUME, BATCHING), process_id="p")
            await sooner.register(features=(RESUME, BATCHING), process_id="p")
            assert (await sooner.drain_signal()).kind == pb.DRAIN_KIND_RECONNECT
            await later.beat()
            assert not any(message.HasField("drain_signal") for message in later.order)
    assert asked == [(0.9, 1.1)] * 2


async def test_an_old_connection_is_told_to_go_and_burns_nothing(site: Site, jobs: Client) -> None:
    job_id = await jobs.submit()
    async with (
        site.gateway(CONNECTION_AGE="1s") as gateway,
        worker(gateway.address, "mailer") as old,
        worker(gateway.address, "plain") as plain,
    ):
        await old.register(features=(RESUME, BATCHING), process_id="p")
        execution_id = (await old.assignment()).execution_id
        await plain.register("print")
        assert (await old.drain_signal()).kind == pb.DRAIN_KIND_RECONNECT
        async with worker(gateway.address, "mailer") as young:
            await young.register(features=(RESUME, BATCHING), process_id="p", held=[execution_id])
            assert (await young.finish(execution_id)).outcome == ACCEPTED
        # Who can't resume is left alone.
        printed = await jobs.submit("print")
        assert (await plain.assignment()).job_id == printed
    assert (await jobs.job(job_id)).attempts == 1


async def test_too_many_headers_are_refused_and_too_large_ones_too(guarded: RunningRole) -> None:
    token_of = bearer("mailer", "worker")
    many = (*token_of, *((f"x-{number}", "1") for number in range(101)))
    async with worker(guarded.address, metadata=many) as stream:
        code, details = await refusal(stream)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "a call may have 100 headers" in details
    async with worker(guarded.address, metadata=(*token_of, ("x-large", "a" * 20_000))) as stream:
        assert (await refusal(stream))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
