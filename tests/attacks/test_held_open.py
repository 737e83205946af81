"""What is opened and left open: streams of workers, watches of health, reflection, connections of every kind."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest
import pytest_asyncio

from attacks.attacked import AttackedRole, Site
from attacks.connection import Gone, RawConnection, connect, connection
from attacks.frames import PREFACE, Flag, Kind, frame, message
from attacks.methods import CONNECT, REFLECTION, WATCH
from dispatchd.entrypoints.dev_certificates import DevAuthority
from dispatchd.entrypoints.settings import Role
from tls_for_tests import credentials, server_environment
from tokens_for_tests import token
from waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANY = 1_000
WORKER = token("mallory", "worker")
VIEWER = token("mallory", "viewer")
LIBRARY_STREAMS = 100
SAYS_WHICH_SERVICES = message(b"\x3a\x00")
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""How a TLS handshake begins: 516 bytes of it are announced, 6 are there (RFC 8446, sections 4 and 5.1)."""


@asynccontextmanager
async def many(port: int, first: bytes = b"", count: int = MANY) -> AsyncIterator[list[RawConnection]]:
    """Connections that say the same and then nothing more."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            one = await connect(port)
            stack.push_async_callback(one.close)
            await one.send(first)
            found.append(one)
        yield found


# --- streams --------------------------------------------------------------------------------------------------------


async def test_a_thousand_streams_of_a_stranger_are_ended_at_once(site: Site) -> None:
    async with connection(site.gateway.port) as attacker:
        numbers = [await attacker.call(CONNECT) for _ in range(MANY)]
        await attacker.until_ended(*numbers)
        await site.honest_job()


async def test_a_thousand_streams_that_never_register(site: Site) -> None:
    async with connection(site.gateway.port) as attacker:
        for _ in range(MANY):
            await attacker.call(CONNECT, WORKER)
        for _ in range(3):
            await site.honest_job()
        assert not attacker.ended, "they are still there"


async def test_a_thousand_connections_with_a_stream_that_never_registers(site: Site) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MANY):
            attacker = await stack.enter_async_context(connection(site.gateway.port))
            await attacker.call(CONNECT, WORKER)
        for _ in range(3):
            await site.honest_job()


@pytest.mark.parametrize("window_bytes", [0, 65_535], ids=["nothing is read", "answers are read"])
async def test_a_thousand_watches_of_health(site: Site, window_bytes: int) -> None:
    """Probes are strangers too: their checks are answered all the same."""
    async with connection(site.control_plane.port, window_bytes=window_bytes) as attacker:
        for _ in range(MANY):
            await attacker.call(WATCH, body=message(b""))
        await attacker.until_so_many_ended(MANY - LIBRARY_STREAMS)
        assert await site.control_plane.is_serving()
        await site.honest_job()


async def test_hundreds_of_streams_of_reflection(site: Site) -> None:
    async with connection(site.control_plane.port) as stranger, connection(site.control_plane.port) as viewer:
        refused = [await stranger.call(REFLECTION) for _ in range(300)]
        await stranger.until_ended(*refused)
        for _ in range(300):
            await viewer.call(REFLECTION, VIEWER)
        await viewer.until_so_many_ended(300 - LIBRARY_STREAMS)
        await site.honest_job()


async def test_questions_of_reflection_whose_answers_are_not_read(site: Site) -> None:
    async with connection(site.control_plane.port, window_bytes=0) as attacker:
        numbers = [await attacker.call(REFLECTION, VIEWER) for _ in range(LIBRARY_STREAMS)]
        for _ in range(100):
            await attacker.send(b"".join(frame(Kind.DATA, number, SAYS_WHICH_SERVICES) for number in numbers))
            await asyncio.sleep(0)
        await site.honest_job()


# --- connections ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first", [b"", PREFACE[:10], PREFACE, PREFACE + b"\x00\x00\x06\x04"], ids=["silent", "half", "greeted", "frame"]
)
async def test_a_thousand_connections_that_say_no_more(site: Site, first: bytes) -> None:
    """`first` is how far each of them gets with HTTP/2."""
    async with many(site.control_plane.port, first):
        await until(lambda: site.control_plane.files() > MANY)
        await site.honest_job()


async def test_a_thousand_connections_to_the_probes(site: Site) -> None:
    for first in (b"", b"GET /metrics HTTP/1.1\r\nX-Slow: "):
        async with many(site.control_plane.metrics_port, first), aiohttp.ClientSession() as http:
            assert (await http.get(f"{site.control_plane.probes_url}/readyz")).status == 200
            await site.honest_job()


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def authority(tmp_path_factory: pytest.TempPathFactory) -> DevAuthority:
    return DevAuthority(tmp_path_factory.mktemp("certificates"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(installation: Site, authority: DevAuthority) -> AsyncIterator[AttackedRole]:
    """A control-plane of the installation that wants certificates from its clients."""
    environ: Mapping[str, str] = installation.environ | server_environment(authority)
    role = AttackedRole(Role.CONTROL_PLANE, "guarded", environ)
    await role.start()
    try:
        await role.wait_ready()
        role.note_quiet()
        yield role
    finally:
        await role.stop(10.0)


async def check_health(role: AttackedRole, authority: DevAuthority) -> None:
    """As an honest client with a certificate and a new connection."""
    ours = credentials(authority, authority.client("ann"))
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(role.grpc_address, ours, options=options) as channel:
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"", timeout=20.0) == b"\x08\x01"


@pytest.mark.parametrize("first", [b"", CLIENT_HELLO], ids=["silent", "half a hello"])
async def test_a_thousand_handshakes_that_are_never_finished(
    site: Site, guarded: AttackedRole, authority: DevAuthority, first: bytes
) -> None:
    async with many(guarded.port, first):
        await until(lambda: guarded.files() > MANY)
        await check_health(guarded, authority)
    await site.is_unharmed(guarded)


async def test_plain_http2_and_strangers_certificates_at_a_tls_port(
    site: Site, guarded: AttackedRole, authority: DevAuthority, tmp_path: Path
) -> None:
    for _ in range(100):
        async with connection(guarded.port) as attacker:
            await attacker.until_gone()
    stranger = DevAuthority(tmp_path / "theirs")
    context = ssl.create_default_context(cafile=authority.certificate_file)
    context.load_cert_chain(*stranger.client("mallory"))
    context.set_alpn_protocols(["h2"])
    for _ in range(20):
        # With TLS 1.3 a client takes the handshake for done before the server has seen its certificate.
        attacker = await connect(guarded.port, context)
        try:
            with suppress(Gone):
                await attacker.greet()
            await attacker.until_gone()
        finally:
            await attacker.close()
    await check_health(guarded, authority)
    await site.is_unharmed(guarded)


async def test_a_flood_of_what_is_no_call(site: Site) -> None:
    """Calls of methods that are not there, with and without a service."""
    async with connection(site.control_plane.port) as attacker:
        paths = ["/", "//", "", "/dispatchd.v1.JobService/", "/dispatchd.v1.JobService/None", "/none.Here/Method", "*"]
        numbers = [await attacker.call(path, VIEWER, message(b"")) for path in paths * 20]
        await attacker.until_ended(*numbers)
        strange = attacker.stream()
        await attacker.send(frame(Kind.HEADERS, strange, b"", Flag.END_HEADERS | Flag.END_STREAM))
        await attacker.until_ended(strange)
        await site.honest_job()
