"""Concurrent submits travel together, and every caller gets what is its own."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from dispatchd.sdk.client.gather import MAX_BYTES, MAX_ITEMS, Gatherer
from dispatchd.sdk.errors import ClientClosed, InvalidRequest, ServerError
from dispatchd.v1 import dispatchd_pb2 as v1

Headers = tuple[tuple[str, str], ...]


class Wire:
    """Where the gathered calls go: each is answered when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[v1.SubmitJobsRequest, float, Headers]] = []
        self._answers: list[asyncio.Future[v1.SubmitJobsResponse]] = []
        self._arrived = asyncio.Condition()

    async def submit_jobs(
        self, request: v1.SubmitJobsRequest, timeout_s: float, headers: Headers
    ) -> v1.SubmitJobsResponse:
        self.calls.append((request, timeout_s, headers))
        answer: asyncio.Future[v1.SubmitJobsResponse] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        async with self._arrived:
            self._arrived.notify_all()
        return await answer

    async def until_called(self, times: int) -> None:
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls) >= times)

    def names(self, call: int) -> list[str]:
        return [item.request.idempotency_key for item in self.calls[call][0].items]

    def answer(self, call: int, *errors: str) -> None:
        """Answer a call: with an error for the names in `errors`, with a job named like its item for the others."""
        results = [
            v1.SubmitJobsResult(error=v1.ItemError(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=name))
            if name in errors
            else v1.SubmitJobsResult(job=v1.Job(job_id=name))
            for name in self.names(call)
        ]
        self._answers[call].set_result(v1.SubmitJobsResponse(results=results))

    def fail(self, call: int, error: Exception) -> None:
        self._answers[call].set_exception(error)


class Callers:
    """Starts submits as tasks of their own, with one gatherer."""

    def __init__(self, wire: Wire, tasks: asyncio.TaskGroup, **bounds: int) -> None:
        self.gatherer = Gatherer(wire.submit_jobs, tasks, **bounds)
        self._tasks: list[asyncio.Task[v1.Job]] = []

    def submit(
        self, name: str, *, payload: bytes = b"x", timeout_s: float = 60.0, headers: Headers = ()
    ) -> asyncio.Task[v1.Job]:
        task = asyncio.create_task(self.submit_here(name, payload, timeout_s, headers), name=f"submit {name}")
        self._tasks.append(task)
        return task

    async def submit_here(
        self, name: str, payload: bytes = b"x", timeout_s: float = 60.0, headers: Headers = ()
    ) -> v1.Job:
        item = v1.SubmitJobsItem(request=v1.SubmitJobRequest(idempotency_key=name, payload=payload))
        return await self.gatherer.submit(item, asyncio.get_running_loop().time() + timeout_s, headers)

    async def all_waiting(self) -> None:
        """Let every task begun so far come to where it waits."""
        await asyncio.sleep(0)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def flights() -> AsyncIterator[asyncio.TaskGroup]:
    async with asyncio.TaskGroup() as group:
        yield group


@pytest.fixture
def callers(wire: Wire, flights: asyncio.TaskGroup) -> Iterator[Callers]:
    made = Callers(wire, flights)
    yield made
    made.gatherer.close()


async def test_a_lone_submit_leaves_in_the_next_turn_of_the_loop(wire: Wire, callers: Callers) -> None:
    job = callers.submit("a")
    await callers.all_waiting()
    assert wire.calls == []
    await asyncio.sleep(0)
    assert wire.names(0) == ["a"]
    wire.answer(0)
    assert (await job).job_id == "a"


async def test_submits_collect_while_a_call_is_in_flight_and_go_with_the_next(wire: Wire, callers: Callers) -> None:
    first = callers.submit("first")
    await wire.until_called(1)
    others = [callers.submit(name) for name in "abcde"]
    await callers.all_waiting()
    assert len(wire.calls) == 1
    wire.answer(0)
    await wire.until_called(2)
    assert wire.names(1) == ["a", "b", "c", "d", "e"]
    wire.answer(1)
    assert [(await job).job_id for job in [first, *others]] == ["first", "a", "b", "c", "d", "e"]


async def test_submits_of_one_turn_of_the_loop_travel_together(wire: Wire, callers: Callers) -> None:
    jobs = [callers.submit(str(number)) for number in range(64)]
    await wire.until_called(1)
    wire.answer(0)
    await asyncio.gather(*jobs)
    assert len(wire.calls) == 1


async def test_callers_that_submit_again_at_once_come_along_with_those_that_waited(
    wire: Wire, callers: Callers
) -> None:
    async def two_in_a_row(name: str) -> None:
        await callers.submit_here(f"{name}1")
        await callers.submit_here(f"{name}2")

    rows = asyncio.gather(*(two_in_a_row(name) for name in "abc"))
    await wire.until_called(1)
    waited = callers.submit("waited")
    await callers.all_waiting()
    wire.answer(0)
    await wire.until_called(2)
    assert sorted(wire.names(1)) == ["a2", "b2", "c2", "waited"]
    wire.answer(1)
    await asyncio.gather(rows, waited)


async def test_a_call_holds_at_most_a_thousand_items(wire: Wire, callers: Callers) -> None:
    jobs = [callers.submit(str(number)) for number in range(MAX_ITEMS + 5)]
    await wire.until_called(1)
    wire.answer(0)
    await wire.until_called(2)
    wire.answer(1)
    await asyncio.gather(*jobs)
    assert [len(call[0].items) for call in wire.calls] == [1_000, 5]


async def test_a_call_holds_at_most_a_mebibyte(wire: Wire, callers: Callers) -> None:
    jobs = [callers.submit(str(number), payload=bytes(300_000)) for number in range(4)]
    await wire.until_called(1)
    wire.answer(0)
    await wire.until_called(2)
    wire.answer(1)
    await asyncio.gather(*jobs)
    assert [wire.names(call) for call in (0, 1)] == [["0", "1", "2"], ["3"]]
    assert all(call[0].ByteSize() <= MAX_BYTES for call in wire.calls)


async def test_an_item_above_a_mebibyte_travels_alone(wire: Wire, callers: Callers) -> None:
    jobs = [callers.submit("a"), callers.submit("large", payload=bytes(MAX_BYTES + 1)), callers.submit("b")]
    for call in range(3):
        await wire.until_called(call + 1)
        wire.answer(call)
    await asyncio.gather(*jobs)
    assert [wire.names(call) for call in range(3)] == [["a"], ["large"], ["b"]]


async def test_each_caller_gets_its_own_job_or_its_own_error(wire: Wire, callers: Callers) -> None:
    good, bad, also_good = callers.submit("good"), callers.submit("bad"), callers.submit("also good")
    await wire.until_called(1)
    wire.answer(0, "bad")
    assert (await good).job_id == "good"
    with pytest.raises(InvalidRequest, match="bad"):
        await bad
    assert (await also_good).job_id == "also good"


async def test_submits_with_other_call_metadata_travel_in_a_call_of_their_own(wire: Wire, callers: Callers) -> None:
    mine, yours = (("authorization", "mine"),), (("authorization", "yours"),)
    jobs = [
        callers.submit("a", headers=mine),
        callers.submit("b", headers=yours),
        callers.submit("c", headers=mine),
    ]
    await wire.until_called(2)
    assert [(call[2], wire.names(number)) for number, call in enumerate(wire.calls)] == [
        (mine, ["a", "c"]),
        (yours, ["b"]),
    ]
    wire.answer(1)
    wire.answer(0)
    await asyncio.gather(*jobs)


async def test_the_deadline_of_a_call_is_the_latest_of_its_members(wire: Wire, callers: Callers) -> None:
    jobs = [callers.submit("a", timeout_s=5), callers.submit("b", timeout_s=500), callers.submit("c", timeout_s=50)]
    await wire.until_called(1)
    assert wire.calls[0][1] == pytest.approx(500, abs=5)
    wire.answer(0)
    await asyncio.gather(*jobs)


async def test_a_caller_cancelled_before_the_call_leaves_is_never_sent(wire: Wire, callers: Callers) -> None:
    first = callers.submit("first")
    await wire.until_called(1)
    gone, stays = callers.submit("gone"), callers.submit("stays")
    await callers.all_waiting()
    gone.cancel()
    wire.answer(0)
    await wire.until_called(2)
    assert wire.names(1) == ["stays"]
    wire.answer(1)
    await asyncio.gather(first, stays)
    assert gone.cancelled()


async def test_a_caller_cancelled_after_the_call_left_does_not_stop_it_for_the_others(
    wire: Wire, callers: Callers
) -> None:
    gone, stays = callers.submit("gone"), callers.submit("stays")
    await wire.until_called(1)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    wire.answer(0)
    assert (await stays).job_id == "stays"


async def test_when_all_that_waited_have_gone_no_call_is_made(wire: Wire, callers: Callers) -> None:
    first = callers.submit("first")
    await wire.until_called(1)
    gone = callers.submit("gone")
    await callers.all_waiting()
    gone.cancel()
    wire.answer(0)
    await first
    last = callers.submit("last")
    await wire.until_called(2)
    assert wire.names(1) == ["last"]
    wire.answer(1)
    await last


async def test_a_failed_call_gives_every_member_an_error_object_of_its_own(wire: Wire, callers: Callers) -> None:
    jobs = [callers.submit("a"), callers.submit("b")]
    await wire.until_called(1)
    wire.fail(0, OSError("broken"))
    first, second = await asyncio.gather(*jobs, return_exceptions=True)
    assert isinstance(first, ServerError)
    assert isinstance(second, ServerError)
    assert first is not second


async def test_after_a_failed_call_the_next_one_leaves(wire: Wire, callers: Callers) -> None:
    first = callers.submit("first")
    await wire.until_called(1)
    second = callers.submit("second")
    await callers.all_waiting()
    wire.fail(0, OSError("broken"))
    await wire.until_called(2)
    wire.answer(1)
    with pytest.raises(ServerError):
        await first
    assert (await second).job_id == "second"


async def test_an_answer_of_the_wrong_length_is_given_to_nobody(wire: Wire, callers: Callers) -> None:
    jobs = [callers.submit("a"), callers.submit("b")]
    await wire.until_called(1)
    wire._answers[0].set_result(v1.SubmitJobsResponse(results=[v1.SubmitJobsResult(job=v1.Job(job_id="a"))]))
    for job in jobs:
        with pytest.raises(ServerError, match="2 items with 1 results"):
            await job


async def test_what_finds_no_room_waits_outside_and_comes_in_later(wire: Wire, flights: asyncio.TaskGroup) -> None:
    callers = Callers(wire, flights, max_waiting=2)
    jobs = [callers.submit(name) for name in "abcd"]
    await wire.until_called(1)
    assert wire.names(0) == ["a", "b"]
    wire.answer(0)
    await wire.until_called(2)
    assert wire.names(1) == ["c", "d"]
    wire.answer(1)
    await asyncio.gather(*jobs)


async def test_closing_ends_what_is_in_flight_and_what_waits(wire: Wire, callers: Callers) -> None:
    in_flight = callers.submit("in flight")
    await wire.until_called(1)
    waiting = callers.submit("waiting")
    await callers.all_waiting()
    callers.gatherer.close()
    for job in (in_flight, waiting, callers.submit("late")):
        with pytest.raises(ClientClosed):
            await job


async def test_groups_that_have_nothing_to_send_are_forgotten(wire: Wire, callers: Callers) -> None:
    for number in range(5):
        job = callers.submit(str(number), headers=(("authorization", f"token {number}"),))
        await wire.until_called(number + 1)
        wire.answer(number)
        await job
    await asyncio.sleep(0)
    assert callers.gatherer._groups == {}
