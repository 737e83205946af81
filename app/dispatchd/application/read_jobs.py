"""Reads of clients: one job, a page of its executions."""

from dispatchd.application.page_token import Page, labels_bytes, page_of, read_token, text_bytes, write_token
from dispatchd.application.ports import JobStore
from dispatchd.domain import limits
from dispatchd.domain.errors import InvalidRequest
from dispatchd.domain.ids import JobId
from dispatchd.domain.views import ExecutionView, JobView

_EXECUTION_OVERHEAD_BYTES = 192
"""Two ids, three times and the small numbers."""
_LARGEST_DELIVERY = 2**31 - 1


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
        after = read_token(page_token, scope, _delivery) if page_token else 0
        found = await self._store.executions(job_id, after, most + 1)
        return page_of(found, most, _size_bytes, lambda last: write_token(scope, str(last.delivery)))


def checked_page_size(page_size: int) -> int:
    """0 is the default; raises InvalidRequest below 0 and above 1,000."""
    if not 0 <= page_size <= limits.LARGEST_PAGE_SIZE:
        raise InvalidRequest(
            "page_size", f"must be 1 to {limits.LARGEST_PAGE_SIZE}, or 0 for {limits.DEFAULT_PAGE_SIZE}"
        )
    return page_size or limits.DEFAULT_PAGE_SIZE


def _delivery(text: str) -> int:
    delivery = int(text)
    if not 0 < delivery <= _LARGEST_DELIVERY:
        raise ValueError("no delivery number")
    return delivery


def _size_bytes(execution: ExecutionView) -> int:
    texts = text_bytes(execution.error_message, execution.error_type, execution.worker_id)
    return texts + labels_bytes(execution.metadata) + _EXECUTION_OVERHEAD_BYTES
