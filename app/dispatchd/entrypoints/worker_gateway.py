"""The worker-gateway: worker streams, claims, results. Any number of processes."""

import asyncio
import logging

from dispatchd.adapters.grpc import worker_service
from dispatchd.adapters.grpc.transport import GrpcServer
from dispatchd.adapters.grpc.worker_service import WorkerService
from dispatchd.adapters.postgres.claims import PostgresClaimStore
from dispatchd.adapters.postgres.sessions import PostgresSessionStore
from dispatchd.adapters.postgres.settlements import PostgresSettlementStore
from dispatchd.adapters.redis.signals import listen, read_cancel, read_ids
from dispatchd.application.gateway.admission import Admission
from dispatchd.application.gateway.claimer import Claimer
from dispatchd.application.gateway.closing import StreamCloser
from dispatchd.application.gateway.opening import SessionOpener
from dispatchd.application.gateway.renewals import Renewer
from dispatchd.application.gateway.reports import ReportCollector
from dispatchd.application.gateway.streams import WorkerStreams
from dispatchd.application.gateway.turns import DatabaseTurns
from dispatchd.application.settler import Settler
from dispatchd.domain.ids import SessionId
from dispatchd.entrypoints.lifecycle import Backends, call_pipeline, probes, run_role, running, tls_credentials
from dispatchd.entrypoints.settings import Role, Settings

_log = logging.getLogger(__name__)


def main() -> int:
    """Runs the role; returns the exit code."""
    return run_role(Role.WORKER_GATEWAY, serve)


async def serve(settings: Settings, backends: Backends, stop: asyncio.Event) -> None:
    """Serves until `stop`; then workers that can resume move on, the others finish within the shutdown timeout."""
    database, region, announcer, ids = backends.database, backends.region, backends.announcer, backends.ids
    claims, sessions, settlements = (
        PostgresClaimStore(database),
        PostgresSessionStore(database),
        PostgresSettlementStore(database),
    )
    settler = Settler(settlements, announcer, region, ids)
    reports = ReportCollector(
        settlements,
        settler,
        region,
        queue_items=settings.result_queue_items,
        queue_bytes=settings.result_queue_bytes,
    )
    turns = DatabaseTurns(max(1, settings.database_connections // 3))
    closer = StreamCloser(sessions, region, turns)
    opener = SessionOpener(
        sessions,
        settler,
        region,
        ids,
        turns,
        closer,
        gateway=settings.instance_id,
        lease=settings.lease_duration,
        worker_certificates=settings.tls is not None and settings.tls.worker_must_match,
    )
    admission = Admission(
        sessions=settings.sessions,
        streams=settings.streams_per_principal,
        registrations_a_minute=settings.registrations_per_minute,
    )
    streams = WorkerStreams(admission, opener, closer, turns, sessions, reports, announcer, region)
    claimer = Claimer(claims, backends.queue, settler, region, streams.sessions, settings.max_execution_time)
    streams.claimer = claimer
    renewer = Renewer(
        sessions,
        claimer,
        region,
        streams.sessions,
        lease=settings.lease_duration,
        silence_limit=settings.worker_heartbeat_ttl,
    )
    region.on_change(streams.region_changed)
    pipeline = call_pipeline(settings)
    server = GrpcServer(pipeline)
    service = WorkerService(streams, claims, pipeline, connection_age=settings.connection_age)
    server.add_stream(worker_service.NAME, worker_service.METHOD, service.connect)

    def became_ready(message: bytes) -> None:
        streams.ready(message.decode(errors="replace").split("\n"))

    def canceled(message: bytes) -> None:
        if (signal := read_cancel(message)) is not None:
            streams.canceled(*signal)

    def superseded(message: bytes) -> None:
        for session_id in read_ids(message):
            streams.superseded(SessionId(session_id))

    def subscribed() -> None:
        # What was said before was not heard.
        announcer.heard_that_somebody_waits()
        claimer.wake()

    handlers = {
        backends.signals.wake: became_ready,
        backends.signals.waiting: lambda _: announcer.heard_that_somebody_waits(),
        backends.signals.cancel: canceled,
        backends.signals.supersede: superseded,
    }
    loops = {
        "region_watch": region.run,
        "announcer": announcer.run,
        "complete commits": reports.commits.run,
        "claimer": claimer.run,
        "renewer": renewer.run,
        "signals": lambda: listen(backends.redis, handlers, subscribed),
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
            await streams.drain(settings.shutdown_timeout)
        finally:
            await server.stop(worker_service.LAST_WORDS)
            await streams.all_told(worker_service.LAST_WORDS)
