"""What operators do: look at dead letters, workers and queues, and redrive."""

from collections.abc import Sequence
from datetime import datetime

from dispatchd.application.announcer import Announcer
from dispatchd.application.page_token import Page, read_token, write_token
from dispatchd.application.ports import JobStore, NotPermitted
from dispatchd.application.read_jobs import checked_page_size
from dispatchd.application.region_watch import RegionWatch
from dispatchd.domain import limits
from dispatchd.domain.errors import DispatchdError, InvalidRequest, JobNotFound, NotDeadLettered, Unavailable
from dispatchd.domain.ids import ExecutionId, IdGenerator, JobId, format_job_id, parse_job_id
from dispatchd.domain.views import JobView, QueueView, WorkerView

MOST_QUEUES = 10_000


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
        before = None
        if page_token:
            time_text, id_text = read_token(page_token, scope)
            before = datetime.fromisoformat(time_text), parse_job_id(id_text)
        found = await self._store.dead_letters(before, job_type or None, most + 1)
        page = found[:most]
        token = ""
        if len(found) > most:
            failed_at, last = page[-1]
            token = write_token(scope, failed_at.isoformat(), format_job_id(last.job_id))
        return Page([job for _, job in page], token)

    async def redrive(self, job_ids: Sequence[str]) -> list[JobView | DispatchdError]:
        """Gives failed jobs a new budget; an answer for each id, in order."""
        if not 1 <= len(job_ids) <= limits.SUBMIT_ITEMS:
            raise InvalidRequest("job_ids", f"must have 1 to {limits.SUBMIT_ITEMS} entries")
        self._region.check_takes_work()
        parsed = [_parsed(text) for text in job_ids]
        wanted: dict[JobId, ExecutionId] = {
            job_id: self._ids.execution_id() for job_id in parsed if not isinstance(job_id, DispatchdError)
        }
        try:
            outcomes = await self._store.redrive(list(wanted.items()), self._region.fence)
        except NotPermitted as exc:
            raise await self._region.explain(exc) from exc
        self._announcer.ready([o.entry for o in outcomes.values() if o.entry is not None])
        views = await self._store.summaries([job_id for job_id, o in outcomes.items() if o.entry is not None])
        answers: list[JobView | DispatchdError] = []
        for job_id in parsed:
            if isinstance(job_id, DispatchdError):
                answers.append(job_id)
            elif (view := views.get(job_id)) is not None:
                answers.append(view)
            elif (state := outcomes[job_id].state) is None:
                answers.append(JobNotFound(format_job_id(job_id)))
            elif outcomes[job_id].entry is not None:
                answers.append(Unavailable("redriven, and gone meanwhile"))
            else:
                answers.append(NotDeadLettered(format_job_id(job_id), state))
        return answers

    async def workers(self, page_size: int, page_token: str) -> Page[WorkerView]:
        """The registry by worker id."""
        most = checked_page_size(page_size)
        after = read_token(page_token, "workers")[0] if page_token else ""
        found = await self._store.workers(after, most + 1)
        page = found[:most]
        return Page(page, write_token("workers", page[-1].worker_id) if len(found) > most else "")

    async def queues(self) -> list[QueueView]:
        """What waits, by capability."""
        return await self._store.queues(MOST_QUEUES)


def _parsed(text: str) -> JobId | DispatchdError:
    try:
        return parse_job_id(text, field="job_ids")
    except InvalidRequest as exc:
        return exc
