"""The calls for operators: dead letters, redrive, workers and ready queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dispatchd.sdk.channel import CallMetadata
from dispatchd.sdk.client.page import Page
from dispatchd.sdk.client.retrying import call_once, call_until_available, deadline_in
from dispatchd.sdk.errors import DispatchdError
from dispatchd.sdk.from_wire import job_from, queue_from, worker_from
from dispatchd.sdk.grpc_status import redrive_error_from, refusal_of_item
from dispatchd.sdk.job import Job, ReadyQueue, RegisteredWorker
from dispatchd.v1 import dispatchd_pb2 as v1

if TYPE_CHECKING:
    from dispatchd.v1.dispatchd_pb2_grpc import OperatorServiceAsyncStub

MAX_REDRIVES = 1_000


class OperatorCalls:
    """Calls of OperatorService. `timeout_s` is for each call."""

    def __init__(self, stub: OperatorServiceAsyncStub):
        self._stub = stub

    async def dead_letters(
        self, job_type: str | None, page_token: str, page_size: int, timeout_s: float, call_metadata: CallMetadata
    ) -> Page[Job]:
        """Fetch a page of dead letters, the last to fail first."""
        request = v1.ListDeadLettersRequest(page_size=page_size, page_token=page_token, job_type=job_type or "")
        response = await call_until_available(
            self._stub.ListDeadLetters, request, deadline_in(timeout_s), call_metadata
        )
        return Page([job_from(job, with_result=False) for job in response.jobs], response.next_page_token)

    async def redrive(
        self, job_ids: Sequence[str], timeout_s: float, call_metadata: CallMetadata
    ) -> list[Job | DispatchdError]:
        """Give failed jobs a new budget of attempts; a job or an error for each id, in order.

        Not repeated while the server is unavailable: after an unclear first try the second would say of a job that
        is already on its way that it is no dead letter.
        """
        answers: list[Job | DispatchdError] = []
        for begin in range(0, len(job_ids), MAX_REDRIVES):
            request = v1.RedriveDeadLettersRequest(job_ids=job_ids[begin : begin + MAX_REDRIVES])
            try:
                response = await call_once(
                    self._stub.RedriveDeadLetters, request, deadline_in(timeout_s), call_metadata
                )
            except DispatchdError as error:
                if not answers:
                    raise
                # What the calls before this one did must not get lost with it.
                answers.extend([error] * (len(job_ids) - len(answers)))
                break
            answers.extend(
                job_from(result.job, with_result=False)
                if result.HasField("job")
                else redrive_error_from(refusal_of_item(result.error))
                for result in response.results
            )
        return answers

    async def workers(
        self, page_token: str, page_size: int, timeout_s: float, call_metadata: CallMetadata
    ) -> Page[RegisteredWorker]:
        """Fetch a page of the registry, by worker id."""
        request = v1.ListWorkersRequest(page_size=page_size, page_token=page_token)
        response = await call_until_available(self._stub.ListWorkers, request, deadline_in(timeout_s), call_metadata)
        return Page([worker_from(worker) for worker in response.workers], response.next_page_token)

    async def queues(self, timeout_s: float, call_metadata: CallMetadata) -> list[ReadyQueue]:
        """Fetch the ready queues that are not empty, by capability."""
        request = v1.ListQueuesRequest()
        response = await call_until_available(self._stub.ListQueues, request, deadline_in(timeout_s), call_metadata)
        return [queue_from(queue) for queue in response.queues]
