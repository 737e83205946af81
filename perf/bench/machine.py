"""What was measured, and on what."""

import asyncio
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]
from redis.asyncio import Redis

from dispatchd.entrypoints.installation import Installation
from perf.bench import k6
from perf.bench.failure import BenchFailed

_REPOSITORY = Path(__file__).parents[2]
_PACKAGES = ("dispatchd", "grpcio", "protobuf", "uvloop", "asyncpg", "redis")
_POSTGRES_SETTINGS = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_connections",
    "max_wal_size",
)
_NOT_DURABLE = ("tmpfs", "ramfs")
_BUSY_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware, and how busy others kept it just before."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    file_system: str
    busy_before_percent: float


@dataclass(frozen=True, slots=True)
class Source:
    """The code. Without git both are None. Evidence files don't make it dirty."""

    commit: str | None
    dirty: bool | None


def require_durable(data_dir: Path) -> None:
    """Raises BenchFailed if a folder is no durable storage."""
    file_system = _file_system(data_dir)
    if file_system in _NOT_DURABLE:
        raise BenchFailed(f"{data_dir} is memory ({file_system}), where no commit is durable: use --data-dir")


async def describe_machine(data_dir: Path) -> Machine:
    """Looks at the machine, which should be idle now."""
    psutil.cpu_percent()
    await asyncio.sleep(_BUSY_LOOK_S)
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 1024**3, 1),
        system=f"{platform.system()} {platform.machine()}",
        file_system=_file_system(data_dir),
        busy_before_percent=psutil.cpu_percent(),
    )


def describe_source() -> Source:
    """The commit that is checked out, and whether files differ from it."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return Source(None, None)
    changes = _git("status", "--porcelain", "--", ".", ":(exclude)evidence")
    return Source(commit, changes != "")


async def describe_versions(installation: Installation) -> dict[str, str]:
    """Of everything that takes part."""
    versions = {"python": platform.python_version()} | {package: version(package) for package in _PACKAGES}
    connection = await asyncpg.connect(installation.database_url)
    try:
        versions["postgres"] = await connection.fetchval("show server_version")
    finally:
        await connection.close()
    environ = installation.environ
    host, port = installation.redis_address.split(":")
    async with Redis(host=host, port=int(port), password=environ["REDIS_PASSWORD"]) as redis:
        versions["valkey"] = (await redis.info("server"))["valkey_version"]
    versions["k6"] = _first_line([k6.program(), "version"])
    return versions


async def describe_settings(installation: Installation) -> dict[str, str]:
    """Those of Postgres that decide what a commit costs. Raises BenchFailed if commits are not durable."""
    connection = await asyncpg.connect(installation.database_url)
    try:
        settings = {name: str(await connection.fetchval(f"show {name}")) for name in _POSTGRES_SETTINGS}
    finally:
        await connection.close()
    if settings["fsync"] != "on" or settings["synchronous_commit"] != "on":
        raise BenchFailed(f"commits are not durable: {settings}")
    return settings


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on."""
    best = (Path("/"), "unknown")
    for mount in psutil.disk_partitions(all=True):
        mounted_at = Path(mount.mountpoint)
        if folder.resolve().is_relative_to(mounted_at) and len(mounted_at.parts) >= len(best[0].parts):
            best = (mounted_at, mount.fstype)
    return best[1]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=_REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]
