"""A worker with a token: which stream goes with which, and that running tasks notice nothing of a new one."""

import asyncio
import logging
import threading
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from dispatchd import AsyncClient, TaskContext, Unauthenticated, Worker
from dispatchd.entrypoints.settings import Role
from dispatchd.sdk.worker import link as link_module
from dispatchd.sdk.worker import stream as stream_module
from gateway.roles import Site
from sdk.gates import Gate
from sdk.scripted_gateway import ScriptedGateway
from sdk.serving import serving
from tokens_for_tests import AUTH, SECRET, token
from waiting import until

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


def shown(gateway: ScriptedGateway) -> list[str]:
    return [headers.get("authorization", "") for headers in gateway.headers]


async def test_a_stream_whose_token_expired_is_followed_at_once_by_one_with_a_new_token(
    gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link_module, "FIRST_BACKOFF_S", 600.0)
    monkeypatch.setattr(link_module, "LONGEST_BACKOFF_S", 600.0)
    tokens = iter(["t1", "t2", "t3"])
    worker = Worker(gateway.target, worker_id="w1", token=lambda: next(tokens))
    gate = Gate(worker)
    async with serving(worker):
        for _ in range(2):
            stream = await gateway.register()
            if not gate.running:
                stream.assign("e1")
                await stream.begun("e1")
            stream.expire()
        last = await gateway.accept()
        assert list((await last.register()).held_execution_ids) == ["e1"]
        gate.let_go("e1")
        assert (await last.result()).success
    assert shown(gateway) == ["Bearer t1", "Bearer t2", "Bearer t3"]
    assert (len(gate.began), gate.ended) == (1, {"e1": "finished"})
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_token_file_that_is_rewritten_goes_with_the_next_stream(
    gateway: ScriptedGateway, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("t1\n")
    worker = Worker(gateway.target, token=file)
    Gate(worker)
    async with serving(worker):
        (await gateway.register()).end(grpc.StatusCode.UNAVAILABLE)
        stream = await gateway.register()
        file.write_text("t2 \n")
        stream.expire()
        await gateway.register()
    assert shown(gateway) == ["Bearer t1", "Bearer t1", "Bearer t2"]


async def test_who_is_refused_before_the_first_registration_gives_up_with_a_clear_message(
    gateway: ScriptedGateway,
) -> None:
    worker = Worker(gateway.target, worker_id="w1", token="t1")
    Gate(worker)
    async with serving(worker) as serve:
        (await gateway.accept()).end(UNAUTHENTICATED, "the token has expired: get a new one")
        with pytest.raises(Unauthenticated, match="worker w1 was refused: the token has expired: get a new one"):
            await serve


async def test_without_a_token_to_show_the_worker_gives_up_too(gateway: ScriptedGateway, tmp_path: Path) -> None:
    worker = Worker(gateway.target, token=tmp_path / "missing")
    Gate(worker)
    async with serving(worker) as serve:
        with pytest.raises(Unauthenticated, match=str(tmp_path / "missing")):
            await serve
    assert gateway.headers == []


async def test_later_a_refused_worker_tries_on_and_says_so_once(
    gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asked = 0

    async def next_token() -> str:
        nonlocal asked
        asked += 1
        return f"very-secret-{asked}"

    worker = Worker(gateway.target, worker_id="w1", token=next_token)
    Gate(worker)
    async with serving(worker):
        (await gateway.register()).expire()
        for _ in range(3):
            (await gateway.accept()).end(UNAUTHENTICATED, "the token has expired: get a new one")
        await gateway.register()
    assert shown(gateway) == [f"Bearer very-secret-{number}" for number in range(1, 6)]
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "UNAUTHENTICATED: the token has expired" in warnings[0]
    assert "very-secret" not in caplog.text
    assert "very-secret" not in repr(worker._settings())


async def test_a_function_that_hangs_or_fails_later_is_waited_for(
    gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "REGISTRATION_TIMEOUT_S", 0.3)
    asked = 0

    async def next_token() -> str:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise ConnectionError
        if asked == 3:
            await asyncio.Event().wait()
        return f"t{asked}"

    worker = Worker(gateway.target, token=next_token)
    Gate(worker)
    async with serving(worker):
        (await gateway.register()).expire()
        await gateway.register()
    assert shown(gateway) == ["Bearer t1", "Bearer t4"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_async_function_runs_in_the_loop_of_serve_and_a_plain_one_in_a_thread(
    gateway: ScriptedGateway, is_async: bool
) -> None:
    threads = []

    def plain() -> str:
        threads.append(threading.current_thread())
        return "t1"

    async def in_loop() -> str:
        return plain()

    worker = Worker(gateway.target, token=in_loop if is_async else plain)
    Gate(worker)
    async with serving(worker):
        await gateway.register()
    assert (threads == [threading.current_thread()]) == is_async


async def test_a_long_task_outlives_its_workers_tokens_in_one_attempt(
    database_url: str,
    redis_address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("dispatchd.adapters.tokens.LEEWAY", timedelta(0))
    caplog.set_level(logging.DEBUG)
    made: list[str] = []
    renewed = asyncio.Event()

    def next_token() -> str:
        made.append(token("mailer", "worker", lifetime=timedelta(seconds=2)))
        return made[-1]

    site = Site(database_url, redis_address)
    caller = token("ann", "submitter")
    async with site.gateway(**AUTH) as gateway, site.role(Role.CONTROL_PLANE, **AUTH) as control_plane:
        worker = Worker(gateway.address, worker_id="mailer", token=next_token)
        begun = 0

        @worker.task("email.send")
        async def send(number: int, context: TaskContext) -> int:
            nonlocal begun
            begun += 1
            await renewed.wait()
            return number + 1

        async with AsyncClient(control_plane.address, token=caller) as client, serving(worker):
            job = await client.submit(send, 1)
            await until(lambda: len(made) >= 4)
            renewed.set()
            assert await client.result(job, send, timeout=30) == 2
            [execution] = [each async for each in client.executions(job)]
            assert (begun, execution.attempt, (await client.get(job)).attempts) == (1, 1, 1)
    assert "the token of worker mailer has expired" in caplog.text
    for secret in (SECRET, caller, *made):
        assert secret not in caplog.text
