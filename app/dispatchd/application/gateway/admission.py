"""How many streams a gateway may have, and how many streams and registrations in a minute one principal may have on it.

A stream counts from before its registration is under way, so that many at once can't pass a bound together.
Registrations are counted by a bucket that holds a minute's worth and fills evenly: a fleet may come back at once, and
a worker that connects in a loop runs dry. Without authentication all workers are one principal, so only the gateway's
own bound counts.
"""

import time
from dataclasses import dataclass

from dispatchd.domain.access import Identity
from dispatchd.domain.errors import Overloaded

_FORGET_ABOVE = 10_000
"""Principals; beyond that those without streams and with a full bucket are forgotten."""


@dataclass(slots=True)
class _Principal:
    left: float
    looked_at: float
    streams: int = 0


class Admission:
    """Counts for one gateway; a principal spread over several gateways has as many on each."""

    def __init__(self, *, sessions: int, streams: int, registrations_a_minute: int) -> None:
        """`sessions`: of the whole gateway; `streams`: of one principal."""
        self._most_sessions = sessions
        self._most_streams = streams
        self._a_minute = registrations_a_minute
        self._sessions = 0
        self._principals: dict[str, _Principal] = {}

    def enter(self, identity: Identity) -> None:
        """Counts a registration, and a stream until it is `closed`. Raises Overloaded beyond a bound."""
        if self._sessions >= self._most_sessions:
            raise Overloaded(f"this worker-gateway has {self._most_sessions} streams already")
        if identity.has_token:
            self._enter_principal(identity)
        self._sessions += 1

    def closed(self, subject: str) -> None:
        """A stream of this principal that was let in has ended, or did not get a session."""
        self._sessions -= 1
        if subject in self._principals:
            self._principals[subject].streams -= 1

    def _enter_principal(self, identity: Identity) -> None:
        principal = self._principal(identity.subject)
        if principal.streams >= self._most_streams:
            raise Overloaded(f"{identity.subject!r} has {self._most_streams} streams on this worker-gateway already")
        if principal.left < 1:
            raise Overloaded(f"{identity.subject!r} has registered more than {self._a_minute} times in a minute")
        principal.left -= 1
        principal.streams += 1

    def _principal(self, subject: str) -> _Principal:
        now = time.monotonic()
        principal = self._principals.get(subject)
        if principal is None:
            if len(self._principals) >= _FORGET_ABOVE:
                self._forget(now)
            principal = self._principals[subject] = _Principal(float(self._a_minute), now)
        self._fill(principal, now)
        return principal

    def _fill(self, principal: _Principal, now: float) -> None:
        filled = principal.left + (now - principal.looked_at) * self._a_minute / 60
        principal.left, principal.looked_at = min(filled, float(self._a_minute)), now

    def _forget(self, now: float) -> None:
        for subject, principal in list(self._principals.items()):
            self._fill(principal, now)
            if not principal.streams and principal.left >= self._a_minute:
                del self._principals[subject]
