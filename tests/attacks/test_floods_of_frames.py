"""Frames that cost their sender next to nothing, as many as a role takes: what they cost it is bounded."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from attacks.attacked import AttackedRole, Site
from attacks.connection import Gone, RawConnection, Reading, connect, connection
from attacks.frames import LARGEST_FRAME_BYTES, Flag, Kind, call_headers, frame, header, ping, reset
from attacks.methods import CONNECT, GET_JOB
from tokens_for_tests import token
from waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
HONEST_JOBS = 3
"""While an attack goes on."""


class Flood:
    """Sends what a function makes, again and again; connects anew when it was thrown out."""

    def __init__(self, port: int, make: Callable[[RawConnection], bytes], reading: Reading) -> None:
        self.sent_bytes = 0
        self._port = port
        self._make = make
        self._reading = reading

    async def run(self) -> None:
        while True:
            with suppress(Gone):
                async with connection(self._port, reading=self._reading) as attacker:
                    while True:
                        data = self._make(attacker)
                        await attacker.send(data)
                        self.sent_bytes += len(data)
                        # Who only writes would never let anybody else do anything in this loop.
                        await asyncio.sleep(0)

    async def reaches(self, mib: int) -> None:
        await until(lambda: self.sent_bytes >= mib * MIB)


@asynccontextmanager
async def flood(
    role: AttackedRole, make: Callable[[RawConnection], bytes], reading: Reading = Reading.DISCARDED
) -> AsyncIterator[Flood]:
    flood = Flood(role.port, make, reading)
    running = asyncio.create_task(flood.run(), name="flood")
    try:
        yield flood
    finally:
        running.cancel()
        await asyncio.wait([running])


FRAMES = {
    "PING": ping(7),
    "SETTINGS": frame(Kind.SETTINGS),
    "PRIORITY": frame(Kind.PRIORITY, 1, bytes(5)),
    "WINDOW_UPDATE": frame(Kind.WINDOW_UPDATE, 0, (1).to_bytes(4)),
    "DATA of no call": frame(Kind.DATA, 1),
    "of a kind that nobody knows": frame(0x42, 0, bytes(100)),
}


@pytest.mark.parametrize("reading", [Reading.DISCARDED, Reading.NONE])
@pytest.mark.parametrize("kind", FRAMES)
async def test_frames_without_end(site: Site, kind: str, reading: Reading) -> None:
    """RFC 9113, section 10.5, names them as ways to keep a peer busy."""
    data = FRAMES[kind] * (256 * 1024 // len(FRAMES[kind]))
    async with flood(site.control_plane, lambda _: data, reading) as flooding:
        for _ in range(HONEST_JOBS):
            await site.honest_job()
        if reading is Reading.DISCARDED:
            await flooding.reaches(8)


def begun_and_reset(method: str, bearer: str | None, flags: Flag) -> Callable[[RawConnection], bytes]:
    headers = call_headers(method, bearer)

    def some(attacker: RawConnection) -> bytes:
        numbers = [attacker.stream() for _ in range(200)]
        return b"".join(frame(Kind.HEADERS, number, headers, flags) + reset(number) for number in numbers)

    return some


@pytest.mark.parametrize("bearer", [None, token("mallory", "viewer")], ids=["a stranger", "a viewer"])
async def test_calls_that_are_reset_as_soon_as_they_are_begun(site: Site, bearer: str | None) -> None:
    """CVE-2023-44487: a stream that is reset counts no longer, what it began in the server may."""
    some = begun_and_reset(GET_JOB, bearer, Flag.END_HEADERS | Flag.END_STREAM)
    async with flood(site.control_plane, some) as flooding:
        for _ in range(HONEST_JOBS):
            await site.honest_job()
        await flooding.reaches(1)


async def test_streams_of_workers_that_are_reset_as_soon_as_they_are_begun(site: Site) -> None:
    some = begun_and_reset(CONNECT, token("mallory", "worker"), Flag.END_HEADERS)
    async with flood(site.gateway, some) as flooding:
        for _ in range(HONEST_JOBS):
            await site.honest_job()
        await flooding.reaches(1)


# --- headers --------------------------------------------------------------------------------------------------------


async def send_headers(attacker: RawConnection, number: int, parts: list[bytes]) -> None:
    """Sends parts of a header block without an end, until the server has had enough."""
    kind = Kind.HEADERS
    with suppress(Gone):
        for part in parts:
            await attacker.send(frame(kind, number, part))
            kind = Kind.CONTINUATION
            await asyncio.sleep(0)


@pytest.mark.parametrize("reading", [Reading.PARSED, Reading.NONE])
async def test_headers_that_never_end(site: Site, reading: Reading) -> None:
    """CVE-2024-27316 and others: CONTINUATION after CONTINUATION, none of which says END_HEADERS."""
    more = header(b"x-more", b"a" * (LARGEST_FRAME_BYTES - 100))
    async with connection(site.control_plane.port, reading=reading) as attacker:
        await send_headers(attacker, attacker.stream(), [call_headers(GET_JOB)] + [more] * (100 * MIB // len(more)))
        if reading is Reading.PARSED:
            await attacker.until_gone()
        await site.honest_job()


async def test_one_header_of_100_mib(site: Site) -> None:
    block = call_headers(GET_JOB) + header(b"x-large", bytes(100 * MIB))
    parts = [block[at : at + LARGEST_FRAME_BYTES] for at in range(0, len(block), LARGEST_FRAME_BYTES)]
    async with connection(site.control_plane.port) as attacker:
        await send_headers(attacker, attacker.stream(), parts)
        await attacker.until_gone()
        await site.honest_job()


async def test_headers_larger_than_allowed_end_their_call(site: Site) -> None:
    """Of 17 KiB, in two frames: the connection goes on, for the sender may be honest."""
    headers = call_headers(GET_JOB) + header(b"x-large", b"a" * 17 * 1024)
    async with connection(site.control_plane.port) as attacker:
        first = await attacker.call(GET_JOB)
        await attacker.until_ended(first)
        number = attacker.stream()
        await attacker.send(
            frame(Kind.HEADERS, number, headers[:LARGEST_FRAME_BYTES])
            + frame(Kind.CONTINUATION, number, headers[LARGEST_FRAME_BYTES:], Flag.END_HEADERS)
        )
        await attacker.until_ended(number)
        assert not attacker.is_gone


@pytest.mark.parametrize("acknowledges", [True, False])
async def test_a_header_that_is_stored_once_and_named_again_and_again(site: Site, acknowledges: bool) -> None:
    """A byte names a header of 4 KB in the table of the connection (RFC 7541, section 6.1), so that a frame of 2 KB
    means 8 MB: the "HPACK bomb" of CVE-2016-6581. gRPC's limit counts from the acknowledgement of its settings on."""
    stored = b"\x40" + header(b"x-bomb", b"a" * 4_000)[1:]
    named = call_headers(GET_JOB) + b"\xbe" * 2_000
    reading = Reading.PARSED if acknowledges else Reading.NONE
    async with connection(site.control_plane.port, reading=reading) as attacker:
        first = attacker.stream()
        await attacker.send(frame(Kind.HEADERS, first, call_headers(GET_JOB) + stored, Flag.END_HEADERS))
        if acknowledges:
            await attacker.until_ended(first)
        with suppress(Gone):
            for _ in range(1_000 if acknowledges else 200):
                await attacker.send(frame(Kind.HEADERS, attacker.stream(), named, Flag.END_HEADERS))
                await asyncio.sleep(0)
        await site.honest_job()


# --- what is wrong --------------------------------------------------------------------------------------------------


async def test_what_is_no_http2_at_all(site: Site) -> None:
    for first in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\xff" * 100_000):
        attacker = await connect(site.control_plane.port)
        try:
            with suppress(Gone):
                await attacker.send(first)
            attacker.read()
            await attacker.until_gone()
        finally:
            await attacker.close()


WRONG = {
    "SETTINGS of 3 bytes": frame(Kind.SETTINGS, payload=bytes(3)),
    "PING of 3 bytes": frame(Kind.PING, payload=bytes(3)),
    "headers that name what is not in the table": frame(Kind.HEADERS, 1, b"\xff" * 10, Flag.END_HEADERS),
    "a stream of the server's": frame(Kind.HEADERS, 2, call_headers(GET_JOB), Flag.END_HEADERS),
    "CONTINUATION of nothing": frame(Kind.CONTINUATION, 1, b"", Flag.END_HEADERS),
    "a window larger than there are": frame(Kind.WINDOW_UPDATE, 0, (2**31 - 1).to_bytes(4)),
    "a promise of a client": frame(Kind.PUSH_PROMISE, 1, bytes(4)),
    "DATA of 16 MiB": (2**24 - 1).to_bytes(3) + bytes([Kind.DATA, 0]) + (1).to_bytes(4) + bytes(100_000),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_frames_that_break_a_rule(site: Site, wrong: str) -> None:
    async with connection(site.control_plane.port) as attacker:
        with suppress(Gone):
            await attacker.send(WRONG[wrong])
        await site.honest_job()
