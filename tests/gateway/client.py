"""A client of the control-plane, as short as the tests want it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc.aio

from dispatchd.v1 import dispatchd_pb2 as pb
from dispatchd.v1 import dispatchd_pb2_grpc


class Client:
    """Submits, cancels and reads jobs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._jobs: Any = dispatchd_pb2_grpc.JobServiceStub(channel)
        self._operator: Any = dispatchd_pb2_grpc.OperatorServiceStub(channel)

    async def submit(
        self,
        job_type: str = "email.send",
        *,
        payload: bytes = b"{}",
        priority: int = 0,
        max_attempts: int = 0,
        backoff_s: float | None = None,
        timeout: timedelta | None = None,
        metadata: dict[str, str] | None = None,
    ) -> str:
        """Stores a job; returns its id."""
        request = pb.SubmitJobRequest(job_type=job_type, payload=payload, priority=priority, metadata=metadata)
        request.retry_policy.max_attempts = max_attempts
        if backoff_s is not None:
            request.retry_policy.initial_backoff.FromTimedelta(timedelta(seconds=backoff_s))
            request.retry_policy.max_backoff.FromTimedelta(timedelta(seconds=backoff_s))
        if timeout is not None:
            request.timeout.FromTimedelta(timeout)
        answer = await self._jobs.SubmitJob(request, timeout=10.0)
        job_id: str = answer.job.job_id
        return job_id

    async def submit_many(self, count: int, job_type: str = "email.send", *, priority: int = 0) -> list[str]:
        """Stores equal jobs in one call; their ids in order."""
        item = pb.SubmitJobsItem(
            request=pb.SubmitJobRequest(job_type=job_type, payload=b"{}", priority=priority),
        )
        answer = await self._jobs.SubmitJobs(pb.SubmitJobsRequest(items=[item] * count), timeout=30.0)
        return [result.job.job_id for result in answer.results]

    async def cancel(self, job_id: str) -> pb.Job:
        answer = await self._jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), timeout=10.0)
        job: pb.Job = answer.job
        return job

    async def job(self, job_id: str) -> pb.Job:
        answer = await self._jobs.GetJob(pb.GetJobRequest(job_id=job_id), timeout=10.0)
        job: pb.Job = answer.job
        return job

    async def wait(self, job_id: str) -> pb.Job:
        """The job when it has ended, or after 30 s."""
        answer = await self._jobs.WaitJob(pb.WaitJobRequest(job_id=job_id), timeout=40.0)
        job: pb.Job = answer.job
        return job

    async def queues(self) -> list[pb.Queue]:
        answer = await self._operator.ListQueues(pb.ListQueuesRequest(), timeout=10.0)
        return list(answer.queues)

    async def executions(self, job_id: str) -> list[pb.Execution]:
        answer = await self._jobs.ListExecutions(pb.ListExecutionsRequest(job_id=job_id), timeout=10.0)
        return list(answer.executions)


@asynccontextmanager
async def client(address: str) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Client(channel)
