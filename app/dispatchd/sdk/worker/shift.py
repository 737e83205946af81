"""One `serve` of a worker, from its first stream to its last, seen from the SDK's own thread and loop.

                      SDK thread and loop             │   elsewhere
                                                      │
    gateway ◄──stream──► Link ◄──► Shift ─ start, cancel ─► Runner: async tasks, in the user's loop
                                     │ ◄── began, ended ───
                                   Ledger             │
                                     │ ─── run ───────────► TaskThreads: plain functions
                                     │ ◄── ended ──────────

Because the stream does not live in the user's loop, a task that blocks that loop keeps its lease.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from dispatchd.sdk.errors import DispatchdError
from dispatchd.sdk.worker.admission import Admission
from dispatchd.sdk.worker.context import TaskContext
from dispatchd.sdk.worker.crossing import Crossing
from dispatchd.sdk.worker.drain import Drain
from dispatchd.sdk.worker.lease import Lease
from dispatchd.sdk.worker.ledger import Held, Ledger, StopReason
from dispatchd.sdk.worker.link import Link
from dispatchd.sdk.worker.log_lines import LogLines
from dispatchd.sdk.worker.perform import Call, perform_in_thread, timed_out
from dispatchd.sdk.worker.runner import Runner
from dispatchd.sdk.worker.settings import WorkerSettings
from dispatchd.sdk.worker.stall import StallWatch
from dispatchd.sdk.worker.stream import WorkerStream
from dispatchd.sdk.worker.threads import TaskThreads
from dispatchd.v1 import dispatchd_pb2 as v1

FEATURES = (v1.WORKER_FEATURE_BATCHING, v1.WORKER_FEATURE_STARTED, v1.WORKER_FEATURE_RESUME)

logger = logging.getLogger("dispatchd.worker")


class Shift:
    """Owns what the worker holds and who works on it. Its methods run in the SDK's loop unless they say otherwise."""

    def __init__(
        self,
        settings: WorkerSettings,
        sdk_loop: asyncio.AbstractEventLoop,
        user_loop: asyncio.AbstractEventLoop,
        user_tasks: asyncio.TaskGroup,
    ):
        self._settings = settings
        self._context = contextvars.copy_context()
        self._process_id = secrets.token_hex(16)
        self._ledger = Ledger(settings.max_concurrency)
        self._calls: dict[str, Call] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._lease = Lease()
        self._log_lines = LogLines()
        self._admission = Admission(
            settings.target, settings.call_metadata, settings.token, settings.tls, settings.credentials
        )
        self._link = Link(settings.worker_id, settings.target, self._new_stream)
        self._drain = Drain(self._ledger, settings.drain_timeout_s, self._announce, self._cancel)
        self._stall = StallWatch(
            user_loop, settings.stall_limit_s, self._link.stop_connecting, self._link.connect_again
        )
        self._threads = TaskThreads(f"dispatchd task of {settings.worker_id}")
        # An execution crosses over to be started and cancelled, and back when it began and ended.
        limit = 64 + 16 * settings.max_concurrency
        self._to_user: Crossing[Callable[[], None]] = Crossing(user_loop, _do, limit=limit, context=self._context)
        self._to_sdk: Crossing[Callable[[], None]] = Crossing(sdk_loop, _do, limit=limit)
        self.runner = Runner(user_tasks, self._context, self._tell_began, self._tell_ended)
        self._over = asyncio.Event()
        self._fatal: DispatchdError | None = None

    async def run(self) -> None:
        """Serve until drained or stopped. `WorkerSuperseded`, or what kept the first registration from succeeding."""
        try:
            await self._admission.begin()
            async with asyncio.TaskGroup() as parts:
                tasks = [
                    parts.create_task(self._keep_link(), name="link"),
                    parts.create_task(self._watch_lease(), name="lease watch"),
                    parts.create_task(self._stall.run(), name="stall watch"),
                    parts.create_task(self._leave(), name="drain"),
                ]
                await self._over.wait()
                for task in tasks:
                    task.cancel()
        finally:
            self._threads.close()
            for timer in self._timers.values():
                timer.cancel()
        if self._fatal is not None:
            raise self._fatal

    def drain(self, *, hurry: bool = False) -> None:
        """Finish what is held and leave; with `hurry`, cancel and give back at once. From any thread."""
        self._to_sdk.offer(partial(self._drain.ask, hurry=hurry))

    def stop(self) -> None:
        """Leave at once; leases run out by themselves. From any thread."""
        self._to_sdk.offer(self._over.set)

    # What streams ask (StreamOwner).

    def registration(self, stream: WorkerStream) -> v1.WorkerRegistration:
        """Name the worker, what it can do, and everything it holds."""
        self._link.registering(stream)
        return v1.WorkerRegistration(
            worker_id=self._settings.worker_id,
            capabilities=self._settings.capabilities,
            max_concurrency=self._settings.max_concurrency,
            labels=self._settings.labels,
            features=FEATURES,
            process_id=self._process_id,
            held_execution_ids=self._ledger.held_ids,
        )

    def registered(self, stream: WorkerStream) -> None:
        """Go on over this stream, beginning with what the last one may have swallowed."""
        self._link.registered(stream)
        self._ledger.resend()
        if self._drain.is_asked:
            stream.heartbeat_now()
        logger.info("worker %s is registered", self._settings.worker_id)

    def ended(self, stream: WorkerStream) -> None:
        """Open the next one."""
        self._link.ended(stream)

    def heartbeat(self) -> v1.WorkerHeartbeat:
        """Say how the worker is."""
        status = v1.WORKER_STATUS_READY
        if self._drain.is_asked:
            status = v1.WORKER_STATUS_DRAINING
        elif self._ledger.is_busy:
            status = v1.WORKER_STATUS_BUSY
        return v1.WorkerHeartbeat(
            worker_id=self._settings.worker_id, status=status, inflight_executions=len(self._ledger.held_ids)
        )

    def next_message(self, stream: WorkerStream) -> v1.ConnectRequest | None:
        """Return outcomes first, then log lines; nothing on a stream that has a successor."""
        if stream is not self._link.current:
            return None
        return self._ledger.next_message() or self._log_lines.next_message()

    def leased(self, valid_until: float | None, lost_execution_ids: Sequence[str]) -> None:
        """Count on the lease until then, and stop what is lost."""
        if valid_until is not None:
            self._lease.extend(valid_until)
        if lost_execution_ids:
            self.unwanted(lost_execution_ids)

    def assigned(self, stream: WorkerStream, assignments: Iterable[v1.TaskAssignment]) -> None:
        """Start these as slots are free. A stream whose successor has registered without them comes too late."""
        if not self._link.is_newest(stream):
            return
        for assignment in assignments:
            task = self._settings.task_for(assignment.job_type)
            self._ledger.assign(Held(assignment, task, time.monotonic()))
        self._start_what_fits()

    def acked(self, execution_ids: Iterable[str]) -> None:
        """Forget what the server has taken."""
        for execution_id in execution_ids:
            self._ledger.acked(execution_id)

    def unwanted(self, execution_ids: Iterable[str]) -> None:
        """Stop what was canceled, timed out or lost."""
        self._cancel(self._ledger.stop(execution_ids, StopReason.UNWANTED))

    def asked_to_leave(self, stream: WorkerStream, signal: v1.DrainSignal) -> None:
        """Go on over another gateway, or finish and leave for good."""
        if not self._link.is_newest(stream):
            return
        logger.info("the gateway asks the worker to leave: %s", signal.reason or "no reason given")
        if signal.kind == v1.DRAIN_KIND_RECONNECT:
            self._link.reconnect(stream)
        else:
            self._drain.ask()

    # From task to outcome.

    def _start_what_fits(self) -> None:
        calls = []
        for held in self._ledger.start_next():
            call = self._calls[held.execution_id] = self._call(held)
            if held.task.is_async:
                calls.append(call)
            else:
                self._start_in_thread(call)
        if calls:
            self._to_user.offer(partial(self.runner.start, calls))
        self._speak()

    def _call(self, held: Held) -> Call:
        assignment, now = held.assignment, time.monotonic()
        bounds = [] if held.task.timeout is None else [held.task.timeout.total_seconds()]
        if assignment.HasField("time_left"):
            bounds.append(held.received_at + assignment.time_left.ToTimedelta().total_seconds() - now)
        timeout_s = max(min(bounds), 0.0) if bounds else None
        context = TaskContext(
            job_id=assignment.job_id,
            execution_id=assignment.execution_id,
            job_type=assignment.job_type,
            attempt=assignment.attempt,
            metadata=dict(assignment.metadata),
            deadline=None if timeout_s is None else datetime.now(UTC) + timedelta(seconds=timeout_s),
            traceparent=assignment.traceparent,
            tracestate=assignment.tracestate,
            write_log=self._write_log,
        )
        return Call(held.task, assignment.payload, context, timeout_s)

    def _start_in_thread(self, call: Call) -> None:
        if call.timeout_s is not None:
            timer = asyncio.get_running_loop().call_later(call.timeout_s, self._thread_timed_out, call)
            self._timers[call.execution_id] = timer
        self._ledger.began([call.execution_id])
        self._threads.run(partial(self._run_in_thread, call, self._context.copy()))

    def _run_in_thread(self, call: Call, context: contextvars.Context) -> None:
        result = context.run(perform_in_thread, call)
        self._tell_ended(call.execution_id, result)

    def _thread_timed_out(self, call: Call) -> None:
        # Nobody can stop the function: it keeps its slot, and what it returns comes too late.
        self._ledger.finish(call.execution_id, timed_out(call))
        call.context.cancel()
        self._speak()

    def _cancel(self, stopped: list[Held]) -> None:
        """Cancel running functions; a plain one can only look at its context."""
        in_user_loop = []
        for held in stopped:
            self._calls[held.execution_id].context.cancel()
            if held.task.is_async:
                in_user_loop.append(held.execution_id)
        if in_user_loop:
            self._to_user.offer(partial(self.runner.cancel, in_user_loop))
        self._speak()

    def _tell_began(self, execution_ids: Sequence[str]) -> None:
        """From the user's loop."""
        self._to_sdk.offer(partial(self._began, execution_ids))

    def _tell_ended(self, execution_id: str, result: v1.TaskResult | None) -> None:
        """From the user's loop, or from a thread."""
        self._to_sdk.offer(partial(self._ended, execution_id, result))

    def _began(self, execution_ids: Sequence[str]) -> None:
        self._ledger.began(execution_ids)
        self._speak()

    def _ended(self, execution_id: str, result: v1.TaskResult | None) -> None:
        del self._calls[execution_id]
        timer = self._timers.pop(execution_id, None)
        if timer is not None:
            timer.cancel()
        self._ledger.ended(execution_id, result)
        self._start_what_fits()

    def _write_log(self, execution_id: str, message: str) -> None:
        """From anywhere."""
        if self._log_lines.add(execution_id, message):
            self._to_sdk.offer(self._speak)

    def _speak(self) -> None:
        if self._link.current is not None:
            self._link.current.wake()

    def _announce(self) -> None:
        if self._link.current is not None:
            self._link.current.heartbeat_now()

    # The parts that run as long as the shift.

    async def _keep_link(self) -> None:
        self._fatal = await self._link.run()
        self._over.set()

    async def _leave(self) -> None:
        await self._drain.run()
        await self._link.leave()
        self._over.set()

    async def _watch_lease(self) -> None:
        while True:
            await self._lease.lost()
            lost = self._ledger.stop(self._ledger.held_ids, StopReason.LEASE_LOST)
            if lost:
                logger.warning(
                    "the lease ran out: %d tasks are cancelled, and given back when they have ended", len(lost)
                )
            self._cancel(lost)
            self._lease.renewed.clear()
            await self._lease.renewed.wait()

    def _new_stream(self) -> WorkerStream:
        return WorkerStream(self._admission, self)


def _do(order: Callable[[], None]) -> None:
    order()
