"""The command `python -m perf.load`: exit code 0 if everything held, 1 if something did not, 2 if the run failed."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from dispatchd import DispatchdError
from dispatchd.entrypoints.embedded_server import EmbeddedServerError
from dispatchd.entrypoints.installation import Installation, InstallationError
from dispatchd.entrypoints.role_process import RoleFailed
from dispatchd.entrypoints.settings import Role
from perf.bench.failure import BenchFailed
from perf.bench.machine import Machine, describe_machine, describe_source
from perf.bench.report import write_whole
from perf.load.profiles import PROFILES, Profile
from perf.load.run import Load, load

_REPOSITORY = Path(__file__).parents[2]
THRESHOLD_MISSED = 1
RUN_FAILED = 2
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--profile", "name", required=True, type=click.Choice(list(PROFILES)), help="How much arrives when.")
@click.option("--control-plane", metavar="HOST:PORT", help="Of an installation that runs, without TLS and tokens.")
@click.option("--worker-gateway", metavar="HOST:PORT", help="Of the same one.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="[default: build/load-PROFILE.json]")
@click.option("--data-dir", type=click.Path(path_type=Path), default=_REPOSITORY / "build", show_default="build")
def main(
    name: str, control_plane: str | None, worker_gateway: str | None, json_file: Path | None, data_dir: Path
) -> None:
    """Put load on an installation: on the one with these addresses, or on one that is started for it here."""
    if (control_plane is None) != (worker_gateway is None):
        raise click.UsageError("--control-plane and --worker-gateway belong together: name both, or neither")
    profile = PROFILES[name]
    data_dir.mkdir(parents=True, exist_ok=True)
    source = describe_source()
    began = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        if control_plane is None or worker_gateway is None:
            machine, found = asyncio.run(_on_an_own_installation(profile, data_dir))
        else:
            machine, found = asyncio.run(_on(profile, control_plane, worker_gateway, data_dir))
    except (BenchFailed, DispatchdError, EmbeddedServerError, InstallationError, RoleFailed, OSError) as failure:
        click.echo(f"perf.load: the run failed, nothing was written: {failure}", err=True)
        sys.exit(RUN_FAILED)
    summary = {
        "profile": {"name": name, **asdict(profile)},
        "passed": not found.missed,
        "missed": found.missed,
        "began_at": began,
        "has_own_installation": control_plane is None,
        "source": asdict(source),
        "driven_from": asdict(machine),
        **asdict(found),
    }
    path = json_file or _REPOSITORY / "build" / f"load-{name}.json"
    write_whole(path, json.dumps(summary, indent=2) + "\n")
    click.echo(_sentence(name, found))
    for missed in found.missed:
        click.echo(f"  missed: {missed}", err=True)
    click.echo(f"The whole summary is in {path}")
    if found.missed:
        sys.exit(THRESHOLD_MISSED)


async def _on_an_own_installation(profile: Profile, data_dir: Path) -> tuple[Machine, Load]:
    folder = _folder_for_servers(data_dir)
    # As shipped: nothing that the caller's environment says about dispatchd gets in.
    environ = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    try:
        async with Installation(folder, environ) as installation:
            control_plane = installation.of_role(Role.CONTROL_PLANE)[0].grpc_address
            worker_gateway = installation.of_role(Role.WORKER_GATEWAY)[0].grpc_address
            return await _on(profile, control_plane, worker_gateway, data_dir)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _folder_for_servers(data_dir: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="load-", dir=data_dir))
    # PostgreSQL runs as another user where this is root.
    folder.chmod(0o755)
    return folder


async def _on(profile: Profile, control_plane: str, worker_gateway: str, data_dir: Path) -> tuple[Machine, Load]:
    machine = await describe_machine(data_dir)
    return machine, await load(profile, control_plane, worker_gateway)


def _sentence(name: str, found: Load) -> str:
    return (
        f"{name}: {found.acknowledged} jobs acknowledged and {found.done} done, {found.failed} calls failed, "
        f"{found.dropped} arrivals dropped; submit p50 {found.submit.p50_ms:.1f} ms, p95 {found.submit.p95_ms:.1f} ms"
    )


if __name__ == "__main__":
    main()
