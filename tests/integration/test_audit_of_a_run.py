"""A run as in production, with outages: who did what stands in the audit log, and no secret in any log."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from dispatchd import AsyncClient, DispatchdError, Fail, JobFailed, Tls, Worker
from dispatchd.entrypoints.dev_certificates import DevAuthority
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.settings import Role
from sdk.serving import serving
from tls_for_tests import server_environment
from tokens_for_tests import AUTH, SECRET, token
from waiting import until

PAYLOAD, RESULT = "pay-9f2c-load", "re-7d1e-sult"
FAILED_LOOPS = "dispatchd.application.loops"
LONGEST_S = 60
PRODUCTION = {"APP_ENV": "production", "LOG_LEVEL": "debug", "TLS_WORKER_CERT_MUST_MATCH": "true"}
AUDIT_FIELDS = {
    "time", "level", "logger", "message", "role", "region", "instance_id",
    "method", "subject", "roles", "certificate", "peer", "code", "latency_ms", "request_id", "job_id", "worker_id",
}  # fmt: skip


@dataclass
class Run:
    """What the roles wrote, and what must not be in it."""

    lines: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)

    def token(self, subject: str, *roles: str) -> str:
        made = self.secrets[f"the token of {subject}"] = token(subject, *roles)
        return made

    @property
    def audit(self) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.lines) if line["logger"] == "dispatchd.audit"]

    def said(self, method: str) -> list[tuple[str, str, str]]:
        """What happened, to whom and how it ended, of all calls of a method."""
        return [(line["message"], line["subject"], line["code"]) for line in self.audit if line["method"] == method]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    folder = tmp_path_factory.mktemp("run")
    run = Run()
    authority = DevAuthority(folder / "certs")
    environ = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_ADDRESS")}
    environ |= PRODUCTION | AUTH | server_environment(authority)
    installation = Installation(
        folder / "data",
        environ,
        postgres_settings={"fsync": "off"},
        log=lambda _name, line: run.lines.append(line),
    )
    ours = logging.Handler()
    ours.emit = lambda record: run.lines.append(json.dumps({"logger": record.name, "text": record.getMessage()}))  # type: ignore[method-assign]
    logging.getLogger("dispatchd").addHandler(ours)
    try:
        async with installation:
            await work(run, installation, authority)
    finally:
        logging.getLogger("dispatchd").removeHandler(ours)
    run.secrets |= {
        "the shared secret": SECRET,
        "the password of Postgres": urlsplit(installation.database_url).password or "",
        "the password of Redis": installation.environ["REDIS_PASSWORD"],
        "a payload": PAYLOAD,
        "a result": RESULT,
        "the key of the server": key_in(folder / "certs" / "server-key.pem"),
        "the key of the worker": key_in(folder / "certs" / "w1-key.pem"),
    }
    yield run


async def work(run: Run, installation: Installation, authority: DevAuthority) -> None:
    """Every kind of call, allowed and refused, and both servers away in between."""
    [control_plane] = installation.of_role(Role.CONTROL_PLANE)
    [gateway] = installation.of_role(Role.WORKER_GATEWAY)

    def tls(name: str) -> Tls:
        certificate, key = authority.client(name)
        return Tls(ca_file=authority.certificate_file, certificate_file=certificate, key_file=key)

    def client(bearer: str | None) -> AsyncClient:
        return AsyncClient(control_plane.grpc_address, token=bearer, tls=tls("clients"))

    worker = Worker(gateway.grpc_address, worker_id="w1", token=run.token("w1", "worker"), tls=tls("w1"))

    @worker.task("text.turn")
    async def turn(text: str) -> str:
        assert text == PAYLOAD
        return RESULT

    @worker.task("text.refuse")
    async def refuse(text: str) -> None:
        raise Fail("not this one")

    async with client(run.token("ann", "submitter")) as ann, client(run.token("olga", "operator")) as olga:
        async with serving(worker):
            assert await ann.result(await ann.submit("text.turn", PAYLOAD), str, timeout=LONGEST_S) == RESULT
            dead = await ann.submit("text.refuse", PAYLOAD)
            with pytest.raises(JobFailed):
                await ann.result(dead, timeout=LONGEST_S)
            await olga.redrive([dead])
            waiting = await ann.submit("nobody.works", PAYLOAD)
            with suppress(DispatchdError):
                await ann.cancel(waiting)
            await olga.cancel(waiting)
            assert installation.postgres is not None
            assert installation.valkey is not None
            await asyncio.to_thread(installation.valkey.kill)
            await asyncio.to_thread(installation.postgres.stop)
            # What fails then is logged, and its error might show with what it was tried.
            await until(lambda: any(FAILED_LOOPS in line for line in run.lines), LONGEST_S)
            await asyncio.to_thread(installation.postgres.start)
            await asyncio.to_thread(installation.valkey.start)
            assert await ann.result(await ann.submit("text.turn", PAYLOAD), str, timeout=LONGEST_S) == RESULT
        thief = Worker(gateway.grpc_address, worker_id="w2", token=run.token("thief", "worker"), tls=tls("w2"))
        thief.task("text.turn")(turn.function)
        with suppress(DispatchdError):
            await asyncio.wait_for(thief.serve(), LONGEST_S)
    forged = run.token("mallory", "admin")[:-6] + "AAAAAA"
    run.secrets["a forged token"] = forged
    for bearer in (run.token("vic", "viewer"), forged, None):
        async with client(bearer) as refused:
            with suppress(DispatchdError):
                await refused.submit("text.turn", PAYLOAD)


def key_in(file: Path) -> str:
    """A line of the key itself."""
    return file.read_text().splitlines()[1]


async def test_every_call_and_every_refusal_stands_in_the_audit_log(run: Run) -> None:
    submits = run.said("JobService.SubmitJobs")
    assert set(submits) == {
        ("call", "ann", "OK"),
        ("call", "vic", "PERMISSION_DENIED"),
        ("call", "anonymous", "UNAUTHENTICATED"),
    } | {call for call in submits if call[1:] == ("ann", "UNAVAILABLE")}
    # The forged token, and none at all.
    assert submits.count(("call", "anonymous", "UNAUTHENTICATED")) == 2
    assert run.said("JobService.CancelJob") == [("call", "ann", "PERMISSION_DENIED"), ("call", "olga", "OK")]
    assert run.said("OperatorService.RedriveDeadLetters") == [("call", "olga", "OK")]
    streams = run.said("WorkerService.Connect")
    assert streams.count(("stream opened", "w1", "OK")) >= 1
    assert streams.count(("stream opened", "w1", "OK")) == len([s for s in streams if s[:2] == ("stream closed", "w1")])
    assert ("stream closed", "thief", "PERMISSION_DENIED") in streams


async def test_an_audit_line_says_who_from_where_and_about_what(run: Run) -> None:
    assert all(set(line) <= AUDIT_FIELDS and line["peer"] and line["request_id"] for line in run.audit)
    [opened, *_] = [line for line in run.audit if line["message"] == "stream opened"]
    assert (opened["subject"], opened["roles"], opened["worker_id"]) == ("w1", ["worker"], "w1")
    assert opened["certificate"] == ["w1"]
    [cancel] = [line for line in run.audit if line["method"].endswith("CancelJob") and line["code"] == "OK"]
    assert cancel["job_id"].startswith("job_")


async def test_no_secret_is_in_any_log(run: Run) -> None:
    text = "\n".join(run.lines)
    assert len(run.secrets) > 10
    assert all(len(secret) >= 10 for secret in run.secrets.values())
    assert [name for name, secret in run.secrets.items() if secret in text] == []
