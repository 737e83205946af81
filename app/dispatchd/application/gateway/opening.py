"""How a stream gets its session.

::

    first message ──registration──▶ may it be this worker? ──▶ session and lease in the database
         │                                 ▲
         └──heartbeat or result──▶ what the registry says of the worker
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

from dispatchd.application.gateway.closing import StreamCloser
from dispatchd.application.gateway.messages import Heartbeat, Inbound, Reports
from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.gateway.turns import DatabaseTurns
from dispatchd.application.ports import (
    DatabaseUnavailable,
    DecideOmitted,
    Decision,
    LockedExecution,
    NewSession,
    NotPermitted,
    OpenedSession,
    SessionStore,
    TransientConflict,
)
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.settler import Settler
from dispatchd.domain import access
from dispatchd.domain.access import Identity
from dispatchd.domain.errors import RegisterFirst
from dispatchd.domain.ids import IdGenerator
from dispatchd.domain.settlement import LeaseLost, Returned
from dispatchd.domain.worker import Registration, check_registration, check_worker_id

_TRIES = 5


class SessionOpener:
    """Opens sessions in the database; who has one is known to WorkerStreams."""

    def __init__(
        self,
        store: SessionStore,
        settler: Settler,
        region: RegionWatch,
        ids: IdGenerator,
        turns: DatabaseTurns,
        closer: StreamCloser,
        *,
        gateway: str,
        lease: timedelta,
        worker_certificates: bool,
    ) -> None:
        """`worker_certificates`: a worker's certificate has to name its id."""
        self._store = store
        self._settler = settler
        self._region = region
        self._ids = ids
        self._turns = turns
        self._closer = closer
        self._gateway = gateway
        self._lease = lease
        self._worker_certificates = worker_certificates

    async def open(self, first: Inbound, identity: Identity, peer: str) -> tuple[WorkerSession, OpenedSession]:
        """The session for a stream that begins with this message, and whom it displaced.

        Raises RegionReadOnly, InvalidRequest, PermissionDenied, RegisterFirst, Overloaded, Unavailable.
        """
        registration = first if isinstance(first, Registration) else await self._registration_of(first)
        check_registration(registration)
        access.check_worker_id(identity, registration.worker_id, by_certificate=self._worker_certificates)
        return await self._open(registration, identity.subject, peer)

    async def _registration_of(self, first: Inbound) -> Registration:
        """What the registry says of a worker that goes on without a registration."""
        match first:
            case Heartbeat(worker_id=worker_id):
                if not worker_id:
                    raise RegisterFirst("the first heartbeat of a stream must name its worker_id")
                check_worker_id(worker_id)
            case Reports(reports=reports):
                execution_id = reports[0].execution_id if reports else None
                found = None
                if execution_id is not None:
                    async with self._turns.turn():
                        found = await self._store.worker_of(execution_id)
                if found is None:
                    raise RegisterFirst("the execution is unknown")
                worker_id = found
            case _:
                raise RegisterFirst("a stream begins with a registration, a heartbeat or a result")
        async with self._turns.turn():
            row = await self._store.registry_row(worker_id)
        if row is None:
            raise RegisterFirst(f"worker {worker_id!r} is not in the registry")
        return Registration(row.worker_id, row.capabilities, row.slots, row.labels)

    async def _open(self, registration: Registration, principal: str, peer: str) -> tuple[WorkerSession, OpenedSession]:
        session = WorkerSession(self._ids.session_id(), registration, principal, peer, self._lease)
        new = NewSession(session.session_id, registration, principal, self._gateway, peer, self._lease)
        decisions: list[Decision] = []

        def decide_omitted(omitted: Sequence[LockedExecution], is_same_process: bool) -> Sequence[Decision]:
            ending = (
                Returned(was_sent=True, error_message="the worker came back without it")
                if is_same_process
                else LeaseLost(f"worker {registration.worker_id} came back as another process")
            )
            decisions[:] = [self._settler.decision(execution, ending) for execution in omitted]
            return decisions

        try:
            sent_at, opened = await self._open_in_store(new, decide_omitted)
        except (asyncio.CancelledError, DatabaseUnavailable):
            self._closer.unclear(session)
            raise
        session.opened(sent_at, opened.resumed, opened.earlier)
        self._settler.announce(decisions, opened.followed)
        return session, opened

    async def _open_in_store(self, new: NewSession, decide_omitted: DecideOmitted) -> tuple[float, OpenedSession]:
        """When the registration was sent that was committed (`time.monotonic()`), and what it brought about."""
        async with self._turns.turn():
            for attempt in range(_TRIES):
                sent_at = time.monotonic()
                try:
                    return sent_at, await self._store.open(new, decide_omitted, self._region.fence)
                except NotPermitted as exc:
                    raise await self._region.explain(exc) from exc
                except TransientConflict:
                    if attempt == _TRIES - 1:
                        raise
        raise AssertionError("unreachable")
