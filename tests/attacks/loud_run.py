"""A run in which roles, a worker, a client and commands say as much as they ever say, and what must not be in it.

Everything is real: processes with TLS, client certificates, tokens and audit files; Postgres and Valkey with passwords.
"""

import asyncio
import base64
import os
import secrets
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from attacks.attacked import AttackedRole
from dispatchd import Tls
from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.dev_certificates import DevAuthority
from dispatchd.entrypoints.dev_token import make_token
from dispatchd.entrypoints.role_process import PROGRAM
from dispatchd.entrypoints.settings import Role
from tls_for_tests import server_environment

SHOP = """
import logging, os
from dispatchd import Worker, TaskContext

worker = Worker()

@worker.task("shop.sell")
async def sell(payload: object, context: TaskContext) -> object:
    context.log("own words of a task")
    logging.getLogger("shop").warning("own words of a worker")
    return {"receipt": os.environ["SHOP_RECEIPT"]}

@worker.task("shop.fail", max_attempts=1)
def fail(payload: object) -> None:
    raise ValueError("the till is empty")
"""
SHOWN_IS_TOO_MUCH = 12
"""Characters of a secret."""
COMMAND_S = 60.0
STOP_S = 12.0


class Secrets:
    """What nobody may read in a log, by name."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def new(self, name: str) -> str:
        """A secret of 64 random characters."""
        return self.add(name, secrets.token_hex(32))

    def add(self, name: str, text: str) -> str:
        """Something that is one, such as a password. Returns it."""
        self._texts[name] = text
        return text

    def add_token(self, name: str, token: str) -> str:
        """A token. Without its signature it is worth nothing; the claims of all begin alike."""
        self._texts[name] = token.split(".")[2]
        return token

    def add_keys(self, folder: Path) -> None:
        """The private keys in PEM files."""
        for file in folder.glob("*-key.pem"):
            # The first line says little more than the kind of key.
            self._texts[f"key {file.name}"] = file.read_text().splitlines()[2]

    def found_in(self, text: str) -> set[str]:
        """The names of those that stand there: their beginning, plainly, in hexadecimal or in base64."""
        return {
            name
            for name, secret in self._texts.items()
            for beginning in (secret[:SHOWN_IS_TOO_MUCH],)
            if beginning in text
            or beginning.encode().hex() in text
            or base64.b64encode(beginning.encode()).decode() in text
        }


@dataclass
class LoudRun:
    """The processes of a run; `said` has what each of them wrote."""

    folder: Path
    authority: DevAuthority
    secrets: Secrets
    environ: dict[str, str]
    said: dict[str, list[str]] = field(default_factory=dict)
    roles: dict[Role, AttackedRole] = field(default_factory=dict)

    def token(self, name: str, subject: str, *roles: str, lifetime: timedelta = timedelta(hours=1)) -> str:
        """A token of the installation, which is a secret."""
        return self.secrets.add_token(name, make_token(self.environ, subject, roles, lifetime))

    def tls(self, client: str) -> Tls:
        certificate, key = self.authority.client(client)
        return Tls(ca_file=self.authority.certificate_file, certificate_file=certificate, key_file=key)

    def access(self, client: str, token: str) -> dict[str, str]:
        """The environment of a command or worker of this client."""
        tls = self.tls(client)
        return {
            "DISPATCHD_ADDRESS": self.roles[Role.CONTROL_PLANE].grpc_address,
            "DISPATCHD_GATEWAY": self.roles[Role.WORKER_GATEWAY].grpc_address,
            "DISPATCHD_TOKEN": token,
            "DISPATCHD_CA_FILE": str(tls.ca_file),
            "DISPATCHD_CERT_FILE": str(tls.certificate_file),
            "DISPATCHD_KEY_FILE": str(tls.key_file),
        }

    # --- roles ----------------------------------------------------------------------------------------------------

    def audit_file(self, role: Role) -> Path:
        return self.folder / f"{role.value}.audit"

    async def start_roles(self) -> None:
        for role in Role:
            environ = self.environ | {"AUDIT_LOG_FILE": str(self.audit_file(role))}
            process = self.roles[role] = AttackedRole(role, role.value, environ)
            self.said[role.value] = process.lines
            await process.start()
        for process in self.roles.values():
            await process.wait_ready()

    async def look_at_metrics(self) -> None:
        """What the HTTP ports tell everybody."""
        async with aiohttp.ClientSession() as http:
            for role, process in self.roles.items():
                for path in ("metrics", "readyz", "livez"):
                    async with http.get(f"{process.probes_url}/{path}") as answer:
                        self._say(f"{role.value}: {path}", await answer.text())

    async def stop_roles(self) -> None:
        for role, process in self.roles.items():
            await process.stop(STOP_S)
            for file in self.folder.glob(f"{role.value}.audit*"):
                self._say(file.name, file.read_text())

    # --- commands and workers -------------------------------------------------------------------------------------

    async def command(self, name: str, *arguments: str, stdin: str = "", **environ: str) -> int:
        """Runs `dispatchd …` to its end; `environ` is all that it has. The exit code."""
        process = await self._start(arguments, environ)
        text, _ = await asyncio.wait_for(process.communicate(stdin.encode()), COMMAND_S)
        self._say(name, text.decode())
        return process.returncode or 0

    async def worker(self, worker_id: str, environ: Mapping[str, str]) -> "asyncio.subprocess.Process":
        """Starts the shop's worker."""
        (self.folder / "shop.py").write_text(SHOP)
        return await self._start(["worker", "shop:worker", "--worker-id", worker_id, "--log-level", "debug"], environ)

    async def end_worker(self, worker: "asyncio.subprocess.Process") -> None:
        worker.send_signal(signal.SIGTERM)
        text, _ = await asyncio.wait_for(worker.communicate(), COMMAND_S)
        self._say("worker", text.decode())

    async def _start(self, arguments: Sequence[str], environ: Mapping[str, str]) -> "asyncio.subprocess.Process":
        return await asyncio.create_subprocess_exec(
            *PROGRAM,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(self.folder), **environ},
        )

    def _say(self, name: str, text: str) -> None:
        self.said.setdefault(name, []).append(text)


def loud_run(
    folder: Path, database_url: str, redis_address: str, redis_password: str, through: Mapping[str, int]
) -> LoudRun:
    """A run that has not begun; roles reach Postgres through the port `through["postgres"]`."""
    found = Secrets()
    parts = urlsplit(database_url)
    found.add("database password", parts.password or "")
    found.add("redis password", redis_password)
    authority = DevAuthority(folder / "certificates")
    environ = {
        "APP_ENV": "production",
        "DATABASE_URL": database_url.replace(f":{parts.port}/", f":{through['postgres']}/"),
        "REDIS_ADDRESS": redis_address,
        "REDIS_PASSWORD": redis_password,
        "AUTH_ENABLED": "true",
        "AUTH_JWT_SHARED_SECRET": found.new("shared secret"),
        "AUDIT_LOG_ENABLED": "true",
        "LOG_LEVEL": "debug",
        "LEASE_DURATION": "3s",
        "SHUTDOWN_TIMEOUT_SECONDS": "3",
        "METRICS_PORT": str(free_port()),
        **server_environment(authority),
    }
    return LoudRun(folder, authority, found, environ)
