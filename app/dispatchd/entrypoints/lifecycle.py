"""How every role runs and stops.

::

    settings ──▶ backends open ──▶ schema fits? ──▶ loops and servers in one TaskGroup ──▶ serving
                                                                                              │ SIGTERM, SIGINT
    adapters close ◀── loops end ◀── in-flight work settles or moves on ◀── intake closes ◀───┘

A loop that ends by itself ends the process. A process that does not stop in time is ended by a timer.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import uvloop
from redis.asyncio import Redis

from dispatchd.adapters.grpc.call import CallPipeline
from dispatchd.adapters.grpc.tls import ServerCredentials, TlsFiles, UnusableCertificate, server_credentials
from dispatchd.adapters.postgres.database import Database
from dispatchd.adapters.postgres.migrate import SchemaMismatch, check_schema
from dispatchd.adapters.postgres.recovery import PostgresRegionStore
from dispatchd.adapters.redis.connection import open_redis
from dispatchd.adapters.redis.ready_queue import RedisReadyQueue
from dispatchd.adapters.redis.signals import RedisSignals
from dispatchd.adapters.tokens import TokenVerifier
from dispatchd.application.announcer import Announcer
from dispatchd.application.ports import DatabaseMisconfigured, DatabaseUnavailable
from dispatchd.application.region_watch import RegionWatch
from dispatchd.domain.ids import IdGenerator
from dispatchd.domain.region import RegionFence
from dispatchd.entrypoints.http_probes import serve_probes
from dispatchd.entrypoints.settings import Role, Settings, SettingsError, load_settings
from dispatchd.telemetry import logs, metrics

GC_THRESHOLDS = (50_000, 20, 50)
"""Batches make thousands of short-lived objects; reference counting frees them, so collections can be rare."""
MOST_OPEN_FILES = 1024 * 1024
START_PATIENCE_S = 30.0
STOP_MARGIN_S = 5.0
_LOOK_AGAIN_S = 0.5
EXIT_MISTAKE = 2
_CANCEL_AGAIN_S = 0.1
EXIT_FAILED = 1
_log = logging.getLogger(__name__)

Loop = Callable[[], Awaitable[None]]
Serve = Callable[[Settings, "Backends", asyncio.Event], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Backends:
    """What every role opens, in this order, and closes in the other."""

    database: Database
    redis: Redis
    queue: RedisReadyQueue
    signals: RedisSignals
    region: RegionWatch
    announcer: Announcer
    ids: IdGenerator


def run_role(role: Role, serve: Serve) -> int:
    """Runs a role until a signal; returns the exit code: 0 stopped, 1 failed, 2 settings or schema don't fit."""
    try:
        settings = load_settings(role, os.environ)
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_MISTAKE
    try:
        logs.configure_logging(
            settings.log_level, role, settings.instance_id, settings.region, audit_file=_audit_file(settings)
        )
    except OSError as exc:
        sys.stderr.write(f"AUDIT_LOG_FILE can't be written: {exc}\n")
        return EXIT_MISTAKE
    for warning in settings.warnings:
        _log.warning(warning)
    allow_many_connections()
    metrics.BUILD.labels(version=_version(), role=role, region=settings.region).set(1)
    try:
        uvloop.run(_run(settings, serve))
    except (SchemaMismatch, DatabaseMisconfigured) as exc:
        _log.error(str(exc))
        return EXIT_MISTAKE
    except (DatabaseUnavailable, UnusableCertificate, OSError) as exc:
        _log.error("can't start: %s", exc)
        return EXIT_FAILED
    except Exception:
        _log.exception("the role failed")
        return EXIT_FAILED
    return 0


def allow_many_connections() -> None:
    """Raises the limit of open files, of which each connection is one, as far as this user may: 1,024 are usual, and a
    role without a free one can neither answer probes nor reach its stores."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _audit_file(settings: Settings) -> logs.RotatingFile | None:
    audit = settings.audit
    if not audit.enabled or audit.file is None:
        return None
    return logs.RotatingFile(audit.file, audit.file_bytes, audit.files_kept)


async def _run(settings: Settings, serve: Serve) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_stray_failure)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, settings)
    with suppress(_StoppedEarly):
        async with open_backends(settings, stop) as backends:
            # What start-up made lives as long as the process; collections need not look at it.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            await serve(settings, backends, stop)
    _log.info("stopped")


def _on_stray_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What failed and nobody waits for. A handshake that fails in the moment when its time is up is no defect."""
    exc = context.get("exception")
    if isinstance(exc, OSError):
        _log.info("a connection failed that nobody waits for", extra={"error": f"{type(exc).__name__}: {exc}"})
    else:
        loop.default_exception_handler(context)


def _on_signal(stop: asyncio.Event, settings: Settings) -> None:
    if stop.is_set():
        os._exit(EXIT_FAILED)
    _log.info("stopping")
    stop.set()
    limit_s = settings.shutdown_timeout.total_seconds() + STOP_MARGIN_S
    backstop = threading.Timer(limit_s, os._exit, args=(EXIT_FAILED,))
    backstop.daemon = True
    backstop.start()


@asynccontextmanager
async def open_backends(settings: Settings, stop: asyncio.Event | None = None) -> AsyncIterator[Backends]:
    """Opens Postgres and Redis and reads the region row; waits for Postgres, but not beyond `stop`. Raises
    SchemaMismatch, DatabaseUnavailable."""
    database = Database(
        settings.database_url,
        connections=settings.database_connections,
        application_name=f"dispatchd {settings.role} {settings.instance_id}"[:63],
        on_failure=lambda: metrics.DATABASE_UP.set(0),
    )
    async with database:
        await _wait_for_schema(database, stop or asyncio.Event())
        fence = RegionFence(settings.region, settings.region_epoch, settings.allow_mutations)
        region = RegionWatch(PostgresRegionStore(database), fence)
        await region.look()
        redis = open_redis(
            settings.redis.host,
            settings.redis.port,
            password=settings.redis.password,
            db=settings.redis.db,
            tls=settings.redis.tls,
            tls_ca_file=settings.redis.tls_ca_file,
        )
        queue = RedisReadyQueue(redis, settings.ready_queue_prefix)
        signals = RedisSignals(redis, settings.ready_queue_prefix)
        try:
            yield Backends(database, redis, queue, signals, region, Announcer(queue, signals), IdGenerator())
        finally:
            await redis.aclose()


class _StoppedEarly(Exception):
    """The role was told to stop before it had begun to serve."""


async def _wait_for_schema(database: Database, stop: asyncio.Event) -> None:
    deadline = asyncio.get_running_loop().time() + START_PATIENCE_S
    while True:
        try:
            await check_schema(database)
        except DatabaseMisconfigured:
            raise
        except DatabaseUnavailable as exc:
            if asyncio.get_running_loop().time() > deadline:
                raise
            _log.warning("waiting for the database: %s", exc)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await stop.wait()
                    raise _StoppedEarly from exc
        else:
            return


def call_pipeline(settings: Settings) -> CallPipeline:
    """What stands around every call of a role's gRPC server."""
    auth = settings.auth
    verifier = None if auth is None else TokenVerifier(auth.keys, issuer=auth.issuer, audience=auth.audience)
    return CallPipeline(verifier, audits=settings.audit.enabled)


def tls_credentials(settings: Settings) -> ServerCredentials | None:
    """TLS of a role's gRPC server, if it is on. Raises UnusableCertificate."""
    tls = settings.tls
    if tls is None:
        return None
    return server_credentials(
        TlsFiles(tls.certificate, tls.key, tls.client_authority),
        require_client_certificate=tls.client_authority is not None,
    )


@asynccontextmanager
async def probes(settings: Settings, backends: Backends, is_serving: Callable[[], bool]) -> AsyncIterator[int]:
    """The HTTP port: ready while the role serves and Postgres answers; Redis is not asked."""

    async def ready() -> str | None:
        if not is_serving():
            return "the role is starting or stopping"
        try:
            await backends.region.look()
        except DatabaseUnavailable as exc:
            return str(exc)
        metrics.DATABASE_UP.set(1)
        return None

    async with serve_probes(settings.metrics_port, ready, metrics.REGISTRY) as port:
        yield port


@asynccontextmanager
async def running(loops: Mapping[str, Loop]) -> AsyncIterator[None]:
    """Runs loops, each a named task, around a block; the end of a loop by itself is an error that ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_endless(name, loop), name=name) for name, loop in loops.items()]
        try:
            yield
        finally:
            await _end(tasks)


async def _end(tasks: "Sequence[asyncio.Task[None]]") -> None:
    """Cancels until all have ended: before Python 3.12 `asyncio.wait_for` inside a library may swallow a cancel."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)


async def _endless(name: str, loop: Loop) -> None:
    await loop()
    raise RuntimeError(f"the loop {name} ended by itself")


def _version() -> str:
    return version("dispatchd")
