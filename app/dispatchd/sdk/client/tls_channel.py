"""The channel of a client with TLS: it is replaced when the certificates have been.

call ──► looked at the files lately? ──no──► have they changed? ──yes──► new channel; the old one closes
           │ yes                                │ no                     when its last call has ended
           └──────────► channel ◄───────────────┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from dispatchd.sdk.client.token_channel import Method
from dispatchd.sdk.tls import FollowedTls

LOOK_EVERY_S = 5.0


class _Opened:
    """A channel and how many calls are on it."""

    def __init__(self, channel: grpc.aio.Channel, credentials: grpc.ChannelCredentials):
        self.channel = channel
        self.credentials = credentials
        self.calls = 0
        self._methods: dict[str, Method] = {}

    def method(self, name: str, *args: Any, **options: Any) -> Method:
        found = self._methods.get(name)
        if found is None:
            found = self._methods[name] = self.channel.unary_unary(name, *args, **options)
        return found


class TlsChannel:
    """Fulfils `UnaryChannel`."""

    def __init__(self, open_channel: Callable[[grpc.ChannelCredentials], grpc.aio.Channel], tls: FollowedTls):
        self._open_channel = open_channel
        self._tls = tls
        self._look_at = asyncio.get_running_loop().time() + LOOK_EVERY_S
        self._retired: set[_Opened] = set()
        self._current = self._open()

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Method:
        """Return what makes calls of one method, each over the channel that is current when it begins."""

        async def call(request: Any, *, timeout: float, metadata: grpc.aio.Metadata) -> Any:
            await self._look()
            opened = self._current
            opened.calls += 1
            try:
                return await opened.method(method, *args, **options)(request, timeout=timeout, metadata=metadata)
            finally:
                opened.calls -= 1
                await self._close_if_over(opened)

        return call

    async def close(self) -> None:
        """End all calls and every connection."""
        for opened in (self._current, *self._retired):
            await opened.channel.close()

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        await asyncio.to_thread(self._tls.look)
        if self._tls.credentials is not self._current.credentials:
            last, self._current = self._current, self._open()
            self._retired.add(last)
            await self._close_if_over(last)

    def _open(self) -> _Opened:
        # Channels with different credentials share no connection, though they have one pool.
        credentials = self._tls.credentials
        return _Opened(self._open_channel(credentials), credentials)

    async def _close_if_over(self, opened: _Opened) -> None:
        if opened in self._retired and not opened.calls:
            self._retired.remove(opened)
            await opened.channel.close()
