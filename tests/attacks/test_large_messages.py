"""A hundred megabytes: announced, sent, packed, and in pieces."""

import asyncio
import gzip
import io
from contextlib import suppress

import aiohttp
import pytest

from attacks.attacked import AttackedRole, Site
from attacks.connection import Gone, connect, connection
from attacks.frames import Flag, Kind, call_headers, frame, header, message
from attacks.methods import CONNECT, REFLECTION, SUBMIT_JOB, WATCH
from dispatchd.domain import limits
from dispatchd.v1 import dispatchd_pb2 as pb
from tokens_for_tests import token
from waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
LARGE = 100 * MIB
SUBMITTER = token("mallory", "submitter")
WORKER = token("mallory", "worker")
AHEAD = LARGE // 2
"""What gRPC may have let somebody send before it saw how much it is: its windows grow with a connection's speed."""


def called(site: Site, method: str) -> AttackedRole:
    return site.gateway if method == CONNECT else site.control_plane


CALLS = {
    "a stranger submits": (SUBMIT_JOB, None),
    "a stranger connects": (CONNECT, None),
    "a stranger watches": (WATCH, None),
    "submit": (SUBMIT_JOB, SUBMITTER),
    "connect": (CONNECT, WORKER),
    "reflection": (REFLECTION, SUBMITTER),
}


@pytest.mark.parametrize("call", CALLS)
async def test_one_message_that_is_sent(site: Site, call: str) -> None:
    method, bearer = CALLS[call]
    async with connection(called(site, method).port) as attacker:
        number = await attacker.call(method, bearer)
        assert await attacker.body(number, message(bytes(LARGE))) < AHEAD
        await attacker.until_ended(number)
        await site.honest_job()


@pytest.mark.parametrize("declared_bytes", [limits.REQUEST_BYTES + 1, LARGE, 2**32 - 1])
@pytest.mark.parametrize("call", [name for name, (_, bearer) in CALLS.items() if bearer])
async def test_one_message_that_is_only_announced(site: Site, call: str, declared_bytes: int) -> None:
    method, bearer = CALLS[call]
    async with connection(called(site, method).port) as attacker:
        number = await attacker.call(method, bearer)
        await attacker.body(number, message(b"", declared_bytes=declared_bytes))
        await attacker.until_ended(number)


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"none-that-exists"])
@pytest.mark.parametrize("call", ["submit", "connect"])
async def test_one_message_that_is_packed(site: Site, call: str, encoding: bytes) -> None:
    """100 KB that mean 100 MB: gRPC unpacks messages that say they are compressed."""
    method, bearer = CALLS[call]
    packed = gzip.compress(bytes(LARGE))
    async with connection(called(site, method).port) as attacker:
        for _ in range(3):
            number = attacker.stream()
            headers = call_headers(method, bearer) + header(b"grpc-encoding", encoding)
            await attacker.send(frame(Kind.HEADERS, number, headers, Flag.END_HEADERS))
            with suppress(Gone):
                await attacker.body(number, b"\1" + message(packed)[1:])
            await attacker.until_ended(number)
        await site.honest_job()


async def test_many_messages_of_many_calls(site: Site) -> None:
    """As large as they may be; each of them is wrong, which is found when it is there."""
    wrong = message(bytes(limits.REQUEST_BYTES))
    async with connection(site.control_plane.port) as attacker:

        async def call() -> None:
            number = await attacker.call(SUBMIT_JOB, SUBMITTER)
            await attacker.body(number, wrong)
            await attacker.send(frame(Kind.DATA, number, b"", Flag.END_STREAM))
            await attacker.until_ended(number)

        calling = asyncio.gather(*(call() for _ in range(LARGE // limits.REQUEST_BYTES)))
        await site.honest_job()
        await calling


async def test_many_messages_of_one_stream(site: Site) -> None:
    """As large as they may be, and right: heartbeats with a field that this release does not know."""
    registration = pb.WorkerRegistration(worker_id="mallory", capabilities=["mallory"])
    heartbeat = pb.ConnectRequest(heartbeat=pb.WorkerHeartbeat(worker_id="mallory")).SerializeToString()
    padding = bytes(limits.REQUEST_BYTES - len(heartbeat) - 6)
    padded = heartbeat + b"\xaa\x06" + varint(len(padding)) + padding
    assert len(padded) <= limits.REQUEST_BYTES
    before = await site.gateway.metric("dispatchd_heartbeats_total")
    async with connection(site.gateway.port) as attacker:
        number = await attacker.call(CONNECT, WORKER)
        await attacker.body(number, message(pb.ConnectRequest(registration=registration).SerializeToString()))
        for _ in range(LARGE // limits.REQUEST_BYTES):
            await attacker.body(number, message(padded))

        async def all_were_heard() -> bool:
            return await site.gateway.metric("dispatchd_heartbeats_total") >= before + LARGE // limits.REQUEST_BYTES

        await eventually(all_were_heard)
        await site.honest_job()
        assert number not in attacker.ended


def varint(number: int) -> bytes:
    """As protobuf writes it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


async def test_a_request_to_the_probes(site: Site) -> None:
    """Its body is not read, nor are headers without an end."""
    probes = site.control_plane
    async with aiohttp.ClientSession() as http:
        with suppress(aiohttp.ClientError):
            await http.post(f"{probes.probes_url}/metrics", data=io.BytesIO(bytes(LARGE)))
        attacker = await connect(probes.metrics_port)
        try:
            with suppress(Gone):
                await attacker.send(b"GET /metrics HTTP/1.1\r\n")
                for number in range(LARGE // MIB):
                    await attacker.send(b"X-%d: %b\r\n" % (number, b"a" * MIB))
            assert attacker.is_gone
        finally:
            await attacker.close()
        assert (await http.get(f"{probes.probes_url}/readyz")).status == 200
