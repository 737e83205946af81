"""Log chunks of workers: in the gateway's own log, with the ids of job, execution and worker, and bounded."""

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.roles import RunningRole
from gateway.worker_stream import BATCHING, RESUME, WorkerStream, worker

LOGGER = "dispatchd.worker_log"


async def log(stream: WorkerStream, execution_id: str, message: str) -> pb.WorkerAck:
    chunk = pb.TaskLogChunk(execution_id=execution_id, message=message)
    chunk.emitted_at.FromDatetime(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    await stream.send(log_chunk=chunk)
    return await stream.ack()


def records(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.name == LOGGER]


async def test_a_log_chunk_is_logged_with_its_ids_and_acked(
    gateway: RunningRole, jobs: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register()
        execution_id = (await stream.assignment()).execution_id
        ack = await log(stream, execution_id, "100 % of\n%s done")
        assert (ack.execution_id, ack.worker_id) == (execution_id, stream.worker_id)
    [record] = records(caplog)
    assert record.getMessage() == "100 % of\n%s done"
    assert (record.execution_id, record.job_id, record.worker_id) == (execution_id, job_id, stream.worker_id)
    assert record.emitted_at == "2026-01-02T03:04:05+00:00"


async def test_a_resumed_execution_is_logged_with_its_job(
    gateway: RunningRole, jobs: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    job_id = await jobs.submit()
    async with worker(gateway.address, "mailer") as old:
        await old.register(features=[RESUME], process_id="p")
        execution_id = (await old.assignment()).execution_id
    async with worker(gateway.address, "mailer") as new:
        await new.register(features=[RESUME], process_id="p", held=[execution_id])
        await log(new, execution_id, "still at it")
    assert [record.job_id for record in records(caplog)] == [job_id]


async def test_an_execution_of_the_earlier_session_is_logged_with_its_job(
    gateway: RunningRole, jobs: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    job_id = await jobs.submit()
    async with worker(gateway.address, "mailer") as old:
        await old.register()
        execution_id = (await old.assignment()).execution_id
    async with worker(gateway.address, "mailer") as new:
        await new.register()
        await log(new, execution_id, "still at it")
    assert [record.job_id for record in records(caplog)] == [job_id]


async def test_a_chunk_is_cut_and_one_of_nobodys_execution_is_acked_too(
    gateway: RunningRole, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with worker(gateway.address) as stream:
        await stream.register(features=[BATCHING])
        ack = await log(stream, "no id" * 100, "\0" + "€" * 20_000)
        assert ack.execution_id == ("no id" * 100)[:64]
    [record] = records(caplog)
    assert record.job_id is None
    assert record.getMessage().startswith("\ufffd€")
    assert len(record.getMessage().encode()) <= 16 * 1024
