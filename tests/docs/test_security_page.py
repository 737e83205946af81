"""docs/security.md is right: its example runs as it stands there."""

import asyncio
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from dispatchd.domain.access import METHODS, AccessRole
from dispatchd.entrypoints.child_process import spawn, stop_within
from dispatchd.entrypoints.database_url import SSL_MODES, parse_database_url
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.settings import Role, load_settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLE_S = 60
REFLECTION = "ServerReflection.ServerReflectionInfo"


def commands_of(block: str) -> str:
    """The lines after the prompt, as a script that ends at the first failure."""
    return "\n".join(["set -eu", *(line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ "))])


async def test_the_worker_and_the_client_with_tokens_run_as_they_stand_there(
    tmp_path: Path, database_url: str, redis_address: str
) -> None:
    [section] = re.findall(r"^## Tokens\n(.*?)^## ", PAGE, re.M | re.S)
    roles, worker_lines, client_lines = re.findall(r"^```console\n(.*?)^```$", section, re.M | re.S)
    assert commands_of(roles).splitlines()[1:] == [
        "export AUTH_JWT_SHARED_SECRET=$(openssl rand -base64 48)",
        "AUTH_ENABLED=true dispatchd dev",
    ]
    [program] = re.findall(r"^```python\n(# hello.py\n.*?)^```$", README, re.M | re.S)
    (tmp_path / "hello.py").write_text(program)
    shared = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    shared |= {"AUTH_JWT_SHARED_SECRET": secrets.token_urlsafe(48)}
    served = {"DATABASE_URL": database_url, "REDIS_ADDRESS": redis_address, "AUTH_ENABLED": "true"}
    async with Installation(tmp_path / "data", shared | served) as installation:
        [control_plane] = installation.of_role(Role.CONTROL_PLANE)
        [gateway] = installation.of_role(Role.WORKER_GATEWAY)
        environ = shared | {
            "PATH": f"{Path(sys.executable).parent}:{shared.get('PATH', '')}",
            "DISPATCHD_ADDRESS": control_plane.grpc_address,
            "DISPATCHD_GATEWAY": gateway.grpc_address,
        }
        with (tmp_path / "worker.log").open("wb") as log:
            worker = spawn(
                ["/bin/sh", "-c", commands_of(worker_lines).replace("\ndispatchd worker", "\nexec dispatchd worker")],
                death_signal=signal.SIGTERM,
                environ=environ,
                stdout=log,
                cwd=tmp_path,
            )
        try:
            client = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", commands_of(client_lines), stdout=subprocess.PIPE, env=environ, cwd=tmp_path
            )
            output, _ = await asyncio.wait_for(client.communicate(), EXAMPLE_S)
        finally:
            await asyncio.to_thread(stop_within, worker, [(signal.SIGTERM, 10.0)])
    assert output.decode().splitlines() == client_lines.splitlines()[2:], (tmp_path / "worker.log").read_text()


def test_the_addresses_for_tls_are_those_of_settings(tmp_path: Path) -> None:
    [section] = re.findall(r"^## Postgres and Redis over TLS\n(.*?)^## ", PAGE, re.M | re.S)
    [block] = re.findall(r"^```console\n(.*?)^```$", section, re.M | re.S)
    exports = [line.removeprefix("$ export ") for line in block.replace("/etc", str(tmp_path)).splitlines()]
    environ = dict(shlex.split(line)[0].split("=", 1) for line in exports)
    for name in ("db-ca.pem", "cache-ca.pem"):
        (tmp_path / name).touch()
    settings = load_settings(Role.SCHEDULER, environ)
    assert (settings.redis.tls, settings.redis.tls_ca_file) == (True, tmp_path / "cache-ca.pem")
    assert parse_database_url(settings.database_url).is_private(lambda name: None)
    modes = re.findall(r"`([a-z-]+)`", "".join(line.split("|")[1] for line in section.splitlines() if "|" in line))
    assert sorted(modes) == sorted(["sslmode", *SSL_MODES])


MAY = {
    "submit jobs": {"JobService.SubmitJob", "JobService.SubmitJobs"},
    "read jobs and executions": {"JobService.GetJob", "JobService.ListExecutions"},
    "wait for jobs": {"JobService.WaitJob"},
    "list dead letters, workers and queues": {
        "OperatorService.ListDeadLetters",
        "OperatorService.ListWorkers",
        "OperatorService.ListQueues",
    },
    "everything in `JobService` and `OperatorService`": {m for m in METHODS if m.startswith(("Job", "Operator"))},
    "and connect workers": {"WorkerService.Connect"},
    "connect workers under any id": {"WorkerService.Connect"},
    "connect as the worker that its token names: the subject, and the claim `worker_id` if there is one": {
        "WorkerService.Connect"
    },
    "everything": set(METHODS),
}


def test_the_table_of_roles_is_that_of_the_code() -> None:
    """Reflection is everybody's who has a role, and not worth a row."""
    [table] = re.findall(r"^\| Role \| May \|\n\|---\|---\|\n(.*?)\n\n", PAGE, re.M | re.S)
    rows = re.findall(r"^\| `([a-z]+)` \| (.*) \|$", table, re.M)
    assert [role for role, _ in rows] == [role.value for role in AccessRole]
    for role, text in rows:
        phrases = [phrase for phrase in MAY if re.search(rf"(^|, ){re.escape(phrase)}($|, )", text)]
        assert len(", ".join(sorted(phrases))) == len(text), f"{text}: only {phrases} are known"
        methods = set().union(*(MAY[phrase] for phrase in phrases))
        assert methods - {REFLECTION} == {m for m, roles in METHODS.items() if role in roles} - {REFLECTION}, role
