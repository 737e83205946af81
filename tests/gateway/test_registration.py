"""How a stream begins, and what a worker may say of itself later."""

import asyncio
import itertools
from contextlib import AsyncExitStack

import grpc
import pytest

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.roles import RunningRole, Site
from gateway.worker_stream import RESUME, UNKNOWN, worker


async def test_a_registration_is_acked_before_anything_is_assigned(gateway: RunningRole, jobs: Client) -> None:
    waiting = await jobs.submit_many(3)
    async with worker(gateway.address) as stream:
        ack = await stream.register("email", slots=3)
        await stream.assignments(3)
    assert ack.worker_id == stream.worker_id
    assert ack.execution_id == ""
    assert 2.0 < ack.lease_remaining.ToTimedelta().total_seconds() <= 3.0
    assert [message.WhichOneof("payload") for message in stream.order] == ["ack", *["assignment"] * 3]
    assert [m.assignment.job_id for m in stream.order[1:]] == waiting


@pytest.mark.parametrize("capability", ["email", "email.send.fast"])
async def test_a_dotted_capability_means_its_first_part(gateway: RunningRole, jobs: Client, capability: str) -> None:
    job_id = await jobs.submit("email.receive")
    async with worker(gateway.address) as stream:
        await stream.register(capability)
        assert (await stream.assignment()).job_id == job_id


async def test_a_job_type_without_a_dot_is_its_own_capability(gateway: RunningRole, jobs: Client) -> None:
    job_id = await jobs.submit("email")
    async with worker(gateway.address) as stream:
        await stream.register("email.send")
        assert (await stream.assignment()).job_id == job_id


@pytest.mark.parametrize("slots", [-2_147_483_648, 0])
async def test_no_slots_mean_one(gateway: RunningRole, jobs: Client, slots: int) -> None:
    await jobs.submit_many(2)
    async with worker(gateway.address) as stream:
        await stream.register("email", slots=slots)
        first = await stream.assignment()
        # Its ack comes only after anything that was assigned before it.
        await stream.beat()
        assert not stream.has_assignment
        await stream.finish(first.execution_id)
        await stream.assignment()


async def test_a_worker_in_the_registry_goes_on_with_a_heartbeat(gateway: RunningRole, jobs: Client) -> None:
    async with worker(gateway.address, "mailer") as before:
        await before.register("email", slots=2, labels={"zone": "a"})
    await jobs.submit_many(3)
    async with worker(gateway.address, "mailer") as stream:
        ack = await stream.beat()
        assert (ack.worker_id, ack.execution_id) == ("mailer", "")
        await stream.assignments(2)
        await stream.beat()
        assert not stream.has_assignment


async def test_a_worker_in_the_registry_goes_on_with_a_result(gateway: RunningRole, jobs: Client) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address, "mailer") as before:
        await before.register("email")
        execution_id = (await before.assignment()).execution_id
    async with worker(gateway.address, "mailer") as stream:
        ack = await stream.finish(execution_id)
        assert (ack.execution_id, ack.worker_id, ack.outcome) == (execution_id, "mailer", pb.ACK_OUTCOME_ACCEPTED)
        assert (await jobs.job(job_id)).status == pb.JOB_STATUS_SUCCEEDED
        following = await jobs.submit()
        assert (await stream.assignment()).job_id == following


async def test_a_stream_that_goes_on_with_a_list_of_results_is_the_first_ones_worker(
    gateway: RunningRole, jobs: Client
) -> None:
    await jobs.submit()
    async with worker(gateway.address, "mailer") as before:
        await before.register("email")
        execution_id = (await before.assignment()).execution_id
    async with worker(gateway.address) as stream:
        results = [pb.TaskResult(execution_id=execution_id, success=True), pb.TaskResult(execution_id="exec_none")]
        await stream.send(results=pb.TaskResults(results=results))
        assert [(await stream.ack()).worker_id, (await stream.ack()).outcome] == ["mailer", UNKNOWN]


NOBODYS = "exec_00000000000070008000000000000000"


BEGINNINGS = [
    pb.ConnectRequest(heartbeat=pb.WorkerHeartbeat(worker_id="never-registered")),
    pb.ConnectRequest(heartbeat=pb.WorkerHeartbeat()),
    pb.ConnectRequest(result=pb.TaskResult(execution_id=NOBODYS, success=True)),
    pb.ConnectRequest(result=pb.TaskResult(execution_id="no id")),
    pb.ConnectRequest(result=pb.TaskResult()),
    pb.ConnectRequest(results=pb.TaskResults()),
    pb.ConnectRequest(give_back=pb.GiveBack(execution_ids=[NOBODYS])),
    pb.ConnectRequest(log_chunk=pb.TaskLogChunk(execution_id=NOBODYS, message="hello")),
    pb.ConnectRequest(started=pb.ExecutionsStarted(execution_ids=[NOBODYS])),
    pb.ConnectRequest(),
]


async def test_any_other_beginning_ends_the_stream(gateway: RunningRole) -> None:
    for first in BEGINNINGS:
        async with worker(gateway.address) as stream:
            await stream.send_bytes(first.SerializeToString())
            code, details = await stream.ended()
            assert code is grpc.StatusCode.FAILED_PRECONDITION, f"{first}: {code.name} {details}"
            assert details.startswith("register first"), f"{first}: {details}"


async def test_an_execution_that_still_waits_names_no_worker(gateway: RunningRole, jobs: Client, facts: Facts) -> None:
    [execution] = await facts.executions(await jobs.submit())
    async with worker(gateway.address) as stream:
        await stream.result(execution.execution_id)
        assert (await stream.ended())[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert (await facts.execution(execution.execution_id)).state == "queued"


async def test_a_stream_that_is_closed_without_a_word_ends_ok(gateway: RunningRole) -> None:
    async with worker(gateway.address) as stream:
        await stream.done_writing()
        assert (await stream.ended())[0] is grpc.StatusCode.OK


REFUSED = [
    (pb.WorkerRegistration(capabilities=["email"]), "worker_id"),
    (pb.WorkerRegistration(worker_id="w" * 201, capabilities=["email"]), "worker_id"),
    (pb.WorkerRegistration(worker_id="w\0", capabilities=["email"]), "worker_id"),
    (pb.WorkerRegistration(worker_id="w"), "capabilities"),
    (pb.WorkerRegistration(worker_id="w", capabilities=[""]), "capabilities"),
    (pb.WorkerRegistration(worker_id="w", capabilities=[".send"]), "capabilities"),
    (pb.WorkerRegistration(worker_id="w", capabilities=["e mail"]), "capabilities"),
    (pb.WorkerRegistration(worker_id="w", capabilities=["ready\n"]), "capabilities"),
    (pb.WorkerRegistration(worker_id="w", capabilities=["c" * 201]), "capabilities"),
    (pb.WorkerRegistration(worker_id="w", capabilities=[f"c{n}" for n in range(65)]), "capabilities"),
    (pb.WorkerRegistration(worker_id="w", capabilities=["email"], labels={"zone": "a\0"}), "labels"),
    (pb.WorkerRegistration(worker_id="w", capabilities=["email"], labels={str(n): "" for n in range(65)}), "labels"),
    (pb.WorkerRegistration(worker_id="w", capabilities=["email"], labels={"zone": "a" * 16_384}), "labels"),
    (pb.WorkerRegistration(worker_id="w", capabilities=["email"], features=[RESUME]), "process_id"),
    (pb.WorkerRegistration(worker_id="w", capabilities=["email"], process_id="p" * 201), "process_id"),
    (
        pb.WorkerRegistration(worker_id="w", capabilities=["email"], held_execution_ids=[NOBODYS] * 10_001),
        "held_execution_ids",
    ),
]


async def test_a_registration_that_breaks_a_rule_is_refused_by_name(gateway: RunningRole, facts: Facts) -> None:
    for registration, field in REFUSED:
        async with worker(gateway.address) as stream:
            await stream.send(registration=registration)
            code, details = await stream.ended()
            assert code is grpc.StatusCode.INVALID_ARGUMENT, f"{registration}: {code.name} {details}"
            assert details.startswith(f"{field}: "), f"{registration}: {details}"
    assert await facts.value("select count(*) from workers") == 0


async def test_registrations_that_wait_count_as_streams_already(site: Site, facts: Facts) -> None:
    """Many that come at once, while the database is slow, can't pass the bound together."""
    async with site.gateway(SESSIONS_LIMIT="2") as gateway, AsyncExitStack() as crowd:
        streams = [await crowd.enter_async_context(worker(gateway.address)) for _ in range(5)]
        async with facts.holding("lock table workers in access exclusive mode"):
            for stream in streams:
                await stream.send(registration=pb.WorkerRegistration(worker_id=stream.worker_id, capabilities=["a"]))
            await facts.blocked("upsert_worker")
            ends = [asyncio.create_task(stream.ended()) for stream in streams]
            refused = [await first for first in itertools.islice(asyncio.as_completed(ends), 3)]
        assert {code for code, _ in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert all(details.startswith("this worker-gateway has 2 streams already") for _, details in refused)
        let_in = [stream for stream in streams if not stream.has_ended]
        for stream in let_in:
            assert (await stream.ack()).worker_id == stream.worker_id
        assert len(let_in) == 2
        let_in[0].cancel()

        async def there_is_room() -> bool:
            async with worker(gateway.address) as another:
                await another.send(registration=pb.WorkerRegistration(worker_id="w", capabilities=["a"]))
                try:
                    return bool((await another.ack()).worker_id)
                except AssertionError:
                    return False

        await eventually(there_is_room, "the stream that ended has made room")
    await asyncio.gather(*ends)


async def test_a_later_registration_changes_capabilities_labels_and_slots(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    await jobs.submit_many(2, "video.cut")
    [image] = await jobs.submit_many(1, "image.crop")
    async with worker(gateway.address) as stream:
        await stream.register("image")
        assert (await stream.assignment()).job_id == image
        ack = await stream.register("video.cut", slots=3, labels={"zone": "b"})
        assert (ack.worker_id, ack.execution_id) == (stream.worker_id, "")
        await stream.assignments(2)
        [row] = await facts.sql("select capabilities, slots, labels::text from workers")
        assert (row["capabilities"], row["slots"], row["labels"]) == (["video"], 3, '{"zone": "b"}')
        await jobs.submit_many(2, "video.cut")
        await stream.beat()
        assert not stream.has_assignment, "the first execution still fills a slot"


async def test_one_stream_is_one_worker(gateway: RunningRole) -> None:
    async with worker(gateway.address) as stream:
        await stream.register()
        await stream.send(registration=pb.WorkerRegistration(worker_id="another", capabilities=["email"]))
        code, details = await stream.ended()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert stream.worker_id in details
    async with worker(gateway.address) as stream:
        await stream.register()
        await stream.heartbeat(worker_id="another")
        assert (await stream.ended())[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_heartbeat_without_a_worker_id_is_the_streams(gateway: RunningRole) -> None:
    async with worker(gateway.address) as stream:
        await stream.register()
        await stream.heartbeat(worker_id="")
        assert (await stream.ack()).worker_id == stream.worker_id
