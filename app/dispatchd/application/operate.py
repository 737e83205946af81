"""What operators do: look at dead letters, workers and queues, and redrive."""

from collections.abc import Sequence
from datetime import datetime

from dispatchd.application.announcer import Announcer
from dispatchd.application.group_commit import execute_isolated
from dispatchd.application.page_token import Page, labels_bytes, page_of, read_token, text_bytes, write_token
from dispatchd.application.ports import DatabaseUnavailable, JobStore, NotPermitted, RedriveOutcome
from dispatchd.application.read_jobs import checked_page_size
from dispatchd.application.region_watch import RegionWatch
from dispatchd.domain import limits
from dispatchd.domain.errors import DispatchdError, InvalidRequest, JobNotFound, NotDeadLettered, Unavailable
from dispatchd.domain.ids import ExecutionId, IdGenerator, JobId, format_job_id, parse_job_id
from dispatchd.domain.job import JobState
from dispatchd.domain.views import JobView, QueueView, WorkerView

MOST_QUEUES = 10_000
_OVERHEAD_BYTES = 192
"""An id, the times and the small numbers of a job or worker."""


class Operate:
    """Lists work in a passive region too; redrive does not."""

    def __init__(self, store: JobStore, announcer: Announcer, region: RegionWatch, ids: IdGenerator) -> None:
        self._store = store
        self._announcer = announcer
        self._region = region
        self._ids = ids

    async def dead_letters(self, job_type: str, page_size: int, page_token: str) -> Page[JobView]:
        """Failed jobs, the last to fail first."""
        most = checked_page_size(page_size)
        scope = f"dead_letters:{job_type}"
        before = read_token(page_token, scope, _failed_before) if page_token else None
        found = await self._store.dead_letters(before, job_type or None, most + 1)
        page = page_of(
            found,
            most,
            lambda each: _job_bytes(each[1]),
            lambda last: write_token(scope, last[0].isoformat(), format_job_id(last[1].job_id)),
        )
        return Page([job for _, job in page.items], page.next_token)

    async def redrive(self, job_ids: Sequence[str]) -> list[JobView | DispatchdError]:
        """Gives failed jobs a new budget; an answer for each id, in order."""
        if not 1 <= len(job_ids) <= limits.SUBMIT_ITEMS:
            raise InvalidRequest("job_ids", f"must have 1 to {limits.SUBMIT_ITEMS} entries")
        await self._region.check_takes_work()
        parsed = [_parsed(text) for text in job_ids]
        wanted: dict[JobId, ExecutionId] = {
            job_id: self._ids.execution_id() for job_id in parsed if not isinstance(job_id, DispatchdError)
        }
        found = await execute_isolated(list(wanted.items()), self._redrive)
        outcomes = dict(zip(wanted, found, strict=True))
        for outcome in found:
            if isinstance(outcome, NotPermitted):
                raise await self._region.explain(outcome) from outcome
            if isinstance(outcome, DatabaseUnavailable):
                raise outcome
        views = await self._store.summaries(
            [job_id for job_id, o in outcomes.items() if isinstance(o, RedriveOutcome) and o.entry is not None]
        )
        return [
            job_id if isinstance(job_id, DispatchdError) else _answer(job_id, outcomes[job_id], views.get(job_id))
            for job_id in parsed
        ]

    async def _redrive(self, jobs: Sequence[tuple[JobId, ExecutionId]]) -> Sequence[RedriveOutcome]:
        outcomes = await self._store.redrive(jobs, self._region.fence)
        self._announcer.ready([o.entry for o in outcomes.values() if o.entry is not None])
        return [outcomes[job_id] for job_id, _ in jobs]

    async def workers(self, page_size: int, page_token: str) -> Page[WorkerView]:
        """The registry by worker id."""
        most = checked_page_size(page_size)
        after = read_token(page_token, "workers", str) if page_token else ""
        found = await self._store.workers(after, most + 1)
        return page_of(found, most, _worker_bytes, lambda last: write_token("workers", last.worker_id))

    async def queues(self) -> list[QueueView]:
        """What waits, by capability."""
        return await self._store.queues(MOST_QUEUES)


def _answer(job_id: JobId, outcome: RedriveOutcome | Exception, view: JobView | None) -> JobView | DispatchdError:
    text = format_job_id(job_id)
    match outcome:
        case DispatchdError():
            return outcome
        case Exception():
            return Unavailable(str(outcome))
        case RedriveOutcome(entry=None, state=None):
            return JobNotFound(text)
        case RedriveOutcome(entry=None, state=JobState() as state):
            return NotDeadLettered(text, state)
        case _:
            return view or Unavailable("redriven, and gone meanwhile")


def _failed_before(time_text: str, id_text: str) -> tuple[datetime, JobId]:
    failed_at = datetime.fromisoformat(time_text)
    if failed_at.tzinfo is None:
        raise ValueError("a time without its zone")
    try:
        return failed_at, parse_job_id(id_text)
    except InvalidRequest as exc:
        raise ValueError("no job id") from exc


def _job_bytes(job: JobView) -> int:
    return text_bytes(job.job_type, job.idempotency_key, job.last_error) + _OVERHEAD_BYTES


def _worker_bytes(worker: WorkerView) -> int:
    texts = text_bytes(worker.worker_id, worker.gateway, *worker.capabilities)
    return texts + labels_bytes(worker.labels) + _OVERHEAD_BYTES


def _parsed(text: str) -> JobId | DispatchdError:
    try:
        return parse_job_id(text, field="job_ids")
    except InvalidRequest as exc:
        return exc
