"""The control-plane: submissions, queries, cancels, operators' calls. Any number of processes."""

import asyncio
import logging

from dispatchd.adapters.grpc import job_service, operator_service
from dispatchd.adapters.grpc.job_service import JobService
from dispatchd.adapters.grpc.operator_service import OperatorService
from dispatchd.adapters.grpc.transport import GrpcServer
from dispatchd.adapters.postgres.jobs import PostgresJobStore
from dispatchd.adapters.redis.signals import listen, read_ids
from dispatchd.application.cancel_job import CancelJob
from dispatchd.application.operate import Operate
from dispatchd.application.read_jobs import ReadJobs
from dispatchd.application.submit_jobs import SubmitJobs
from dispatchd.application.wait_job import WaitJob
from dispatchd.domain.ids import JobId
from dispatchd.entrypoints.lifecycle import Backends, call_pipeline, probes, run_role, running, tls_credentials
from dispatchd.entrypoints.settings import Role, Settings

_log = logging.getLogger(__name__)


def main() -> int:
    """Runs the role; returns the exit code."""
    return run_role(Role.CONTROL_PLANE, serve)


async def serve(settings: Settings, backends: Backends, stop: asyncio.Event) -> None:
    """Serves until `stop`, then lets calls in flight end within the shutdown timeout."""
    store = PostgresJobStore(backends.database)
    submit = SubmitJobs(
        store,
        backends.announcer,
        backends.region,
        backends.ids,
        queue_items=settings.submit_queue_items,
        queue_bytes=settings.submit_queue_bytes,
    )
    wait = WaitJob(store, backends.announcer.somebody_waits, most_waiters=settings.waiters)
    jobs = JobService(submit, ReadJobs(store), wait, CancelJob(store, backends.announcer, backends.region))
    operators = OperatorService(Operate(store, backends.announcer, backends.region, backends.ids))
    server = GrpcServer(call_pipeline(settings), connection_age=settings.connection_age)
    server.add_service(job_service.NAME, jobs.handlers())
    server.add_service(operator_service.NAME, operators.handlers())

    def job_finished(message: bytes) -> None:
        wait.finished(JobId(job_id) for job_id in read_ids(message))

    loops = {
        "region_watch": backends.region.run,
        "announcer": backends.announcer.run,
        "submit commits": submit.commits.run,
        "wait_job": wait.run,
        "signals": lambda: listen(backends.redis, {backends.signals.finished: job_finished}, lambda: None),
    }
    is_serving = False
    async with running(loops), probes(settings, backends, lambda: is_serving):
        await server.start(settings.grpc_port, tls_credentials(settings))
        await server.serving(is_serving=True)
        is_serving = True
        _log.info("serving", extra={"grpc_port": server.port, "metrics_port": settings.metrics_port})
        try:
            await stop.wait()
            is_serving = False
            await server.serving(is_serving=False)
            wait.release_all()
        finally:
            await server.stop(settings.shutdown_timeout)
