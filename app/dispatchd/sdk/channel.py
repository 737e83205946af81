"""The channel options of the client and the worker, and how a channel is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import grpc
import grpc.aio

from dispatchd.sdk.errors import InvalidRequest
from dispatchd.sdk.tls import Tls

CallMetadata: TypeAlias = tuple[tuple[str, str], ...]

# Of several addresses behind one target any may be first, so that callers spread out, and so that a worker told to
# leave its gateway does not come back to the same one as long as that still listens.
_SPREAD = [("grpc.service_config", '{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}')]
# gRPC waits up to two minutes between connection attempts by default; a restarted role should be found in seconds.
_RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # in truth the time one connection attempt may take
    ("grpc.max_reconnect_backoff_ms", 3_000),
]
# A peer that vanished without a FIN is noticed within 40 s of a call. Calls last at most a minute, so a server with
# gRPC's default ping policy never counts enough pings to object.
_KEEPALIVE = [("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000)]
# Streams of one worker must not share a connection: the next one is meant to reach another gateway.
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def open_client_channel(
    target: str, credentials: grpc.ChannelCredentials | None, *, own_connection: bool = False
) -> grpc.aio.Channel:
    """Return a channel for unary calls, which may share its connection with other channels of this process."""
    own = _OWN_CONNECTION if own_connection else []
    return _open(target, credentials, [*_SPREAD, *_RECONNECT, *_KEEPALIVE, *own])


def open_stream_channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """Return a channel with a connection of its own, for one stream."""
    return _open(target, credentials, [*_SPREAD, *_RECONNECT, *_OWN_CONNECTION])


def _open(
    target: str, credentials: grpc.ChannelCredentials | None, options: list[tuple[str, str | int]]
) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


def checked_tls(tls: Tls | None, credentials: grpc.ChannelCredentials | None) -> Tls | None:
    """Return `tls`; `InvalidRequest` if there are credentials too."""
    if tls is not None and credentials is not None:
        raise InvalidRequest("give either tls or credentials, not both: each says how to encrypt", field="tls")
    return tls


def to_call_metadata(headers: Mapping[str, str] | None) -> CallMetadata:
    """Return gRPC call metadata in a fixed order, so that equal headers compare equal."""
    try:
        return tuple(sorted((name.lower(), value) for name, value in (headers or {}).items()))
    except AttributeError as exc:
        raise InvalidRequest("call_metadata must map strings to strings", field="call_metadata") from exc
