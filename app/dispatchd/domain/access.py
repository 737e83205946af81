"""Who may call what when authentication is on: the table of the wire contract, and what it means for a worker id.

::

    role         JobService                        OperatorService     WorkerService
    ──────────   ───────────────────────────────   ─────────────────   ───────────────────────────
    submitter    submit, get, wait, executions     –                   –
    viewer       get, wait, executions             lists               –
    operator     all                               all                 Connect
    worker       –                                 –                   Connect under its own id
    service      –                                 –                   Connect
    admin        all                               all                 Connect
"""

from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dispatchd.domain.errors import PermissionDenied


class AccessRole(StrEnum):
    """What a token lets its bearer do."""

    SUBMITTER = "submitter"
    VIEWER = "viewer"
    OPERATOR = "operator"
    WORKER = "worker"
    SERVICE = "service"
    ADMIN = "admin"


_SUBMIT = frozenset({AccessRole.SUBMITTER, AccessRole.OPERATOR, AccessRole.ADMIN})
_READ = _SUBMIT | {AccessRole.VIEWER}
_LIST = frozenset({AccessRole.VIEWER, AccessRole.OPERATOR, AccessRole.ADMIN})
_CHANGE = frozenset({AccessRole.OPERATOR, AccessRole.ADMIN})
ANY_WORKER = frozenset({AccessRole.SERVICE, AccessRole.OPERATOR, AccessRole.ADMIN})
"""Who has one of these may connect workers under any id."""
_CONNECT = ANY_WORKER | {AccessRole.WORKER}

METHODS: dict[str, frozenset[AccessRole]] = {
    "JobService.SubmitJob": _SUBMIT,
    "JobService.SubmitJobs": _SUBMIT,
    "JobService.GetJob": _READ,
    "JobService.WaitJob": _READ,
    "JobService.ListExecutions": _READ,
    "JobService.CancelJob": _CHANGE,
    "OperatorService.ListDeadLetters": _LIST,
    "OperatorService.ListWorkers": _LIST,
    "OperatorService.ListQueues": _LIST,
    "OperatorService.RedriveDeadLetters": _CHANGE,
    "WorkerService.Connect": _CONNECT,
    "ServerReflection.ServerReflectionInfo": frozenset(AccessRole),
}
"""Which roles may call a method. A method that is not here is nobody's."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls. `worker_id` is what the token's claim of that name says; `certificate_names` are those of the client
    certificate, if there is one. `accepted_until` is None where nothing expires."""

    subject: str
    roles: frozenset[AccessRole]
    worker_id: str | None = None
    certificate_names: tuple[str, ...] = ()
    accepted_until: datetime | None = None
    has_token: bool = True


ANONYMOUS = Identity("anonymous", frozenset(), has_token=False)
"""Everybody, while authentication is off."""


def check_may_call(identity: Identity, method: str) -> None:
    """Raises PermissionDenied unless one of the caller's roles may call `Service.Method`."""
    allowed: Set[AccessRole] = METHODS.get(method, frozenset())
    if not allowed & identity.roles:
        has = ", ".join(sorted(identity.roles)) or "none"
        needs = ", ".join(sorted(allowed)) or "no role at all"
        raise PermissionDenied(f"{method} needs one of the roles {needs}; this token has {has}")


def check_worker_id(identity: Identity, worker_id: str, *, by_certificate: bool = False) -> None:
    """Raises PermissionDenied if the caller may not be this worker.

    Who connects only by the role `worker` has the id that its token names: the subject, and the claim `worker_id` if
    there is one. With `by_certificate` the client certificate has to name the id too.
    """
    if identity.has_token and not identity.roles & ANY_WORKER:
        for named in (identity.subject, identity.worker_id):
            if named is not None and named != worker_id:
                # Without the other id: it may come from the database, and is not the caller's to know.
                raise PermissionDenied(f"this token is for worker {named!r} alone: register under its own id")
    if by_certificate and worker_id not in identity.certificate_names:
        raise PermissionDenied(f"the client certificate does not name the worker {worker_id!r}")
