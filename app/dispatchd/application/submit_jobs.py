"""Submit: concurrent calls are gathered into one transaction and acked after its commit."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from dispatchd.application.announcer import Announcer
from dispatchd.application.group_commit import GroupCommit
from dispatchd.application.ports import DatabaseUnavailable, JobStore, NotPermitted, StoredJob
from dispatchd.application.region_watch import RegionWatch
from dispatchd.domain.errors import DispatchdError, IdempotencyConflict, Overloaded, Unavailable
from dispatchd.domain.ids import IdGenerator, format_job_id
from dispatchd.domain.submission import (
    NO_TRACE,
    NewJob,
    Submission,
    TraceContext,
    check_submission,
    key_digest,
    request_digest,
)
from dispatchd.domain.views import JobView

_TRIES = 3
_RETRY_LOST_CONNECTION = timedelta(seconds=1)
_RETRY_PAUSE_S = 0.05


class SubmitJobs:
    """Stores jobs durably; a repeat with the same idempotency key gets the first job."""

    def __init__(
        self,
        store: JobStore,
        announcer: Announcer,
        region: RegionWatch,
        ids: IdGenerator,
        *,
        queue_items: int,
        queue_bytes: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._region = region
        self._ids = ids
        self._now = now
        # Of 64 clients with a call each, three or four had been read when a batch ended; the others waited in gRPC.
        self.commits: GroupCommit[NewJob, StoredJob] = GroupCommit(
            "submit", self._insert, most_items=queue_items, most_bytes=queue_bytes, callers_for_each_known=2
        )

    async def submit(self, submission: Submission, trace: TraceContext = NO_TRACE) -> JobView:
        """Stores one job. Raises what the contract says of SubmitJob."""
        await self._region.check_takes_work()
        new_job = self.checked(submission, trace)
        try:
            stored = await self.commits.put(new_job, submission.size_bytes)
        except NotPermitted as exc:
            raise await self._region.explain(exc) from exc
        if stored.request_digest != new_job.request_digest:
            raise IdempotencyConflict(format_job_id(stored.view.job_id))
        return stored.view

    def checked(self, submission: Submission, trace: TraceContext) -> NewJob:
        """Checks a submission and gives it its ids, in the order of the calls. Raises InvalidRequest."""
        check_submission(submission, self._now())
        return NewJob(
            self._ids.job_id(),
            self._ids.execution_id(),
            submission,
            key_digest(submission.idempotency_key),
            request_digest(submission),
            trace,
        )

    async def submit_many(
        self, items: Sequence[tuple[Submission, TraceContext] | DispatchdError]
    ) -> list[JobView | DispatchdError]:
        """Stores several, in batches in their order; an item that is an error already stays one."""
        await self._region.check_takes_work()
        answers: list[JobView | DispatchdError] = []
        pending: list[tuple[int, NewJob, asyncio.Future[StoredJob]]] = []
        full: Overloaded | None = None
        for item in items:
            if isinstance(item, DispatchdError):
                answers.append(item)
                continue
            submission, trace = item
            try:
                new_job = self.checked(submission, trace)
                if full is not None:
                    raise full
                future = await self.commits.reserve(new_job, submission.size_bytes)
            except DispatchdError as exc:
                # Once the queue stayed full for one item, the rest of the call does not wait for it again.
                full = exc if isinstance(exc, Overloaded) else full
                answers.append(exc)
                continue
            pending.append((len(answers), new_job, future))
            answers.append(_NOT_YET)
        try:
            for position, new_job, future in pending:
                answers[position] = await self._answer(new_job, future)
        finally:
            # A caller who has gone needs nothing that is still queued.
            for _, _, future in pending:
                future.cancel()
        return answers

    async def _answer(self, new_job: NewJob, future: asyncio.Future[StoredJob]) -> JobView | DispatchdError:
        try:
            stored = await future
        except NotPermitted as exc:
            return await self._region.explain(exc)
        except DispatchdError as exc:
            return exc
        same = stored.request_digest == new_job.request_digest
        return stored.view if same else IdempotencyConflict(format_job_id(stored.view.job_id))

    async def _insert(self, jobs: Sequence[NewJob]) -> Sequence[StoredJob]:
        """One batch. A key whose first job vanished between insert and look is tried again."""
        stored = await self._insert_surely(jobs)
        for _ in range(_TRIES):
            again = [job for job, found in zip(jobs, stored, strict=True) if found is None]
            if not again:
                break
            found_again = iter(await self._store.insert(again, self._region.fence))
            stored = [next(found_again) if found is None else found for found in stored]
        complete = [found for found in stored if found is not None]
        if len(complete) < len(jobs):
            raise Unavailable("an idempotency key changed hands meanwhile: try again")
        self._announce(complete)
        return complete

    async def _insert_surely(self, jobs: Sequence[NewJob]) -> list[StoredJob | None]:
        """Tries again after a lost connection: whether the batch was committed is unclear, and the ids, made before
        the first try, show it."""
        give_up_at = time.monotonic() + _RETRY_LOST_CONNECTION.total_seconds()
        while True:
            try:
                return await self._store.insert(jobs, self._region.fence)
            except DatabaseUnavailable:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(_RETRY_PAUSE_S)

    def _announce(self, stored: Sequence[StoredJob]) -> None:
        """Of a repeat too: the try that stored the job may have lost its answer, and with it the chance to say so."""
        for found in stored:
            created_at, run_at = found.view.created_at, found.view.run_at
            if found.ready is None and run_at is not None and run_at > created_at:
                self._announcer.waiting(run_at - created_at)
        self._announcer.ready([found.ready for found in stored if found.ready is not None])


_NOT_YET = Unavailable("not answered yet")
