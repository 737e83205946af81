"""A client that speaks HTTP/2 frame by frame, and is as rude as a test wants it to be."""

import asyncio
import ssl as tls
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from typing import Self

from attacks.frames import (
    FIRST_WINDOW_BYTES,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME_BYTES,
    PREFACE,
    Flag,
    Kind,
    call_headers,
    frame,
    setting,
)

PATIENCE_S = 30.0


class Reading(Enum):
    """What a client does with what it is sent."""

    PARSED = auto()
    """It takes every frame apart."""
    DISCARDED = auto()
    """It acknowledges the first settings and throws the rest away: as quick as a flood has to be."""
    NONE = auto()
    """It leaves everything in the server and the kernel, and never acknowledges the settings."""


class Gone(Exception):
    """The server has closed the connection."""


class RawConnection:
    """One connection. It acknowledges settings and pings, keeps to the server's windows in `body` alone, and never
    opens a window of its own, so that a call gets `window_bytes` of its answer and no more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received: Counter[Kind] = Counter()
        self.ended: set[int] = set()
        """Streams that the server has ended."""
        self.refused: set[int] = set()
        """Those of them that it ended by RST_STREAM."""
        self.is_gone = False
        self._reader = reader
        self._writer = writer
        self._next_stream = 1
        self._windows: dict[int, int] = {0: FIRST_WINDOW_BYTES}
        self._first_window = FIRST_WINDOW_BYTES
        self._changed = asyncio.Condition()
        self._reader_task: asyncio.Task[None] | None = None

    async def greet(self, *, window_bytes: int = FIRST_WINDOW_BYTES, reading: Reading = Reading.PARSED) -> Self:
        """Says the preface."""
        settings = frame(Kind.SETTINGS, payload=setting(INITIAL_WINDOW_SIZE, window_bytes))
        await self.send(PREFACE + settings)
        if reading is not Reading.NONE:
            self.read(reading)
        return self

    def read(self, reading: Reading = Reading.PARSED) -> None:
        """Begins to read."""
        read = self._read() if reading is Reading.PARSED else self._discard()
        self._reader_task = asyncio.create_task(read, name="raw reader")

    async def send(self, data: bytes) -> None:
        """Writes bytes as they are; waits while the server does not read. Raises Gone."""
        if self.is_gone:
            raise Gone
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as exc:
            self.is_gone = True
            raise Gone from exc

    def stream(self) -> int:
        """The number of a new stream."""
        number = self._next_stream
        self._next_stream += 2
        self._windows[number] = self._first_window
        return number

    async def call(self, method: str, token: str | None = None, body: bytes | None = None) -> int:
        """Begins a call, with a whole request that fits the windows or without any; its stream."""
        number = self.stream()
        frames = frame(Kind.HEADERS, number, call_headers(method, token), Flag.END_HEADERS)
        if body is not None:
            frames += frame(Kind.DATA, number, body, Flag.END_STREAM)
            self._spend(number, len(body))
        await self.send(frames)
        return number

    async def body(self, number: int, data: bytes) -> int:
        """Sends a part of a request as fast as the server takes it; how many bytes it took until it ended the call."""
        sent = 0
        while sent < len(data):
            async with self._changed:
                await self._changed.wait_for(lambda: self._may_send(number) > 0 or self._is_over(number))
            if self._is_over(number):
                break
            part = data[sent : sent + min(self._may_send(number), LARGEST_FRAME_BYTES)]
            self._spend(number, len(part))
            await self.send(frame(Kind.DATA, number, part))
            sent += len(part)
        return sent

    async def until_ended(self, *numbers: int) -> None:
        """Returns once the server has ended these streams. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: self.is_gone or self.ended.issuperset(numbers))

    async def until_so_many_ended(self, count: int) -> None:
        """Returns once the server has ended so many streams, whichever they are. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: self.is_gone or len(self.ended) >= count)

    async def until_gone(self) -> None:
        """Returns once the server has closed the connection. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: self.is_gone)

    async def close(self) -> None:
        """Drops the connection."""
        if self._reader_task is not None:
            self._reader_task.cancel()
            await asyncio.wait([self._reader_task])
        self._writer.transport.abort()
        with suppress(OSError):
            await self._writer.wait_closed()

    def _may_send(self, number: int) -> int:
        return min(self._windows[0], self._windows[number])

    def _spend(self, number: int, count: int) -> None:
        self._windows[0] -= count
        self._windows[number] -= count

    def _is_over(self, number: int) -> bool:
        return self.is_gone or number in self.ended

    async def _read(self) -> None:
        async with self._until_gone():
            while True:
                await self._take(*await self._frame())

    async def _discard(self) -> None:
        async with self._until_gone():
            await self._take(*await self._frame())
            while await self._reader.read(1024 * 1024):
                pass

    @asynccontextmanager
    async def _until_gone(self) -> AsyncIterator[None]:
        with suppress(OSError, asyncio.IncompleteReadError, Gone):
            yield
        async with self._changed:
            self.is_gone = True
            self._changed.notify_all()

    async def _frame(self) -> tuple[Kind, Flag, int, bytes]:
        head = await self._reader.readexactly(9)
        payload = await self._reader.readexactly(int.from_bytes(head[:3]))
        return Kind(head[3]), Flag(head[4]), int.from_bytes(head[5:]), payload

    async def _take(self, kind: Kind, flags: Flag, number: int, payload: bytes) -> None:
        self.received[kind] += 1
        match kind:
            case Kind.SETTINGS if not flags & Flag.ACK:
                self._settle(payload)
                await self.send(frame(Kind.SETTINGS, flags=Flag.ACK))
            case Kind.PING if not flags & Flag.ACK:
                await self.send(frame(Kind.PING, payload=payload, flags=Flag.ACK))
            case Kind.WINDOW_UPDATE:
                self._windows[number] = self._windows.get(number, self._first_window) + int.from_bytes(payload)
            case Kind.RST_STREAM:
                self.ended.add(number)
                self.refused.add(number)
            case Kind.HEADERS | Kind.DATA if flags & Flag.END_STREAM:
                self.ended.add(number)
            case _:
                return
        async with self._changed:
            self._changed.notify_all()

    def _settle(self, payload: bytes) -> None:
        """A new initial window changes those of open streams too (RFC 9113, section 6.9.2)."""
        for at in range(0, len(payload), 6):
            if int.from_bytes(payload[at : at + 2]) == INITIAL_WINDOW_SIZE:
                value = int.from_bytes(payload[at + 2 : at + 6])
                for number in self._windows:
                    if number:
                        self._windows[number] += value - self._first_window
                self._first_window = value


async def connect(port: int, ssl: tls.SSLContext | None = None) -> RawConnection:
    """A connection to this machine, on which nothing was said yet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ssl)
    return RawConnection(reader, writer)


@asynccontextmanager
async def connection(
    port: int, *, window_bytes: int = FIRST_WINDOW_BYTES, reading: Reading = Reading.PARSED
) -> AsyncIterator[RawConnection]:
    """A connection on which the preface was said; dropped with the block."""
    connected = await connect(port)
    try:
        yield await connected.greet(window_bytes=window_bytes, reading=reading)
    finally:
        await connected.close()
