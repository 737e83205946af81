"""Concurrent submits travel together, in SubmitJobs calls.

A call costs the transport much more than the job in it. So while one SubmitJobs is in flight the submits that arrive
collect, and all go with the next. A lone submit finds nothing in flight and leaves at once.

    submit ──► waiting ─┐                                  ┌─► its own job, or
    submit ──► waiting ─┼──► in flight: one SubmitJobs ────┼─► its own error
    submit ──► waiting ─┘    (≤ 1,000 items, ≤ 1 MiB)      └─► (its caller has gone: dropped)
       │                                 │
       │ deadline or cancellation        │ when it is back
       ▼ before it left: never sent      ▼
                                  whatever waits now is the next one

Only submits with equal call metadata travel together: each such group has its own flight. The client's token joins the
call when it leaves, so it separates nobody. The call's deadline is the latest of its members'. A member whose own
deadline or cancellation comes first gets its error, and the call goes on for the others. Who meets UNAVAILABLE comes
back with the same idempotency key, after a backoff of its own and within a deadline of its own; that loop is the
caller's (`until_available`), not this file's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc.aio

from dispatchd.sdk.channel import CallMetadata
from dispatchd.sdk.errors import ClientClosed, DeadlineExceeded, DispatchdError, ServerError, Unauthenticated
from dispatchd.sdk.grpc_status import error_from, refusal_of_call, refusal_of_item
from dispatchd.v1 import dispatchd_pb2 as v1

MAX_ITEMS = 1_000
MAX_BYTES = 1024 * 1024
# More submits than this wait outside, under their own deadlines, until there is room again.
MAX_WAITING = 10_000

SubmitJobs: TypeAlias = Callable[[v1.SubmitJobsRequest, float, CallMetadata], Awaitable[v1.SubmitJobsResponse]]


@dataclass(slots=True)
class _Member:
    item: v1.SubmitJobsItem
    size_bytes: int
    deadline: float
    answer: asyncio.Future[v1.Job]


@dataclass(slots=True)
class _Group:
    # It may hold an authorization header.
    call_metadata: CallMetadata = field(repr=False)
    waiting: deque[_Member] = field(default_factory=deque)


class Gatherer:
    """Collects submits while a SubmitJobs call of their group is in flight. One event loop, any number of callers."""

    def __init__(self, submit_jobs: SubmitJobs, flights: asyncio.TaskGroup, *, max_waiting: int = MAX_WAITING):
        self._submit_jobs = submit_jobs
        self._flights = flights
        self._groups: dict[CallMetadata, _Group] = {}
        self._room = asyncio.Semaphore(max_waiting)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def submit(self, item: v1.SubmitJobsItem, deadline: float, call_metadata: CallMetadata) -> v1.Job:
        """Return the job for `item`, sent with whatever else waits; raises the item's own error.

        `deadline` (of the loop's clock) only bounds the call: the caller bounds its own waiting.
        """
        async with self._room:
            if self._closed:
                raise ClientClosed("the client was closed")
            answer: asyncio.Future[v1.Job] = asyncio.get_running_loop().create_future()
            self._join(_Member(item, size_in_list(item), deadline, answer), call_metadata)
            return await answer

    def close(self) -> None:
        """Stop the calls in flight; whoever still waits gets `ClientClosed`."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    def _join(self, member: _Member, call_metadata: CallMetadata) -> None:
        group = self._groups.get(call_metadata)
        if group is None:
            group = self._groups[call_metadata] = _Group(call_metadata)
            task = self._flights.create_task(self._fly(group), name="submit flight")
            self._tasks.add(task)
            task.add_done_callback(lambda _: self._landed(group, task))
        group.waiting.append(member)

    async def _fly(self, group: _Group) -> None:
        while members := _board(group):
            await self._send(group, members)
            # The callers just answered run first, so that those who submit again at once come along.
            await asyncio.sleep(0)
        # Nothing is awaited between the empty look and this line, so nobody can have joined unseen.
        del self._groups[group.call_metadata]

    async def _send(self, group: _Group, members: list[_Member]) -> None:
        timeout_s = max(member.deadline for member in members) - asyncio.get_running_loop().time()
        request = v1.SubmitJobsRequest(items=[member.item for member in members])
        try:
            response = await self._submit_jobs(request, timeout_s, group.call_metadata)
        except asyncio.CancelledError:
            _refuse(members, lambda: ClientClosed("the client was closed while the job was being sent"))
            raise
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of_call(error)
            _refuse(members, lambda: error_from(refusal))
        except (Unauthenticated, DeadlineExceeded) as error:  # there is no token, or not in time
            kind, message = type(error), error.message
            _refuse(members, lambda: kind(message))
        except Exception as error:  # a flight must land, whatever the transport throws
            reason = f"the call failed: {error!r}"
            _refuse(members, lambda: ServerError(reason, code="UNKNOWN"))
        else:
            _hand_out(members, response)

    def _landed(self, group: _Group, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._groups.get(group.call_metadata) is group:
            del self._groups[group.call_metadata]
        _refuse(group.waiting, lambda: ClientClosed("the client was closed before the job was sent"))


def size_in_list(item: v1.SubmitJobsItem) -> int:
    """Return an upper bound on the bytes an item takes in SubmitJobsRequest: itself, one tag, and its length."""
    return item.ByteSize() + 6


def _board(group: _Group) -> list[_Member]:
    members: list[_Member] = []
    total_bytes = 0
    while group.waiting and len(members) < MAX_ITEMS:
        member = group.waiting[0]
        if member.answer.done():  # its caller has gone before it was sent
            group.waiting.popleft()
            continue
        if members and total_bytes + member.size_bytes > MAX_BYTES:
            break
        members.append(group.waiting.popleft())
        total_bytes += member.size_bytes
    return members


def _hand_out(members: list[_Member], response: v1.SubmitJobsResponse) -> None:
    if len(response.results) != len(members):
        reason = f"the server answered {len(members)} items with {len(response.results)} results"
        _refuse(members, lambda: ServerError(reason, code="INTERNAL"))
        return
    for member, result in zip(members, response.results, strict=True):
        if member.answer.done():
            continue
        if result.HasField("job"):
            member.answer.set_result(result.job)
        else:
            member.answer.set_exception(error_from(refusal_of_item(result.error)))


def _refuse(members: list[_Member] | deque[_Member], error: Callable[[], DispatchdError]) -> None:
    for member in members:
        if not member.answer.done():
            member.answer.set_exception(error())
