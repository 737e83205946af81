"""Waiting for a job to end, with WaitJob or, on older servers, by asking again and again."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from dispatchd.sdk.backoff import Backoff
from dispatchd.sdk.channel import CallMetadata
from dispatchd.sdk.client.retrying import call_once, deadline_in, until_available
from dispatchd.sdk.client.wait_connections import WaitConnections
from dispatchd.sdk.errors import DeadlineExceeded, NotSupported, Overloaded, Unavailable
from dispatchd.sdk.from_wire import job_from
from dispatchd.sdk.job import Job
from dispatchd.v1 import dispatchd_pb2 as v1

# One WaitJob call; the server takes at most 60 s.
ONE_WAIT_S = 30.0
# The server answers 200 ms before the caller's deadline, so the deadline lies well behind the wait.
ANSWER_GRACE_S = 5.0
# The server is asked to answer so much before the caller's own time is over, so that the caller sees the job.
ANSWER_EARLY_S = 0.2
FIRST_POLL_S = 0.05
LONGEST_POLL_S = 1.0


class JobWaiter:
    """Waits for jobs, and remembers whether the server knows WaitJob."""

    def __init__(self, connections: WaitConnections):
        self._connections = connections
        self._has_wait_job = True

    async def wait(self, job_id: str, timeout_s: float | None, patience_s: float, call_metadata: CallMetadata) -> Job:
        """Return the job once it has ended; `DeadlineExceeded` with the job as last seen if that takes longer.

        A server that is unavailable or overloaded is asked again; after a call's length and `patience_s` without an
        answer its error is raised.
        """
        job: Job | None = None
        ends_at = None if timeout_s is None else deadline_in(timeout_s)
        polls = Backoff(FIRST_POLL_S, LONGEST_POLL_S)
        try:
            async with asyncio.timeout_at(ends_at):
                while True:
                    job = await self._look(job_id, ends_at, patience_s, call_metadata)
                    if job.ended:
                        return job
                    if ends_at is not None and ends_at - asyncio.get_running_loop().time() < ANSWER_EARLY_S:
                        raise TimeoutError
                    if not self._has_wait_job:
                        await asyncio.sleep(polls.next_s())
        except TimeoutError as exc:
            state = f"it is {job.status}" if job else "the server has not answered"
            raise DeadlineExceeded(f"job {job_id} has not ended within {timeout_s:.3g} s: {state}", job=job) from exc

    async def _look(self, job_id: str, ends_at: float | None, patience_s: float, call_metadata: CallMetadata) -> Job:
        clock = asyncio.get_running_loop().time

        async def ask() -> v1.Job:
            if self._has_wait_job:
                wait_s = (
                    ONE_WAIT_S if ends_at is None else max(min(ONE_WAIT_S, ends_at - clock() - ANSWER_EARLY_S), 0.0)
                )
                request = v1.WaitJobRequest(job_id=job_id)
                request.wait.FromTimedelta(timedelta(seconds=wait_s))
                try:
                    async with self._connections.stub() as stub:
                        answer_by = clock() + wait_s + ANSWER_GRACE_S
                        return (await call_once(stub.WaitJob, request, answer_by, call_metadata)).job
                except DeadlineExceeded as exc:
                    raise Unavailable("the server did not answer WaitJob in time") from exc
                except NotSupported:
                    self._has_wait_job = False
            async with self._connections.stub() as stub:
                answer_by = clock() + ANSWER_GRACE_S
                return (await call_once(stub.GetJob, v1.GetJobRequest(job_id=job_id), answer_by, call_metadata)).job

        give_up_at = deadline_in(ONE_WAIT_S + ANSWER_GRACE_S + patience_s)
        return job_from(await until_available(ask, give_up_at, (Unavailable, Overloaded)))
