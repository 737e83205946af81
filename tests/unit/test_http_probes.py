"""The HTTP port of a role says whether it lives, whether it can work, and how it is doing."""

import asyncio

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from dispatchd.entrypoints.http_probes import Ready, serve_probes


async def _get(path: str, ready: Ready, registry: CollectorRegistry | None = None) -> tuple[int, str]:
    async with (
        serve_probes(0, ready, registry or CollectorRegistry(), "127.0.0.1") as port,
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, await answer.text()


async def _is_ready() -> str | None:
    return None


async def _has_no_database() -> str | None:
    return "Postgres does not answer"


async def _fails() -> str | None:
    raise RuntimeError("s3cret")


async def _hangs() -> str | None:
    await asyncio.Event().wait()
    return None


async def test_livez_needs_nothing_else() -> None:
    assert await _get("/livez", _fails) == (200, "alive\n")


async def test_readyz_names_the_reason() -> None:
    assert await _get("/readyz", _is_ready) == (200, "ready\n")
    assert await _get("/readyz", _has_no_database) == (503, "not ready: Postgres does not answer\n")


async def test_readyz_is_not_ready_when_the_check_fails_or_hangs() -> None:
    assert await _get("/readyz", _fails) == (503, "not ready: the check failed, see the log\n")
    assert await _get("/readyz", _hangs) == (503, "not ready: the check took longer than 2 s\n")


async def test_metrics_are_those_of_the_registry() -> None:
    registry = CollectorRegistry()
    Counter("jobs", "Jobs.", registry=registry).inc(3)
    status, text = await _get("/metrics", _is_ready, registry)
    assert status == 200
    assert "jobs_total 3.0" in text


async def test_what_is_no_http_is_answered_and_leaves_no_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with serve_probes(0, _is_ready, CollectorRegistry(), "127.0.0.1") as port:
        for nonsense in (
            b"\x00\xff" * 100 + b"\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(nonsense)
            assert b" 400 " in await asyncio.wait_for(reader.readline(), 10)
            writer.close()
    assert [record for record in caplog.records if record.exc_info] == []
