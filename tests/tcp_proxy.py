"""A TCP proxy between a program and its server that can break the connection in every way a network does."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_CHUNK = 64 * 1024


class TcpProxy:
    """Passes bytes on, until it is told otherwise. Counts connections."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._hears = asyncio.Event()
        self._hears.set()
        self._refuses = False
        self._cut_answer: Callable[[bytes], bool] | None = None
        self._held_answer: Callable[[bytes], bool] | None = None
        self._lets_go = asyncio.Event()
        self._delay_s = 0.0
        self.connections = 0
        self.port = 0
        self.cuts = 0

    def go_deaf(self) -> None:
        """Takes connections and bytes, and passes nothing on in either direction."""
        self._hears.clear()

    def hear_again(self) -> None:
        """Passes on what it held back, and everything after."""
        self._hears.set()
        self._lets_go.set()

    def delay(self, delay_s: float) -> None:
        """Holds every piece of data so long before it passes it on, in both directions; 0 ends that."""
        self._delay_s = delay_s

    def refuse(self) -> None:
        """Breaks every connection, and each new one at once."""
        self._refuses = True
        self.cut()

    def accept_again(self) -> None:
        """Takes new connections."""
        self._refuses = False

    def cut(self) -> None:
        """Breaks every connection."""
        for writer in list(self._writers):
            transport = writer.transport
            transport.abort()

    def cut_once_before(self, is_it: Callable[[bytes], bool]) -> None:
        """Breaks the connection in place of passing on the first answer for which `is_it` is true."""
        self._cut_answer = is_it

    def hold_once_before(self, is_it: Callable[[bytes], bool]) -> None:
        """Goes deaf on one connection: the one with the first answer for which `is_it` is true, which is held back."""
        self._held_answer = is_it
        self._lets_go.clear()

    @property
    def open(self) -> int:
        """How many connections pass through it now."""
        return len(self._writers) // 2

    @property
    def holds(self) -> bool:
        """Whether `hold_once_before` has come into effect."""
        return self._held_answer is None and not self._lets_go.is_set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refuses:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server_writer, is_answer=False))
                group.create_task(self._pump(server_reader, writer, is_answer=True))
        except* OSError:
            pass
        finally:
            self._writers -= {writer, server_writer}
            for each in (writer, server_writer):
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        while data := await reader.read(_CHUNK):
            await self._hears.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if is_answer and self._cut_answer is not None and self._cut_answer(data):
                self._cut_answer = None
                self.cuts += 1
                raise ConnectionResetError
            if is_answer and self._held_answer is not None and self._held_answer(data):
                self._held_answer = None
                await self._lets_go.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@asynccontextmanager
async def proxy_to(address: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[TcpProxy]:
    """A proxy on a free port to `host:port`; with `tls` its clients have to speak that, and the server does not."""
    host, _, port = address.rpartition(":")
    proxy = TcpProxy(host, int(port))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.hear_again()
        proxy.cut()
        await server.wait_closed()
