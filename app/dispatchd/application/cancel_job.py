"""Cancel: a waiting or running job ends at once; its worker is told, its slot is freed by the worker's answer."""

from dispatchd.application.announcer import Announcer
from dispatchd.application.ports import JobStore, NotPermitted, TransientConflict
from dispatchd.application.region_watch import RegionWatch
from dispatchd.domain.execution import EndReason
from dispatchd.domain.ids import JobId
from dispatchd.domain.job import JobState
from dispatchd.domain.views import JobView
from dispatchd.telemetry import metrics

_TRIES = 5


class CancelJob:
    """A job that has ended already is answered unchanged."""

    def __init__(self, store: JobStore, announcer: Announcer, region: RegionWatch) -> None:
        self._store = store
        self._announcer = announcer
        self._region = region

    async def cancel(self, job_id: JobId) -> JobView:
        """Ends a job. Raises JobNotFound, RegionReadOnly."""
        await self._region.check_may_change()
        try:
            await self._cancel(job_id)
        except NotPermitted as exc:
            raise await self._region.explain(exc) from exc
        return await self._store.get(job_id)

    async def _cancel(self, job_id: JobId) -> None:
        for attempt in range(_TRIES):
            try:
                ended = await self._store.cancel(job_id, self._region.fence)
                break
            except TransientConflict:
                if attempt == _TRIES - 1:
                    raise
        if ended is None:
            return
        metrics.EXECUTIONS_SETTLED.labels(end_reason=EndReason.CANCELED).inc()
        metrics.JOBS_FINISHED.labels(state=JobState.CANCELED).inc()
        self._announcer.finished([job_id])
        if ended.was_ready:
            self._announcer.ended([ended.entry])
        if ended.session_id is not None:
            self._announcer.canceled(ended.execution_id, ended.session_id, "the job was canceled")
