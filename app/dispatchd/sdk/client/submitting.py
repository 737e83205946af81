"""Submitting, one by one or in bulk, to servers with and without SubmitJobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import grpc.aio

from dispatchd.sdk.channel import CallMetadata
from dispatchd.sdk.client.gather import MAX_BYTES, MAX_ITEMS, Gatherer, size_in_list
from dispatchd.sdk.client.retrying import call_once, deadline_in, until_available
from dispatchd.sdk.client.submission import Submission, to_item
from dispatchd.sdk.errors import DispatchdError, InvalidRequest, NotSupported, ServerError, Unavailable
from dispatchd.sdk.from_wire import job_from
from dispatchd.sdk.grpc_status import error_from, refusal_of_item
from dispatchd.sdk.job import Job
from dispatchd.v1 import dispatchd_pb2 as v1

if TYPE_CHECKING:
    from dispatchd.v1.dispatchd_pb2_grpc import JobServiceAsyncStub

# How many SubmitJob calls submit_many keeps in flight to a server that has no SubmitJobs.
SINGLE_CALLS = 32

Entry: TypeAlias = v1.SubmitJobsItem | InvalidRequest
Answer: TypeAlias = Job | DispatchdError


class Submitter:
    """Sends jobs, and remembers whether the server knows SubmitJobs."""

    def __init__(self, stub: JobServiceAsyncStub, flights: asyncio.TaskGroup):
        self._stub = stub
        self._gatherer = Gatherer(self._submit_jobs, flights)
        self._has_submit_jobs = True

    def close(self) -> None:
        """End every gathered call in flight."""
        self._gatherer.close()

    async def submit(self, submission: Submission, timeout_s: float, call_metadata: CallMetadata) -> Job:
        """Store one job and return it; sent together with other concurrent submits."""
        item = to_item(submission)
        deadline = deadline_in(timeout_s)
        stored = await until_available(lambda: self._submit_item(item, deadline, call_metadata), deadline)
        return _job_of(stored, item)

    async def submit_many(
        self, submissions: Iterable[Submission], timeout_s: float, call_metadata: CallMetadata
    ) -> list[Answer]:
        """Store jobs in order, in calls of at most 1,000 items and 1 MiB; return a job or an error for each.

        `timeout_s` is for each call. Once a call could not be completed the rest is not sent and gets the same error.
        """
        answers: list[Answer] = []
        broken: DispatchdError | None = None
        for chunk in _chunks(submissions):
            if broken is not None:
                answers.extend(entry if isinstance(entry, InvalidRequest) else broken for entry in chunk)
                continue
            broken = await self._send_chunk(chunk, answers, deadline_in(timeout_s), call_metadata)
        return answers

    async def _submit_jobs(
        self, request: v1.SubmitJobsRequest, timeout_s: float, call_metadata: CallMetadata
    ) -> v1.SubmitJobsResponse:
        metadata = grpc.aio.Metadata(*call_metadata)
        return await self._stub.SubmitJobs(request, timeout=max(timeout_s, 0.0), metadata=metadata)

    async def _submit_item(self, item: v1.SubmitJobsItem, deadline: float, call_metadata: CallMetadata) -> v1.Job:
        if self._has_submit_jobs:
            try:
                return await self._gatherer.submit(item, deadline, call_metadata)
            except NotSupported:
                self._has_submit_jobs = False
        return await self._submit_alone(item, deadline, call_metadata)

    async def _submit_alone(self, item: v1.SubmitJobsItem, deadline: float, call_metadata: CallMetadata) -> v1.Job:
        own = (("traceparent", item.traceparent), ("tracestate", item.tracestate), ("x-request-id", item.request_id))
        headers = call_metadata + tuple((name, value) for name, value in own if value)
        return (await call_once(self._stub.SubmitJob, item.request, deadline, headers)).job

    async def _send_chunk(
        self, chunk: list[Entry], answers: list[Answer], deadline: float, call_metadata: CallMetadata
    ) -> DispatchdError | None:
        """Append an answer for each entry; return the error that left some unanswered, if any did."""
        outcome: dict[int, Answer] = {
            index: entry for index, entry in enumerate(chunk) if isinstance(entry, InvalidRequest)
        }
        unsent = {index: entry for index, entry in enumerate(chunk) if not isinstance(entry, InvalidRequest)}

        async def send() -> None:
            for index, answer in (await self._send_items(unsent, deadline, call_metadata)).items():
                if not isinstance(answer, Unavailable):
                    outcome[index] = answer
                    del unsent[index]
                else:
                    unavailable = answer
            if unsent:
                raise unavailable

        broken: DispatchdError | None = None
        if unsent:
            try:
                await until_available(send, deadline)
            except DispatchdError as error:
                broken = error
                outcome.update(dict.fromkeys(unsent, error))
        answers.extend(outcome[index] for index in range(len(chunk)))
        return broken

    async def _send_items(
        self, items: dict[int, v1.SubmitJobsItem], deadline: float, call_metadata: CallMetadata
    ) -> dict[int, Answer]:
        if self._has_submit_jobs:
            request = v1.SubmitJobsRequest(items=items.values())
            try:
                response = await call_once(self._stub.SubmitJobs, request, deadline, call_metadata)
            except NotSupported:
                self._has_submit_jobs = False
            else:
                return _answers(items, response)
        return await self._send_singly(items, deadline, call_metadata)

    async def _send_singly(
        self, items: dict[int, v1.SubmitJobsItem], deadline: float, call_metadata: CallMetadata
    ) -> dict[int, Answer]:
        answers: dict[int, Answer] = {}
        todo = iter(items.items())

        async def send_next() -> None:
            for index, item in todo:
                try:
                    answers[index] = _job_of(await self._submit_alone(item, deadline, call_metadata), item)
                except DispatchdError as error:
                    answers[index] = error

        async with asyncio.TaskGroup() as senders:
            for number in range(min(SINGLE_CALLS, len(items))):
                senders.create_task(send_next(), name=f"submit sender {number}")
        return answers


def _chunks(submissions: Iterable[Submission]) -> Iterator[list[Entry]]:
    chunk: list[Entry] = []
    chunk_bytes = 0
    for submission in submissions:
        entry: Entry
        try:
            entry = to_item(submission)
        except InvalidRequest as error:
            entry = error
        size_bytes = 0 if isinstance(entry, InvalidRequest) else size_in_list(entry)
        if chunk and (len(chunk) == MAX_ITEMS or chunk_bytes + size_bytes > MAX_BYTES):
            yield chunk
            chunk, chunk_bytes = [], 0
        chunk.append(entry)
        chunk_bytes += size_bytes
    if chunk:
        yield chunk


def _answers(items: dict[int, v1.SubmitJobsItem], response: v1.SubmitJobsResponse) -> dict[int, Answer]:
    if len(response.results) != len(items):
        raise ServerError(
            f"the server answered {len(items)} items with {len(response.results)} results", code="INTERNAL"
        )
    return {
        index: _job_of(result.job, item) if result.HasField("job") else error_from(refusal_of_item(result.error))
        for (index, item), result in zip(items.items(), response.results, strict=True)
    }


def _job_of(stored: v1.Job, item: v1.SubmitJobsItem) -> Job:
    """Return the stored job with what the answer leaves out; an equal key means an equal request, so it is the same."""
    return job_from(stored, with_result=False, payload=item.request.payload, metadata=item.request.metadata)
