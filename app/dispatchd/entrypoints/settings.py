"""The settings of a role: the only place that reads the environment, and it reports every mistake at once.

The names and defaults are the operator-facing environment of the wire contract. All roles accept the same names, so
that one environment can be given to all of them; a value that only another role uses is checked all the same.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from dispatchd.entrypoints.database_url import DatabaseUrl, UnusableUrl, parse_database_url
from dispatchd.entrypoints.environment import EnvironmentReader
from dispatchd.entrypoints.security_settings import (
    AuditSettings,
    AuthSettings,
    TlsSettings,
    guard_production,
    read_audit,
    read_auth,
    read_tls,
    read_useless,
)

_LOG_LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "warning": "warning", "error": "error"}
_MIB = 1024 * 1024
_SECOND = timedelta(seconds=1)
_YEAR = timedelta(days=366)


class Role(StrEnum):
    """A kind of process of an installation; the value is also the name of its command."""

    CONTROL_PLANE = "control-plane"
    SCHEDULER = "scheduler"
    WORKER_GATEWAY = "worker-gateway"


_METRICS_PORTS = {Role.CONTROL_PLANE: 9100, Role.SCHEDULER: 9101, Role.WORKER_GATEWAY: 9102}


class SettingsError(Exception):
    """The environment can't be used; `problems` has one line for each mistake, and no line shows a secret."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__("\n".join([f"The environment has {count}:", *(f"- {problem}" for problem in problems)]))


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Where Redis is; `tls_ca_file` replaces the system's certificate authorities."""

    host: str
    port: int
    tls: bool
    password: str | None = field(repr=False)
    db: int
    tls_ca_file: Path | None


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """What the commands `migrate` and `region` need to know."""

    database_url: str = field(repr=False)
    region: str
    primary_region: str
    region_epoch: int | None


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked settings of one process.

    The region row in Postgres decides who may write; `allow_mutations` and `region_epoch` can only take that right
    away. `scheduler_leader_key` and `ready_queue_prefix` already end in the region. `scheduler_poll_interval` is the
    longest sleep of a scheduler loop. `warnings` are sentences to log once at start.
    """

    role: Role
    app_env: str
    region: str
    primary_region: str
    allow_mutations: bool
    region_epoch: int | None
    log_level: str
    grpc_port: int
    metrics_port: int
    shutdown_timeout: timedelta
    database_url: str = field(repr=False)
    redis: RedisSettings
    instance_id: str
    scheduler_poll_interval: timedelta
    lease_duration: timedelta
    worker_heartbeat_ttl: timedelta
    scheduler_leader_key: str
    ready_queue_prefix: str
    max_execution_time: timedelta
    retention: timedelta
    dead_letter_retention: timedelta
    auth: AuthSettings | None
    tls: TlsSettings | None
    audit: AuditSettings
    submit_queue_items: int
    submit_queue_bytes: int
    result_queue_items: int
    result_queue_bytes: int
    waiters: int
    sessions: int
    streams_per_principal: int
    registrations_per_minute: int
    connection_age: timedelta
    database_connections: int
    warnings: tuple[str, ...]


def load_settings(role: Role, environ: Mapping[str, str]) -> Settings:
    """Reads and checks the settings of one role.

    Raises:
        SettingsError: if the environment has any mistake; it lists all of them.
    """
    read = EnvironmentReader(environ)
    settings = read_settings(role, read)
    if read.problems:
        raise SettingsError(list(dict.fromkeys(read.problems)))
    return settings


def read_settings(role: Role, read: EnvironmentReader) -> Settings:
    """Asks for every variable that a role reads; the settings are of use only if the reader found no problem."""
    app_env = read.name("APP_ENV", "development", 64)
    auth, tls, audit = read_auth(read), read_tls(read), read_audit(read)
    warnings = read_useless(read)
    database, database_url = _database(read)
    guard_production(read, app_env, database_url)
    region = database.region
    grpc_port = read.integer("GRPC_PORT", 8080, 0, 65535)
    metrics_port = read.integer("METRICS_PORT", _METRICS_PORTS[role], 0, 65535)
    if role is not Role.SCHEDULER and grpc_port == metrics_port != 0:
        read.refuse("METRICS_PORT", f"the gRPC port is {grpc_port} too; write another port number.")
    return Settings(
        role=role,
        app_env=app_env,
        region=region,
        primary_region=database.primary_region,
        allow_mutations=read.boolean("ALLOW_MUTATIONS", region == database.primary_region),
        region_epoch=database.region_epoch,
        log_level=read.choice("LOG_LEVEL", "info", _LOG_LEVELS),
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        shutdown_timeout=timedelta(seconds=read.integer("SHUTDOWN_TIMEOUT_SECONDS", 10, 1, 3600)),
        database_url=database.database_url,
        redis=_redis(read),
        instance_id=read.name("INSTANCE_ID", _default_instance_id(role, read), 200),
        scheduler_poll_interval=read.duration(
            "SCHEDULER_POLL_INTERVAL", 2 * _SECOND, timedelta(milliseconds=10), 60 * _SECOND
        ),
        lease_duration=read.duration("LEASE_DURATION", 30 * _SECOND, _SECOND, timedelta(hours=24)),
        worker_heartbeat_ttl=read.duration(
            "WORKER_HEARTBEAT_TTL", 45 * _SECOND, timedelta(milliseconds=100), timedelta(hours=24)
        ),
        scheduler_leader_key=f"{read.name('SCHEDULER_LEADER_KEY', 'dispatchd:scheduler:leader', 200)}:{region}",
        ready_queue_prefix=f"{read.name('READY_QUEUE_PREFIX', 'dispatchd:ready', 200)}:{region}",
        max_execution_time=read.duration("MAX_EXECUTION_TIME", timedelta(hours=24), _SECOND, _YEAR),
        retention=read.duration("RETENTION", timedelta(hours=168), _SECOND, 100 * _YEAR),
        dead_letter_retention=read.duration("DEAD_LETTER_RETENTION", timedelta(hours=720), _SECOND, 100 * _YEAR),
        auth=auth,
        tls=tls,
        audit=audit,
        submit_queue_items=read.integer("SUBMIT_QUEUE_ITEMS", 10_000, 1, 10_000_000),
        # Never less than the largest call, which could not pass otherwise.
        submit_queue_bytes=read.integer("SUBMIT_QUEUE_BYTES", 64 * _MIB, 4 * _MIB, 64 * 1024 * _MIB),
        result_queue_items=read.integer("RESULT_QUEUE_ITEMS", 10_000, 1, 10_000_000),
        result_queue_bytes=read.integer("RESULT_QUEUE_BYTES", 64 * _MIB, 4 * _MIB, 64 * 1024 * _MIB),
        waiters=read.integer("WAITERS_LIMIT", 10_000, 1, 1_000_000),
        sessions=read.integer("SESSIONS_LIMIT", 10_000, 1, 1_000_000),
        streams_per_principal=read.integer("STREAMS_PER_PRINCIPAL", 1_000, 1, 1_000_000),
        registrations_per_minute=read.integer("REGISTRATIONS_PER_MINUTE", 6_000, 1, 1_000_000),
        connection_age=read.duration("CONNECTION_AGE", timedelta(hours=1), _SECOND, timedelta(hours=720)),
        database_connections=read.integer("DATABASE_CONNECTIONS", 10, 2, 1_000),
        warnings=warnings,
    )


def load_database_settings(environ: Mapping[str, str]) -> DatabaseSettings:
    """Reads and checks what the commands that only talk to Postgres need.

    Raises:
        SettingsError: if one of these variables is missing or can't be used; it lists all of them.
    """
    read = EnvironmentReader(environ)
    settings, _ = _database(read)
    if read.problems:
        raise SettingsError(read.problems)
    return settings


def _database(read: EnvironmentReader) -> tuple[DatabaseSettings, DatabaseUrl | None]:
    region = read.name("REGION", "local", 64)
    url, parsed = _database_url(read)
    settings = DatabaseSettings(
        database_url=url,
        region=region,
        primary_region=read.name("PRIMARY_REGION", region, 64),
        region_epoch=read.integer("REGION_EPOCH", 1, 1, 2**31 - 1) if read.is_set("REGION_EPOCH") else None,
    )
    return settings, parsed


def _database_url(read: EnvironmentReader) -> tuple[str, DatabaseUrl | None]:
    """The address of Postgres, and its parts if it can be used; it may carry a password, so no message shows it."""
    advice = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE (its value is not shown here)."
    url = read.secret("DATABASE_URL")
    if url is None:
        read.refuse_unshown("DATABASE_URL", "is not set", advice)
        return "", None
    try:
        return url, parse_database_url(url)
    except UnusableUrl as exc:
        read.refuse_unshown("DATABASE_URL", str(exc), advice)
        return url, None


def _redis(read: EnvironmentReader) -> RedisSettings:
    host, port, tls = _redis_address(read)
    tls_ca_file = read.readable_file("REDIS_TLS_CA_FILE")
    if tls_ca_file is not None and not tls:
        read.refuse("REDIS_TLS_CA_FILE", "it needs TLS; write REDIS_ADDRESS as rediss://HOST:PORT, or unset it.")
    return RedisSettings(
        host=host,
        port=port,
        tls=tls,
        password=read.secret("REDIS_PASSWORD"),
        db=read.integer("REDIS_DB", 0, 0, 65535),
        tls_ca_file=tls_ca_file,
    )


def _redis_address(read: EnvironmentReader) -> tuple[str, int, bool]:
    advice = "write HOST:PORT, or rediss://HOST:PORT for TLS."
    address = read.secret("REDIS_ADDRESS")
    if address is None:
        read.refuse_unshown("REDIS_ADDRESS", "is not set", advice)
        return "", 0, False
    if "@" in address:
        advice = "write HOST:PORT or rediss://HOST:PORT alone, and the password in REDIS_PASSWORD."
        read.refuse_unshown("REDIS_ADDRESS", "read a value with a user or password in it", advice)
        return "", 0, False
    tls = address.startswith("rediss://")
    try:
        parts = urlsplit(address if tls else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port or any((parts.path.strip("/"), parts.query, parts.fragment)):
        read.refuse("REDIS_ADDRESS", advice)
        return "", 0, False
    return host, port, tls


def _default_instance_id(role: Role, read: EnvironmentReader) -> str:
    return read.secret("HOSTNAME") or f"{role}-{secrets.token_hex(4)}"
