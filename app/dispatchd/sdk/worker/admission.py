"""What gateways let a worker in with, each as it is when a stream begins."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from dispatchd.sdk.channel import CallMetadata, open_stream_channel
from dispatchd.sdk.tls import FollowedTls, Tls
from dispatchd.sdk.token import AUTHORIZATION, TokenSource


class Admission:
    """Opens channels and gives the headers for their streams."""

    def __init__(
        self,
        target: str,
        call_metadata: CallMetadata,
        token: TokenSource | None,
        tls: Tls | None,
        credentials: grpc.ChannelCredentials | None,
    ):
        self._target = target
        self._call_metadata = call_metadata
        self._token = token
        self._tls = tls
        self._followed: FollowedTls | None = None
        self._credentials = credentials
        self._shown: str | None = None
        self._refused: str | None = None

    async def begin(self) -> None:
        """Read the files for TLS for the first time; raises `UnusableCertificate`."""
        if self._tls is not None:
            self._followed = await asyncio.to_thread(FollowedTls, self._tls)

    async def channel(self) -> grpc.aio.Channel:
        """Return a new channel, with the certificates that are in the files now."""
        if self._followed is None:
            return open_stream_channel(self._target, self._credentials)
        await asyncio.to_thread(self._followed.look)
        return open_stream_channel(self._target, self._followed.credentials)

    async def headers(self) -> grpc.aio.Metadata:
        """Return the headers for a stream; `Unauthenticated` if there is no token. May take long: bound it."""
        if self._token is None:
            return grpc.aio.Metadata(*self._call_metadata)
        token = await self._token.current()
        if token == self._refused:
            # Without another one the server is asked again: it may know by now whom to trust.
            token = await self._token.other_than(token) or token
        self._shown = token
        return grpc.aio.Metadata(*self._call_metadata, (AUTHORIZATION, f"Bearer {token}"))

    def refused(self) -> None:
        """The server did not take the token, or does so no longer: the next stream needs another one."""
        self._refused = self._shown
