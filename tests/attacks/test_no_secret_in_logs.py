"""What a whole run writes down, everywhere, has none of its secrets: tokens, passwords, keys, payloads, results."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import grpc
import grpc.aio
import pytest

from attacks.attacked import STOP_S, AttackedRole
from attacks.loud_run import LoudRun, loud_run
from dispatchd import AsyncClient, DispatchdError
from dispatchd.entrypoints.embedded import EmbeddedValkey
from dispatchd.entrypoints.settings import Role
from dispatchd.v1 import dispatchd_pb2 as pb
from tcp_proxy import TcpProxy, proxy_to
from tls_for_tests import credentials
from waiting import until

PATIENCE_S = 30.0


@pytest.fixture
def valkey_with_password(tmp_path: Path) -> Iterator[tuple[EmbeddedValkey, str]]:
    password = secrets.token_hex(32)
    with EmbeddedValkey(tmp_path / "valkey", password=password) as server:
        yield server, password


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[TcpProxy]:
    parts = urlsplit(database_url)
    async with proxy_to(f"{parts.hostname}:{parts.port}") as proxy:
        yield proxy


@pytest.fixture
def run(
    tmp_path: Path, database_url: str, proxy: TcpProxy, valkey_with_password: tuple[EmbeddedValkey, str]
) -> LoudRun:
    valkey, password = valkey_with_password
    return loud_run(tmp_path, database_url, valkey.address, password, {"postgres": proxy.port})


async def test_no_log_of_a_whole_run_has_a_secret(
    run: LoudRun,
    proxy: TcpProxy,
    database_url: str,
    valkey_with_password: tuple[EmbeddedValkey, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    valkey, _ = valkey_with_password
    await mistaken_starts(run)
    await run.start_roles()
    try:
        payload = run.secrets.new("payload")
        work = run.access("shop-1", run.token("worker's token", "shop-1", "worker"))
        worker = await run.worker("shop-1", work | {"SHOP_RECEIPT": run.secrets.new("result")})
        token = run.token("client's token", "ann", "operator")
        async with AsyncClient(
            run.roles[Role.CONTROL_PLANE].grpc_address, token=token, tls=run.tls("ann"), call_timeout=5
        ) as client:
            await ordinary_work(client, payload)
            await refused_calls(run, payload)
            await commands(run, token, payload)
            await outages(client, proxy, valkey, payload)
            await defects(client, database_url, payload)
            await ordinary_work(client, payload)
        await run.look_at_metrics()
        await run.end_worker(worker)
    finally:
        await run.stop_roles()
    run.said["client"] = [caplog.text]
    # Not Postgres's own log: the beginning of a row that it refuses stands there, as docs/security.md says.
    run.said["valkey"] = [valkey.log_file.read_text(errors="replace")]
    run.secrets.add_keys(run.authority.folder)
    is_loud(run)
    for name, texts in run.said.items():
        for text in texts:
            assert run.secrets.found_in(text) == set(), f"{name}: {text[:2_000]}"


def is_loud(run: LoudRun) -> None:
    """Checks that all that was meant to happen has been written down, or its silence would say nothing."""
    said = {name: "\n".join(texts) for name, texts in run.said.items()}
    for name, words in {
        "wrong password at the start": ["password"],
        "wrong settings": ["The environment has 7 mistakes", "LEASE_DURATION: read"],
        "control-plane": ["a handler failed", "Traceback", "stopped"],
        "worker-gateway": [
            "worker registered",
            "own words of a task",
            "a result was refused by the database",
            "stopped",
        ],
        "scheduler": ["stopped"],
        "control-plane.audit": ["PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ARGUMENT", "UNAVAILABLE", '"ann"'],
        "worker-gateway.audit": ["stream opened", "stream closed", "PERMISSION_DENIED", "UNAUTHENTICATED"],
        "worker": ["own words of a worker", "the till is empty", "is registered"],
        "control-plane: metrics": ["dispatchd_grpc_calls_total"],
        "command without a token": ["asks for a token"],
        "command with a forged token": ["no access"],
        "command with a strange authority": ["CERTIFICATE_VERIFY_FAILED"],
        "migrate with a wrong password": ["password"],
        "client": ["dispatchd"],
    }.items():
        for word in words:
            assert word in said[name], f"{name} does not say {word!r}: {said[name][-3_000:]}"


# --- what happens ---------------------------------------------------------------------------------------------------


async def mistaken_starts(run: LoudRun) -> None:
    """Roles and commands that can't begin, and say why."""
    right = run.environ["DATABASE_URL"]
    wrong = right.replace(urlsplit(right).password or "", run.secrets.new("wrong database password"))
    refused = AttackedRole(Role.SCHEDULER, "refused", run.environ | {"DATABASE_URL": wrong})
    run.said["wrong password at the start"] = refused.lines
    await refused.start()
    mistakes = {
        "DATABASE_URL": f"postgres//user:{run.secrets.new('password of a wrong address')}@",
        "REDIS_ADDRESS": f"redis://:{run.secrets.new('password in the wrong place')}@127.0.0.1:1",
        "AUTH_JWT_SHARED_SECRET": run.secrets.add("short secret", "tooshortSECRET-7f3"),
        "AUTH_JWT_SHARED_SECRET_FILE": run.secrets.new("a secret as a file"),
        "AUTH_JWT_PUBLIC_KEY_PEM": f"-----BEGIN PUBLIC KEY-----\n{run.secrets.new('a key')}",
        "TLS_KEY_FILE": f"-----BEGIN PRIVATE KEY-----\n{run.secrets.new('a key as a file')}",
        "LEASE_DURATION": "for ever",
    }
    codes = await asyncio.gather(
        run.command("wrong settings", Role.SCHEDULER.value, **run.environ | mistakes),
        run.command("migrate with a wrong password", "migrate", DATABASE_URL=wrong),
    )
    assert codes[0] == 2
    assert codes[1] != 0
    await until(lambda: any("password" in line for line in refused.lines), PATIENCE_S)
    await refused.stop(STOP_S)


async def ordinary_work(client: AsyncClient, payload: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        job = await client.submit("shop.sell", {"card": payload}, metadata={"order": "7"}, idempotency_key=None)
        await client.result(job, timeout=PATIENCE_S)
        failed = await client.submit("shop.fail", {"card": payload})
        await client.wait(failed, timeout=PATIENCE_S)
        await client.redrive([failed])
        await client.cancel(await client.submit("nobody.works", {"card": payload}))


async def refused_calls(run: LoudRun, payload: str) -> None:
    """Over gRPC itself, with what the SDK would never send."""
    submit = pb.SubmitJobRequest(job_type="shop.sell", payload=payload.encode()).SerializeToString()
    expired = run.token("expired token", "ann", "operator")
    forged = run.secrets.add_token("forged token", expired[:-8] + "AAAAAAAA")
    viewer = run.token("viewer's token", "bob", "viewer")
    good = run.token("another token", "eve", "operator", "service")
    ours = credentials(run.authority, run.authority.client("eve"))
    headers = [
        (),
        (("authorization", f"Bearer {forged}"),),
        (("authorization", f"Bearer {viewer}"),),
        (("authorization", f"Basic {run.secrets.new('basic password')}"),),
        (("authorization", run.secrets.new("bare secret")),),
        (("authorization", f"Bearer {good}"), ("x-request-id", "r-1"), ("cookie", run.secrets.new("cookie"))),
    ]
    async with grpc.aio.secure_channel(run.roles[Role.CONTROL_PLANE].grpc_address, ours) as channel:
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/dispatchd.v1.JobService/SubmitJob")
        for metadata in headers:
            for request in (submit, submit + b"\xff", submit.replace(b"shop.sell", b"shop sell"), submit * 100_000):
                with suppress(grpc.aio.AioRpcError):
                    await ask(request, metadata=metadata, timeout=15.0)
    async with grpc.aio.secure_channel(run.roles[Role.WORKER_GATEWAY].grpc_address, ours) as channel:
        begin: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            "/dispatchd.v1.WorkerService/Connect"
        )
        result = pb.ConnectRequest(result=pb.TaskResult(execution_id="x", payload=payload.encode()))
        for metadata in headers:
            for first in (result.SerializeToString(), payload.encode()):
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    stream = begin(metadata=metadata, timeout=15.0)
                    await stream.write(first)
                    await stream.read()


async def commands(run: LoudRun, token: str, payload: str) -> None:
    """What they print on purpose, a job with its payload, is none of their logs."""
    access = run.access("ann", token)
    document = f'"{payload}"'
    fine = await asyncio.gather(
        run.command("submit", "submit", "nobody.works", "-", stdin=document, **access),
        *(run.command(name, name, **access) for name in ("queues", "workers")),
        run.command("dead letters", "deadletter", "list", **access),
        run.command("command with a wrong payload", "submit", "a.b", "{" + payload, **access),
    )
    assert fine == [0, 0, 0, 0, 2]
    wrong = {
        "command without a token": {"DISPATCHD_TOKEN": ""},
        "command with a forged token": {"DISPATCHD_TOKEN": run.secrets.add_token("another forged one", token + "AA")},
        "command with a viewer's token": {"DISPATCHD_TOKEN": run.token("another viewer's", "bob", "viewer")},
        "command with a strange authority": {"DISPATCHD_CA_FILE": "/etc/ssl/certs/ca-certificates.crt"},
        "command with a key as a file": {"DISPATCHD_KEY_FILE": run.secrets.new("a key as a file name")},
        "command with a token as a file": {"DISPATCHD_TOKEN_FILE": run.secrets.new("a token as a file name")},
    }
    codes = await asyncio.gather(
        *(
            run.command(name, "submit", "a.b", "-", "--call-timeout", "2s", stdin=document, **access | changes)
            for name, changes in wrong.items()
        )
    )
    assert all(codes), dict(zip(wrong, codes, strict=True))


async def outages(client: AsyncClient, proxy: TcpProxy, valkey: EmbeddedValkey, payload: str) -> None:
    """Postgres goes deaf, then hangs up; Redis goes and comes back."""
    for break_it, mend_it in ((proxy.go_deaf, proxy.hear_again), (proxy.refuse, proxy.accept_again)):
        break_it()
        with suppress(DispatchdError):
            await client.submit("shop.sell", {"card": payload}, call_timeout=2)
        mend_it()
        await ordinary_work(client, payload)
    await asyncio.to_thread(valkey.stop)
    await client.submit("shop.sell", {"card": payload})
    await asyncio.to_thread(valkey.start)


async def defects(client: AsyncClient, database_url: str, payload: str) -> None:
    """Errors that nobody has thought of, with their tracebacks, and rows that only the database refuses."""
    connection = await asyncpg.connect(database_url, timeout=10.0)
    try:
        for wrong, right in (
            ("alter table jobs rename to hidden", "alter table hidden rename to jobs"),
            ("alter table job_inputs rename to hidden", "alter table hidden rename to job_inputs"),
            *(
                (
                    f"alter table {table} add constraint impossible check ({rule}) not valid",
                    f"alter table {table} drop constraint impossible",
                )
                for table, rule in (
                    ("jobs", "job_type <> 'shop.sell'"),
                    ("job_inputs", "false"),
                    ("jobs", "result = ''"),
                )
            ),
        ):
            await connection.execute(wrong)
            with suppress(DispatchdError):
                job = await client.submit("shop.sell", payload, call_timeout=1)
                await client.wait(job, timeout=1)
            with suppress(DispatchdError):
                await client.get("job_" + "0" * 32, call_timeout=1)
            await connection.execute(right)
    finally:
        await connection.close()
