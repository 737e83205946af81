"""The worker's way to a gateway: always one stream, and the next one before the last has gone.

    no stream ──► open, register ──► current ──┬─ ended ─────────────► backoff ─► open the next
                     │     ▲                   │
                     │     └── backoff         └─ asked to reconnect ─► open the next beside it, register there,
                     └─ failed ┘                                        then close this one

A stream that ends ABORTED was superseded. If it is the newest one, another process uses this worker's id, and going on
would only take it back and forth: that is fatal. An older one was superseded by this worker itself. A stream that
ends because its token has expired is no failure: the next one follows without a backoff.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import grpc

from dispatchd.sdk.backoff import Backoff
from dispatchd.sdk.errors import DispatchdError, NotSupported, WorkerSuperseded
from dispatchd.sdk.grpc_status import Refusal, error_from
from dispatchd.sdk.worker.stream import WorkerStream

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 3.0
# A registration that was given up may still reach a server late, and then supersedes its own successor.
STRAY_REGISTRATION_S = 60.0

# Before the first registration these say that the worker is set up wrongly, and that is better seen at once.
SETUP_ERRORS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)

logger = logging.getLogger("dispatchd.worker")


class Link:
    """Opens streams one after the other until it is told to leave."""

    def __init__(self, worker_id: str, target: str, open_stream: Callable[[], WorkerStream]):
        self._worker_id = worker_id
        self._target = target
        self._open_stream = open_stream
        self._backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
        self._newest: WorkerStream | None = None
        self._asked_to_reconnect: WorkerStream | None = None
        self._stray_until = 0.0
        self._was_registered = False
        self._last_trouble = ""
        self._news = asyncio.Event()
        self._may_connect = asyncio.Event()
        self._may_connect.set()
        self.current: WorkerStream | None = None

    async def run(self) -> DispatchdError:
        """Keep a stream open until cancelled, or until an error that reconnecting can't mend, which is returned."""
        async with asyncio.TaskGroup() as streams:
            while True:
                await self._may_connect.wait()
                stream = self._open_stream()
                streams.create_task(stream.run(), name="worker stream")
                await self._done_with(stream)
                fatal = self._verdict(stream)
                if fatal is not None:
                    self.stop_connecting()
                    return fatal
                await self._pause(stream)

    def registering(self, stream: WorkerStream) -> None:
        """A stream is about to register: from now on the older ones may be superseded by it."""
        self._newest = stream

    def registered(self, stream: WorkerStream) -> None:
        """A stream is current from now on; the one before it has done its work."""
        if self.current is not None:
            self.current.close()
        self.current = stream
        self._was_registered = True
        self._last_trouble = ""
        self._backoff.reset()
        self._news.set()
        if not self._may_connect.is_set():
            stream.close()

    def ended(self, stream: WorkerStream) -> None:
        """A stream has ended, and says how."""
        self._news.set()

    def reconnect(self, stream: WorkerStream) -> None:
        """The gateway of a stream is going away: open the next one beside it."""
        self._asked_to_reconnect = stream
        self._news.set()

    def is_newest(self, stream: WorkerStream) -> bool:
        """Whether no later stream has registered, or tried to."""
        return stream is self._newest

    def stop_connecting(self) -> None:
        """Close the current stream and open no other one."""
        self._may_connect.clear()
        if self.current is not None:
            self.current.close()

    def connect_again(self) -> None:
        """Undo `stop_connecting`."""
        self._may_connect.set()

    async def leave(self) -> None:
        """Close the current stream and wait until it has ended, which takes a few seconds at most."""
        self.stop_connecting()
        if self.current is not None:
            await self.current.has_ended.wait()

    async def _done_with(self, stream: WorkerStream) -> None:
        while not stream.has_ended.is_set() and stream is not self._asked_to_reconnect:
            self._news.clear()
            await self._news.wait()

    def _verdict(self, stream: WorkerStream) -> DispatchdError | None:
        now = time.monotonic()
        newest = self._newest
        if newest is not None and newest.refusal is not None and newest.refusal.code is grpc.StatusCode.ABORTED:
            if now >= self._stray_until:
                return WorkerSuperseded(self._worker_id, newest.refusal.message)
            self._stray_until = 0.0
            self._newest = None
        elif newest is stream and stream.has_ended.is_set() and not stream.is_registered.is_set():
            self._stray_until = now + STRAY_REGISTRATION_S
        refusal = stream.refusal
        if refusal is None:
            return None
        if refusal.is_expiry:
            logger.info("the token of worker %s has expired, and it connects again", self._worker_id)
            return None
        if refusal.code in SETUP_ERRORS and not self._was_registered:
            if refusal.code is grpc.StatusCode.UNIMPLEMENTED:
                return NotSupported(f"{self._target} is no worker-gateway: workers connect to its port, often 8081")
            return error_from(replace(refusal, message=f"worker {self._worker_id} was refused: {refusal.message}"))
        self._report(refusal)
        return None

    def _report(self, refusal: Refusal) -> None:
        trouble = f"{refusal.code.name}: {refusal.message}"
        # Once for each kind of trouble: a gateway may be away for hours, and this is said every few seconds.
        level = logging.DEBUG if trouble == self._last_trouble else logging.WARNING
        self._last_trouble = trouble
        logger.log(
            level, "worker %s lost its stream, or did not get one, and connects again: %s", self._worker_id, trouble
        )

    async def _pause(self, stream: WorkerStream) -> None:
        refusal = stream.refusal
        if refusal is not None and refusal.is_expiry and stream.is_registered.is_set():
            return
        delay_s = self._backoff.next_s()
        if refusal is not None and refusal.retry_after is not None:
            delay_s = max(delay_s, refusal.retry_after.total_seconds())
        await asyncio.sleep(delay_s)
