"""TLS of clients and workers: with files that fit, that don't, and that are replaced while they work."""

import asyncio
import re
import ssl
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from control_planes import control_plane_on
from dispatchd import AsyncClient, Client, InvalidRequest, JobStatus, Tls, Unavailable, UnusableCertificate, Worker
from dispatchd.entrypoints.dev_certificates import DevAuthority
from dispatchd.entrypoints.settings import Role
from dispatchd.sdk.client import tls_channel
from dispatchd.sdk.client.tls_channel import TlsChannel
from dispatchd.sdk.tls import FollowedTls
from gateway.roles import Site
from sdk.gates import Gate
from sdk.serving import serving
from sdk.tls_roles import ClientFiles, Shown, TlsRole
from tls_for_tests import credentials, server_environment
from tokens_for_tests import AUTH, token
from waiting import until


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority(tmp_path / "ours")


@pytest.fixture
def files(authority: DevAuthority, tmp_path: Path) -> ClientFiles:
    files = ClientFiles(authority, tmp_path / "client")
    files.issue("old")
    return files


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    return Shown(monkeypatch)


@pytest.fixture
def site(database_url: str, redis_address: str) -> Site:
    return Site(database_url, redis_address)


# Files.


def test_a_certificate_without_its_key_is_a_mistake_at_once() -> None:
    with pytest.raises(InvalidRequest, match="give both") as raised:
        Tls(certificate_file="tls.crt")
    assert raised.value.field == "key_file"


@pytest.mark.parametrize("make", [AsyncClient, Client, Worker])
def test_tls_and_credentials_are_one_too_many(make: type[AsyncClient] | type[Client] | type[Worker]) -> None:
    with pytest.raises(InvalidRequest, match="either tls or credentials"):
        make(tls=Tls(), credentials=grpc.ssl_channel_credentials())


def protect(key: Path) -> bytes:
    """The key with a password."""
    loaded = load_pem_private_key(key.read_bytes(), None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))


@pytest.mark.parametrize("broken", ["ca_file", "certificate_file", "key_file"])
@pytest.mark.parametrize("how", ["missing", "nonsense", "a folder", "of another", "password"])
async def test_files_that_cannot_be_used_are_named(
    authority: DevAuthority, tmp_path: Path, broken: str, how: str
) -> None:
    certificate, key = authority.client("client")
    fitting = {"ca_file": authority.certificate_file, "certificate_file": certificate, "key_file": key}
    file = tmp_path / "broken.pem"
    match how:
        case "nonsense":
            file.write_text("nonsense")
        case "a folder":
            file.mkdir()
        case "of another" if broken == "key_file":
            file.write_bytes(DevAuthority(tmp_path / "theirs").client("client")[1].read_bytes())
        case "password" if broken == "key_file":
            file.write_bytes(protect(key))
    tls = Tls(**{**fitting, broken: file})
    with pytest.raises(UnusableCertificate, match=str(file)):
        async with AsyncClient("127.0.0.1:1", tls=tls):
            pass
    with pytest.raises(UnusableCertificate, match=str(file)), Client("127.0.0.1:1", tls=tls):
        pass
    assert "dispatchd client" not in {thread.name for thread in threading.enumerate()}
    worker = Worker("127.0.0.1:1", tls=tls)
    Gate(worker)
    with pytest.raises(UnusableCertificate, match=str(file)):
        await worker.serve()


def test_of_files_that_are_replaced_only_those_are_taken_that_fit(
    files: ClientFiles, caplog: pytest.LogCaptureFixture
) -> None:
    followed = FollowedTls(files.tls)
    first = followed.credentials
    followed.look()
    assert followed.credentials is first
    whole = files.key.read_bytes()
    for half in (b"", whole[:40]):
        files.key.write_bytes(half)
        followed.look()
        followed.look()
        assert followed.credentials is first
    assert [str(files.key) in record.getMessage() for record in caplog.records] == [True, True], "each is said once"
    files.key.unlink()
    followed.look()
    files.issue("new")
    followed.look()
    assert followed.credentials is not first


# Roles.


async def test_without_a_file_the_authorities_of_the_system_count(
    database_url: str, redis_address: str, authority: DevAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = server_environment(authority, clients=False)
    async with control_plane_on(database_url, redis_address, credentials(authority), **environ) as plane:
        target = f"localhost:{plane.port}"
        async with AsyncClient(target, tls=Tls(), call_timeout=1) as client:
            with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await client.queues()
        monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(authority.certificate_file))
        async with AsyncClient(target, tls=Tls()) as client:
            await client.submit("a.b", 1)


async def test_a_client_takes_a_new_certificate_while_old_calls_end_on_the_old_one(
    site: Site, authority: DevAuthority, files: ClientFiles, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_channel, "LOOK_EVERY_S", 0.0)
    async with (
        TlsRole(site, Role.CONTROL_PLANE, authority, AUDIT_LOG_ENABLED="true") as plane,
        AsyncClient(plane.address, tls=files.tls) as client,
        asyncio.TaskGroup() as group,
    ):
        channel = channel_of(client)
        job = await client.submit("nobody.works", 1)
        waiting = group.create_task(client.wait(job, timeout=30))
        await until(lambda: channel._current.calls == 1)
        files.issue("new")
        await client.get(job)
        assert len(channel._retired) == 1, "the wait is still on it"
        assert shown.with_("JobService.GetJob") == ["new"]
        await client.cancel(job)
        assert (await waiting).status is JobStatus.CANCELED
        assert channel._retired == set()
        assert shown.with_("JobService.WaitJob") == ["old"]
        files.issue("newest")
        await client.get(job)
        assert channel._retired == set(), "nothing was on it"
    assert shown.with_("JobService.GetJob") == ["new", "newest"]


def channel_of(client: AsyncClient) -> TlsChannel:
    assert client._open is not None
    channel: object = client._open.channel
    assert isinstance(channel, TlsChannel)
    return channel


async def test_files_are_looked_at_now_and_then_and_never_in_the_loop(
    authority: DevAuthority, files: ClientFiles, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    look = FollowedTls.look

    def noted(self: FollowedTls) -> None:
        threads.append(threading.current_thread())
        look(self)

    monkeypatch.setattr(FollowedTls, "look", noted)
    monkeypatch.setattr(tls_channel, "LOOK_EVERY_S", 0.5)
    async with (
        TlsRole(site, Role.CONTROL_PLANE, authority) as plane,
        AsyncClient(plane.address, tls=files.tls) as client,
    ):
        await asyncio.sleep(0.6)
        await asyncio.gather(*(client.queues() for _ in range(20)))
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_a_worker_takes_a_new_certificate_with_its_next_stream_and_its_task_goes_on(
    site: Site, authority: DevAuthority, files: ClientFiles, shown: Shown
) -> None:
    async with run_both(site, authority, files, AUDIT_LOG_ENABLED="true", CONNECTION_AGE="1s") as (client, worker):
        gate = Gate(worker)
        async with serving(worker):
            job = await client.submit("report.render", 1)
            await until(lambda: bool(gate.running))
            files.issue("new")
            await until(lambda: shown.with_("WorkerService.Connect")[-1] == "new")
            gate.let_go(*gate.running)
            assert await client.result(job, timeout=30) == 1
            assert (await client.get(job)).attempts == 1
    assert shown.with_("WorkerService.Connect")[0] == "old"


async def test_token_and_tls_go_together(site: Site, authority: DevAuthority, files: ClientFiles) -> None:
    files.issue("mailer")
    both = AUTH | {"TLS_WORKER_CERT_MUST_MATCH": "true"}
    async with run_both(site, authority, files, client_token=token("ann", "submitter"), **both) as (client, worker):
        worker.use(token=lambda: token("mailer", "worker"))

        @worker.task("email.send")
        async def send(number: int) -> int:
            return number + 1

        async with serving(worker):
            assert await client.result(await client.submit(send, 1), send, timeout=30) == 2


async def test_the_program_on_the_page_about_security_runs(site: Site, authority: DevAuthority, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    [program] = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    authority.client("client")
    (tmp_path / "certs").symlink_to(authority.folder)
    (tmp_path / "token").write_text(token("ann", "submitter"))
    async with TlsRole(site, Role.CONTROL_PLANE, authority, **AUTH) as plane:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program.replace("localhost:8080", plane.address),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert output == b"pending\n"


@asynccontextmanager
async def run_both(
    site: Site, authority: DevAuthority, files: ClientFiles, client_token: str | None = None, **environ: str
) -> AsyncIterator[tuple[AsyncClient, Worker]]:
    """A control-plane with a client, and a gateway for a worker."""
    async with (
        TlsRole(site, Role.CONTROL_PLANE, authority, **environ) as plane,
        TlsRole(site, Role.WORKER_GATEWAY, authority, INSTANCE_ID="gateway-1", **environ) as gateway,
        AsyncClient(plane.address, tls=files.tls, token=client_token) as client,
    ):
        yield client, Worker(gateway.address, worker_id="mailer", tls=files.tls)
