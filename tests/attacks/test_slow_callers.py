"""Callers who do not read what they asked for, or do not send what they began."""

import asyncio
from contextlib import suppress

import pytest

from attacks.attacked import Site
from attacks.connection import Gone, RawConnection, connection
from attacks.frames import Flag, Kind, frame, message
from attacks.methods import CONNECT, GET_JOB, LIST_EXECUTIONS, SUBMIT_JOB, WAIT_JOB
from dispatchd import Job
from dispatchd.v1 import dispatchd_pb2 as pb
from tokens_for_tests import token
from waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
LARGE = 2 * MIB - 100
"""As large as a payload may be, in JSON."""
CALLS = 1_000
VIEWER = token("mallory", "viewer")
SUBMITTER = token("mallory", "submitter")
WORKER = token("mallory", "worker")


async def large_job(site: Site, job_type: str = "nobody.works") -> Job:
    return await site.client.submit(job_type, "a" * (LARGE - 2))


async def until_called(site: Site, method: str, count: int) -> None:
    """Waits until so many calls of a method have been answered, whatever was read of that."""

    async def have_been() -> bool:
        return await site.control_plane.metric("dispatchd_grpc_calls_total", method=method) >= count

    await eventually(have_been)


# --- who does not read ----------------------------------------------------------------------------------------------


async def test_large_answers_that_are_not_read(site: Site) -> None:
    job = await large_job(site)
    request = message(pb.GetJobRequest(job_id=job.job_id).SerializeToString())
    before = await site.control_plane.metric("dispatchd_grpc_calls_total", method="JobService.GetJob")
    async with connection(site.control_plane.port, window_bytes=0) as attacker:
        for _ in range(100):
            await attacker.call(GET_JOB, VIEWER, request)
        await until_called(site, "JobService.GetJob", int(before) + 100)
        # Large answers of others are still made.
        assert len((await site.client.get(job)).payload) == LARGE
        await site.honest_job()


async def test_waits_and_lists_that_are_not_read(site: Site) -> None:
    job = await site.client.submit("nobody.works", 1)
    wait = message(pb.WaitJobRequest(job_id=job.job_id).SerializeToString())
    listing = message(pb.ListExecutionsRequest(job_id=job.job_id).SerializeToString())
    async with connection(site.control_plane.port, window_bytes=0) as attacker:
        for _ in range(CALLS):
            await attacker.call(WAIT_JOB, VIEWER, wait)
            await attacker.call(LIST_EXECUTIONS, VIEWER, listing)

        async def all_wait() -> bool:
            return await site.control_plane.metric("dispatchd_waiters") >= CALLS

        await eventually(all_wait)
        await site.honest_job()
        await site.client.cancel(job)
        await site.honest_job()


async def test_a_worker_that_does_not_read_its_assignments(site: Site) -> None:
    """Payloads wait in Postgres, and the silent stream is ended by the gateway."""
    for _ in range(60):
        await large_job(site, "mallory.work")
    registration = pb.WorkerRegistration(worker_id="mallory", capabilities=["mallory"], max_concurrency=1_000)
    first = message(pb.ConnectRequest(registration=registration).SerializeToString())
    async with connection(site.gateway.port, window_bytes=0) as attacker:
        number = await attacker.call(CONNECT, WORKER)
        await attacker.send(frame(Kind.DATA, number, first))

        async def is_registered() -> bool:
            return await site.gateway.metric("dispatchd_streams_open") == 2

        await eventually(is_registered)
        await site.honest_job()
        # The end of the stream itself waits behind the assignments that are not read.
        await site.only_the_honest_worker_is_left()


# --- who does not send ----------------------------------------------------------------------------------------------


async def test_a_stranger_is_refused_before_he_has_sent_anything(site: Site) -> None:
    """Whether he goes on and sends or not."""
    async with connection(site.control_plane.port) as attacker:
        silent = [await attacker.call(GET_JOB) for _ in range(CALLS)]
        await attacker.until_ended(*silent)
        sent = await asyncio.gather(*(begin_large(attacker, None) for _ in range(100)))
        # What he sends before he is told is in the windows of his streams, which grow with his speed.
        assert sum(sent) < 100 * MIB
        await site.honest_job()


async def begin_large(attacker: RawConnection, bearer: str | None) -> int:
    """Sends all but the last of a message of 4 MiB; how many bytes the server took."""
    with suppress(Gone):
        number = await attacker.call(SUBMIT_JOB, bearer)
        return await attacker.body(number, message(bytes(4 * MIB - 1_000), declared_bytes=4 * MIB - 999))
    return 0


async def test_calls_with_a_token_whose_message_never_comes(site: Site) -> None:
    async with connection(site.control_plane.port) as attacker:
        for _ in range(CALLS):
            await attacker.call(SUBMIT_JOB, SUBMITTER)
        await site.honest_job()
        assert not attacker.ended


async def test_messages_that_come_byte_by_byte(site: Site) -> None:
    request = pb.SubmitJobRequest(job_type="nobody.works", payload=b"1").SerializeToString()
    begun = message(request)
    async with connection(site.control_plane.port) as attacker:
        # As many as there is a window for their answers.
        numbers = [await attacker.call(SUBMIT_JOB, SUBMITTER) for _ in range(200)]
        for at in range(len(begun) - 1):
            await attacker.send(b"".join(frame(Kind.DATA, number, begun[at : at + 1]) for number in numbers))
            await asyncio.sleep(0)
            if at % 5 == 0:
                await site.honest_job()
        # Slow is not wrong: with its last byte each of them is a call like any other.
        await attacker.send(b"".join(frame(Kind.DATA, n, begun[-1:], Flag.END_STREAM) for n in numbers))
        await attacker.until_ended(*numbers)


async def test_a_hundred_mebibytes_of_messages_that_lack_their_last_byte(site: Site) -> None:
    async with connection(site.control_plane.port) as attacker:
        sent = await asyncio.gather(*(begin_large(attacker, SUBMITTER) for _ in range(25)))
        assert sum(sent) > 99 * MIB
        await site.honest_job()
