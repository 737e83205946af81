"""Reads of clients: one job, a page of its executions."""

from dispatchd.application.page_token import Page, read_token, write_token
from dispatchd.application.ports import JobStore
from dispatchd.domain import limits
from dispatchd.domain.errors import InvalidRequest
from dispatchd.domain.ids import JobId
from dispatchd.domain.views import ExecutionView, JobView

_EXECUTION_OVERHEAD_BYTES = 512


class ReadJobs:
    """Works in a passive region too."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    async def get(self, job_id: JobId) -> JobView:
        """One job as it is now. Raises JobNotFound."""
        return await self._store.get(job_id)

    async def executions(self, job_id: JobId, page_size: int, page_token: str) -> Page[ExecutionView]:
        """A page of executions, oldest first; shorter than `page_size` where the answer would grow too large."""
        most = checked_page_size(page_size)
        scope = f"executions:{job_id.hex}"
        after = int(read_token(page_token, scope)[0]) if page_token else 0
        found = await self._store.executions(job_id, after, most + 1)
        page: list[ExecutionView] = []
        room = limits.ANSWER_BYTES
        for execution in found[:most]:
            room -= _size_bytes(execution)
            if page and room < 0:
                break
            page.append(execution)
        has_more = len(found) > len(page)
        return Page(page, write_token(scope, str(page[-1].delivery)) if page and has_more else "")


def checked_page_size(page_size: int) -> int:
    """0 is the default; raises InvalidRequest below 0 and above 1,000."""
    if not 0 <= page_size <= limits.LARGEST_PAGE_SIZE:
        raise InvalidRequest(
            "page_size", f"must be 1 to {limits.LARGEST_PAGE_SIZE}, or 0 for {limits.DEFAULT_PAGE_SIZE}"
        )
    return page_size or limits.DEFAULT_PAGE_SIZE


def _size_bytes(execution: ExecutionView) -> int:
    texts = [execution.error_message, execution.error_type, execution.worker_id]
    texts += [text for pair in execution.metadata.items() for text in pair]
    return sum(len(text.encode()) for text in texts) + _EXECUTION_OVERHEAD_BYTES
