"""TLS as it is used, as it is attacked, and as its files are replaced."""

import asyncio
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509

from control_planes import ControlPlane, control_plane_on
from dispatchd.adapters.grpc.tls import TlsFiles, UnusableCertificate, server_credentials
from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.dev_certificates import DevAuthority
from dispatchd.entrypoints.role_process import RoleProcess
from dispatchd.entrypoints.settings import Role
from tls_for_tests import credentials, server_environment

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority(tmp_path / "ours")


@pytest.fixture
def stranger(tmp_path: Path) -> DevAuthority:
    """Somebody else's authority."""
    return DevAuthority(tmp_path / "theirs")


@pytest.fixture
async def plane(database_url: str, redis_address: str, authority: DevAuthority) -> AsyncIterator[ControlPlane]:
    ours = credentials(authority, authority.client("client"))
    environ = server_environment(authority)
    async with control_plane_on(database_url, redis_address, ours, **environ) as plane:
        yield plane


@asynccontextmanager
async def channel_to(plane: ControlPlane, with_: grpc.ChannelCredentials | None) -> AsyncIterator[grpc.aio.Channel]:
    address = f"127.0.0.1:{plane.port}"
    # A connection of its own: what others have agreed on with the server says nothing.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.aio.insecure_channel(address, options=options)
        if with_ is None
        else grpc.aio.secure_channel(address, with_, options=options)
    )
    async with channel:
        yield channel


async def health(plane: ControlPlane, with_: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    async with channel_to(plane, with_) as channel:
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            await check(b"", timeout=10.0)
        except grpc.aio.AioRpcError as exc:
            return exc.code()
        return grpc.StatusCode.OK


def served_certificate(port: int, client: tuple[Path, Path]) -> x509.Certificate:
    """What the server shows to a new connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(*client)
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, context.wrap_socket(plain) as wrapped:
        found = wrapped.getpeercert(binary_form=True)
    assert found is not None
    return x509.load_der_x509_certificate(found)


async def test_a_job_goes_through_tls_with_client_certificates(plane: ControlPlane) -> None:
    job = await plane.submit()
    assert (await plane.get(job.job_id)).job_id == job.job_id


async def test_who_speaks_plainly_trusts_another_or_shows_no_certificate_of_ours_gets_nowhere(
    plane: ControlPlane, authority: DevAuthority, stranger: DevAuthority
) -> None:
    ours = authority.client("client")
    assert await health(plane, credentials(authority, ours)) is grpc.StatusCode.OK
    assert await health(plane, None) is UNAVAILABLE
    assert await health(plane, credentials(stranger, ours)) is UNAVAILABLE
    assert await health(plane, credentials(authority)) is UNAVAILABLE
    assert await health(plane, credentials(authority, stranger.client("client"))) is UNAVAILABLE
    assert await health(plane, credentials(authority, authority.client("old", timedelta(hours=-1)))) is UNAVAILABLE
    server = (authority.folder / "server.pem", authority.folder / "server-key.pem")
    assert await health(plane, credentials(authority, server)) is UNAVAILABLE, "a server's certificate is no client's"
    assert await health(plane, credentials(authority, ours)) is grpc.StatusCode.OK


async def test_tls_to_a_plain_port_fails(database_url: str, redis_address: str, authority: DevAuthority) -> None:
    async with control_plane_on(database_url, redis_address) as plane:
        assert await health(plane, credentials(authority)) is UNAVAILABLE


async def test_without_client_certificates_the_server_alone_is_known(
    database_url: str, redis_address: str, authority: DevAuthority
) -> None:
    environ = server_environment(authority, clients=False)
    async with control_plane_on(database_url, redis_address, credentials(authority), **environ) as plane:
        await plane.submit()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_versions_of_tls_are_refused(
    plane: ControlPlane, authority: DevAuthority, version: ssl.TLSVersion
) -> None:
    client = authority.client("client")

    def connect() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(*client)
        with socket.create_connection(("127.0.0.1", plane.port), timeout=10) as plain, context.wrap_socket(plain):
            pass

    with pytest.warns(DeprecationWarning, match="TLSVersion"), pytest.raises(ssl.SSLError):
        await asyncio.to_thread(connect)


async def test_new_files_are_taken_without_a_restart_and_broken_ones_are_not(
    plane: ControlPlane, authority: DevAuthority
) -> None:
    client = authority.client("client")
    before = await asyncio.to_thread(served_certificate, plane.port, client)
    authority.server(["localhost", "127.0.0.1"])
    renewed = await asyncio.to_thread(served_certificate, plane.port, client)
    assert renewed.serial_number != before.serial_number
    assert await health(plane, credentials(authority, client)) is grpc.StatusCode.OK
    # Half of a replacement, as somebody sees it who comes in between: the pair in use goes on.
    for broken in ("server.pem", "server-key.pem", "ca.pem"):
        whole = (authority.folder / broken).read_bytes()
        for text in (b"", b"no certificate", whole[: len(whole) // 2]):
            (authority.folder / broken).write_bytes(text)
            served = await asyncio.to_thread(served_certificate, plane.port, client)
            assert served.serial_number == renewed.serial_number
        (authority.folder / broken).write_bytes(whole)
    await plane.submit()


async def test_a_new_authority_of_clients_is_taken_without_a_restart(
    plane: ControlPlane, authority: DevAuthority, stranger: DevAuthority
) -> None:
    theirs = credentials(authority, stranger.client("client"))
    assert await health(plane, theirs) is UNAVAILABLE
    both = authority.certificate_file.read_bytes() + stranger.certificate_file.read_bytes()
    ours = authority.certificate_file.read_bytes()
    authority.certificate_file.write_bytes(both)
    assert await health(plane, credentials_of(ours, stranger.client("client"))) is grpc.StatusCode.OK
    authority.certificate_file.write_bytes(ours)
    assert await health(plane, theirs) is UNAVAILABLE


def credentials_of(trusted: bytes, client: tuple[Path, Path]) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(trusted, client[1].read_bytes(), client[0].read_bytes())


@pytest.mark.parametrize("broken", ["certificate", "key", "client_authority", "another key"])
def test_files_that_cannot_be_used_are_named_at_the_start(authority: DevAuthority, broken: str) -> None:
    certificate, key = authority.server(["localhost"])
    files = {"certificate": certificate, "key": key, "client_authority": authority.certificate_file}
    if broken == "another key":
        files["key"] = authority.client("client")[1]
        broken = "key"
    else:
        files[broken].write_text("nonsense")
    with pytest.raises(UnusableCertificate, match=str(files[broken])):
        server_credentials(TlsFiles(**files), require_client_certificate=True)


@pytest.mark.parametrize("verbosity", [None, "INFO"])
async def test_a_failed_handshake_leaves_no_line_among_the_logs_unless_it_is_asked_for(
    database_url: str, redis_address: str, authority: DevAuthority, stranger: DevAuthority, verbosity: str | None
) -> None:
    lines: list[str] = []
    environ = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    environ |= {"DATABASE_URL": database_url, "REDIS_ADDRESS": redis_address, **server_environment(authority)}
    environ |= {} if verbosity is None else {"GRPC_VERBOSITY": verbosity}
    role = RoleProcess(
        Role.CONTROL_PLANE, "plane", environ, free_port(), free_port(), lambda _, line: lines.append(line)
    )
    await role.start()
    try:
        await role.wait_ready()
        for context in (
            None,
            ssl.create_default_context(cafile=authority.certificate_file),
            ssl.create_default_context(cafile=stranger.certificate_file),
        ):
            await asyncio.to_thread(refused_handshake, role.grpc_port or 0, context)
    finally:
        assert await role.stop(10.0) == 0
    foreign = [line for line in lines if not is_json(line)]
    if verbosity is None:
        assert foreign == []
    else:
        assert sum("Handshake failed" in line for line in foreign) >= 2, lines


def refused_handshake(port: int, context: ssl.SSLContext | None) -> None:
    """Speaks HTTP, with TLS or without; returns when the server has closed the connection."""
    with suppress(ssl.SSLError, ConnectionError), connection_to(port, context) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while connection.recv(1024):
            pass


def connection_to(port: int, context: ssl.SSLContext | None) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    if context is None:
        return plain
    return context.wrap_socket(plain, server_hostname="localhost", do_handshake_on_connect=False)


def is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
