"""The client's token on its way: in which calls it goes, and what happens when a server refuses it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from dispatchd import AsyncClient, Client, DeadlineExceeded, Submission, Unauthenticated
from dispatchd.v1 import dispatchd_pb2 as v1
from sdk.scripted_control_plane import Held, ScriptedControlPlane, in_turn, refuse, store_all

Context = grpc.aio.ServicerContext[Any, Any]


class Guard:
    """Lets in who bears the right token of the moment."""

    def __init__(self, peer: ScriptedControlPlane, right: str) -> None:
        self.right = right
        peer.answers["GetJob"] = self._checked(self._get)
        peer.answers["SubmitJobs"] = self._checked(store_all)

    async def _get(self, request: v1.GetJobRequest, context: Context) -> v1.GetJobResponse:
        return v1.GetJobResponse(job=v1.Job(job_id=request.job_id, job_type="a.b", status=v1.JOB_STATUS_PENDING))

    def _checked(self, answer: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
        async def check(request: Any, context: Context) -> Any:
            if ("authorization", f"Bearer {self.right}") not in (context.invocation_metadata() or ()):
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has expired: get a new one")
            return await answer(request, context)

        return check


@pytest.fixture
def guard(control_plane: ScriptedControlPlane) -> Guard:
    return Guard(control_plane, "t1")


def sent(control_plane: ScriptedControlPlane) -> list[str]:
    return [headers.get("authorization", "") for headers in control_plane.headers]


async def test_a_token_goes_with_every_call(control_plane: ScriptedControlPlane, guard: Guard) -> None:
    async with AsyncClient(control_plane.target, token="t1", call_metadata={"X-A": "1"}) as client:
        await client.submit("a.b", 1)
        await client.submit_many([Submission(job_type="a.b", payload=2)])
        await client.get("job_1")
    assert sent(control_plane) == ["Bearer t1"] * 3
    assert all(headers["x-a"] == "1" for headers in control_plane.headers)


async def test_a_fixed_token_that_is_refused_is_not_tried_again(
    control_plane: ScriptedControlPlane, guard: Guard
) -> None:
    async with AsyncClient(control_plane.target, token="t0") as client:
        with pytest.raises(Unauthenticated, match="has expired"):
            await client.get("job_1")
        with pytest.raises(Unauthenticated, match="has expired"):
            await client.submit("a.b", 1)
    assert sent(control_plane) == ["Bearer t0"] * 2


async def test_a_file_that_is_rewritten_is_used_by_the_client_that_works(
    control_plane: ScriptedControlPlane, guard: Guard, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("t1")
    async with AsyncClient(control_plane.target, token=file) as client:
        await client.get("job_1")
        file.write_text("t2 ")
        guard.right = "t2"
        await client.get("job_1")
        await client.submit("a.b", 1)
    assert sent(control_plane) == ["Bearer t1", "Bearer t2", "Bearer t2"]


async def test_a_function_is_asked_again_when_its_token_is_refused_and_the_call_goes_once_more(
    control_plane: ScriptedControlPlane, guard: Guard
) -> None:
    tokens = iter(["t1", "t2", "t3"])
    async with AsyncClient(control_plane.target, token=lambda: next(tokens)) as client:
        await client.get("job_1")
        guard.right = "t2"
        assert (await client.get("job_1")).job_id == "job_1"
        guard.right = "none of them"
        with pytest.raises(Unauthenticated, match="has expired"):
            await client.get("job_1")
    assert sent(control_plane) == ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2", "Bearer t3"]


async def test_a_client_without_a_loop_renews_too(control_plane: ScriptedControlPlane, guard: Guard) -> None:
    tokens = iter(["t0", "t1"])

    async def next_token() -> str:
        return next(tokens)

    def work() -> str:
        with Client(control_plane.target, token=next_token) as client:
            return client.get("job_1").job_id

    assert await asyncio.to_thread(work) == "job_1"


async def test_submits_travel_together_whatever_becomes_of_the_token(
    control_plane: ScriptedControlPlane, guard: Guard
) -> None:
    held = Held(refuse(grpc.StatusCode.UNAUTHENTICATED, "over"))
    control_plane.answers["SubmitJobs"] = in_turn(held, control_plane.answers["SubmitJobs"])
    tokens = iter(["t0", "t1"])
    async with AsyncClient(control_plane.target, token=lambda: next(tokens)) as client, asyncio.TaskGroup() as group:
        group.create_task(client.submit("a.b", 0))
        await held.arrived.wait()
        jobs = [group.create_task(client.submit("a.b", number)) for number in range(1, 200)]
        await asyncio.sleep(0)
        held.let_go()
    assert len({job.result().job_id for job in jobs}) == 199
    assert [len(request.items) for request in control_plane.of_type(v1.SubmitJobsRequest)] == [1, 1, 199]


async def test_a_call_with_a_header_of_its_own_keeps_it(control_plane: ScriptedControlPlane, guard: Guard) -> None:
    async with AsyncClient(control_plane.target, token=lambda: pytest.fail("nobody needs a token")) as client:
        await client.submit("a.b", 1, call_metadata={"Authorization": "Bearer t1"})
        with pytest.raises(Unauthenticated):
            await client.submit("a.b", 1, call_metadata={"Authorization": "Bearer t0"})
    assert sent(control_plane) == ["Bearer t1", "Bearer t0"]


async def test_every_submit_learns_that_there_is_no_token(control_plane: ScriptedControlPlane) -> None:
    def fail() -> str:
        raise OSError("the issuer is away")

    async with AsyncClient(control_plane.target, token=fail) as client:
        answers = await asyncio.gather(*(client.submit("a.b", 1) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unauthenticated] * 3
        assert "raised OSError" in str(answers[0])
        [many] = await client.submit_many([Submission(job_type="a.b", payload=2)])
        assert isinstance(many, Unauthenticated)
    assert control_plane.requests == []


async def test_the_wait_for_a_token_is_part_of_the_calls_time(control_plane: ScriptedControlPlane) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    async with AsyncClient(control_plane.target, token=never, call_timeout=0.1) as client:
        for call in (client.get("job_1"), client.submit("a.b", 1)):
            with pytest.raises(DeadlineExceeded):
                await call
        with pytest.raises(DeadlineExceeded, match="no token in time"):
            await client.redrive(["job_1"])
    assert control_plane.requests == []


async def test_no_log_line_holds_the_token(
    control_plane: ScriptedControlPlane, guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = iter(["very-secret-1", "very-secret-2"])
    async with AsyncClient(control_plane.target, token=lambda: next(tokens)) as client:
        with pytest.raises(Unauthenticated) as raised:
            await client.get("job_1")
    assert sent(control_plane) == ["Bearer very-secret-1", "Bearer very-secret-2"]
    cause = raised.value.__cause__
    assert "very-secret" not in f"{caplog.text}{raised.value!r}{cause!r}{cause}"


async def test_without_a_token_nothing_stands_between_a_call_and_grpc(client: AsyncClient) -> None:
    assert client._open is not None
    assert isinstance(client._open.channel, grpc.aio.Channel)
