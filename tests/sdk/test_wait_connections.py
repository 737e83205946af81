"""Waiting for more jobs than one connection may: over further connections, and nothing else has to wait for that."""

import asyncio
from collections import Counter
from typing import Any

import grpc.aio
import pytest

from control_planes import control_plane_on
from dispatchd import AsyncClient
from dispatchd.adapters.grpc.transport import CALLS_PER_CONNECTION
from dispatchd.sdk.client import wait_connections
from dispatchd.sdk.client.wait_connections import WAITS_PER_CONNECTION
from dispatchd.telemetry import metrics
from dispatchd.v1 import dispatchd_pb2 as v1
from sdk.scripted_control_plane import ScriptedControlPlane
from waiting import until


async def test_waits_are_spread_over_connections_that_are_kept(
    control_plane: ScriptedControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_connections, "WAITS_PER_CONNECTION", 2)
    peers: list[str] = []
    all_wait = asyncio.Event()

    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> v1.WaitJobResponse:
        peers.append(context.peer())
        await all_wait.wait()
        return v1.WaitJobResponse(job=v1.Job(job_id=request.job_id, status=v1.JOB_STATUS_SUCCEEDED))

    control_plane.answers["WaitJob"] = answer
    async with AsyncClient(control_plane.target, token="a-token") as client:
        for waits in (5, 10):
            all_wait.clear()
            waiting = [asyncio.create_task(client.wait(f"job_{number}")) for number in range(5)]
            await until(lambda waits=waits: len(peers) == waits)  # type: ignore[misc]
            all_wait.set()
            await asyncio.gather(*waiting)
    assert sorted(Counter(peers[:5]).values()) == [1, 2, 2]
    assert set(peers[5:]) == set(peers[:5])
    assert {headers["authorization"] for headers in control_plane.headers} == {"Bearer a-token"}


async def test_a_submit_does_not_wait_for_those_who_wait(database_url: str, redis_address: str) -> None:
    """On one connection the server would let the submit in when a wait has ended."""
    waits = CALLS_PER_CONNECTION + 100
    assert WAITS_PER_CONNECTION < CALLS_PER_CONNECTION / 2
    async with (
        control_plane_on(database_url, redis_address) as plane,
        AsyncClient(f"127.0.0.1:{plane.port}") as client,
    ):
        job = await client.submit("nobody.works", 1)
        waiting = [asyncio.create_task(client.wait(job)) for _ in range(waits)]
        await until(lambda: metrics.REGISTRY.get_sample_value("dispatchd_waiters") == waits)
        await client.submit("nobody.works", 2, call_timeout=10)
        await client.cancel(job)
        assert {waited.status for waited in await asyncio.gather(*waiting)} == {"canceled"}
