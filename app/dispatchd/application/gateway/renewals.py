"""Renewals: the heartbeats of all sessions of a gateway, in one statement a tick.

A heartbeat is acked from memory at once, with what is left of the lease that is *committed*. So a slow database never
delays a heartbeat's ack; it only lets the lease in it shrink.
"""

import logging
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from dispatchd.application.gateway.claimer import Claimer
from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.loops import every
from dispatchd.application.ports import NotPermitted, RenewalOutcome, SessionStore
from dispatchd.application.region_watch import RegionWatch
from dispatchd.domain.errors import Superseded, Unavailable
from dispatchd.domain.ids import ExecutionId, SessionId
from dispatchd.telemetry import metrics

_TICKS_A_LEASE = 12
_LONGEST_TICK = timedelta(seconds=1)
MOST_SESSIONS = 500
_log = logging.getLogger(__name__)


class Renewer:
    """One loop (`run`) for all sessions of the gateway; also closes streams that are silent, or not read, too long."""

    def __init__(
        self,
        store: SessionStore,
        claimer: Claimer,
        region: RegionWatch,
        sessions: Callable[[], Iterable[WorkerSession]],
        *,
        lease: timedelta,
        silence_limit: timedelta,
    ) -> None:
        self._store = store
        self._claimer = claimer
        self._region = region
        self._sessions = sessions
        self._lease = lease
        self._silence_limit = silence_limit

    async def run(self) -> None:
        """Renews until cancelled."""
        await every(min(self._lease / _TICKS_A_LEASE, _LONGEST_TICK), "renewer", self._tick)

    async def _tick(self) -> None:
        sessions = [session for session in self._sessions() if session.is_open]
        self._close_silent(sessions)
        for start in range(0, len(sessions), MOST_SESSIONS):
            await self._renew(sessions[start : start + MOST_SESSIONS])

    def _close_silent(self, sessions: Iterable[WorkerSession]) -> None:
        limit_s = self._silence_limit.total_seconds()
        now = time.monotonic()
        for session in sessions:
            if now - session.heard_at > limit_s:
                session.end(Unavailable(f"no message for {limit_s:g} s: connect again"))
            elif session.writing_since is not None and now - session.writing_since > limit_s:
                session.end(Unavailable(f"nothing was read from this stream for {limit_s:g} s: connect again"))

    async def _renew(self, sessions: Iterable[WorkerSession]) -> None:
        heard = [(session, renewal) for session in sessions if (renewal := session.renewal()) is not None]
        if not heard:
            return
        known = {session.session_id: session.known for session, _ in heard}
        sent_at = time.monotonic()
        metrics.RENEWAL_BATCH_SIZE.observe(len(heard))
        try:
            outcome = await self._store.renew([renewal for _, renewal in heard], self._lease, self._region.fence)
        except NotPermitted:
            await self._region.look()
            return
        unclear: dict[ExecutionId, SessionId] = {}
        for session, _ in heard:
            if session.session_id in outcome.locked:
                continue
            if session.session_id not in outcome.renewed:
                _end_lost(session, outcome)
                continue
            session.renewed(sent_at, outcome.noticed)
            if session.compare_earlier(outcome.earlier.get(session.worker_id, frozenset())):
                self._claimer.wake()
            held = outcome.held.get(session.session_id, frozenset())
            for execution_id in session.compare(known[session.session_id], held, self._claimer.claiming):
                unclear[execution_id] = session.session_id
        if unclear:
            _log.warning("returning claims whose commit was unclear", extra={"count": len(unclear)})
            self._claimer.give_back(unclear)


def _end_lost(session: WorkerSession, outcome: RenewalOutcome) -> None:
    if session.session_id in outcome.superseded:
        session.end(Superseded(session.worker_id))
    else:
        metrics.SESSIONS_LOST.inc()
        session.end(Unavailable("the lease of this session was lost: connect again"))
