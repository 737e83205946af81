"""What may happen to a case, and what must not."""

from collections.abc import Set

from grpc import StatusCode as Code

from fuzz.cases import Case
from fuzz.credentials import Shown
from fuzz.methods import CONNECT
from fuzz.sender import Outcome

ANSWERS: dict[str, Set[Code]] = {
    "JobService.SubmitJob": {Code.OK, Code.INVALID_ARGUMENT, Code.ALREADY_EXISTS},
    "JobService.SubmitJobs": {Code.OK, Code.INVALID_ARGUMENT},
    "JobService.GetJob": {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND},
    # It answers shortly before the deadline, which a busy machine may miss.
    "JobService.WaitJob": {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.DEADLINE_EXCEEDED},
    "JobService.CancelJob": {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND},
    "JobService.ListExecutions": {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND},
    "OperatorService.ListDeadLetters": {Code.OK, Code.INVALID_ARGUMENT},
    "OperatorService.RedriveDeadLetters": {Code.OK, Code.INVALID_ARGUMENT},
    "OperatorService.ListWorkers": {Code.OK, Code.INVALID_ARGUMENT},
    "OperatorService.ListQueues": {Code.OK, Code.INVALID_ARGUMENT},
    "WorkerService.Connect": {
        Code.OK, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.ABORTED, Code.PERMISSION_DENIED
    },
    "Health.Check": {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND},
    "Health.List": {Code.UNIMPLEMENTED},
    "Health.Watch": {Code.OK, Code.INVALID_ARGUMENT},
    "ServerReflection.ServerReflectionInfo": {Code.OK, Code.INVALID_ARGUMENT},
    "unknown method": {Code.UNIMPLEMENTED},
}  # fmt: skip
"""What callers get who may call a method."""

REFUSALS = {Code.UNAUTHENTICATED, Code.PERMISSION_DENIED}
BUSY = {
    Code.RESOURCE_EXHAUSTED: ("try again in", "larger than max", "metadata size exceeds"),
    Code.UNAVAILABLE: (
        "too many workers come and go at once",
        "the lease of this session was lost",
        "the database did not answer in time",
        "the database can't be reached: TimeoutError",
        "the database is unavailable (SQLSTATE 57014)",
    ),
}
"""Answers of bounds, and of statements that a busy machine did not end in time; nobody else says these words."""


def what_is_wrong(case: Case, outcome: Outcome, *, auth: bool) -> str:
    """A sentence, or nothing if all is well."""
    if outcome.unreadable:
        return f"an answer can't be read: {outcome.unreadable}"
    if outcome.code is None:
        return "the call hangs"
    if outcome.code in _allowed(case, auth=auth):
        return ""
    words = BUSY.get(outcome.code, ())
    if any(word in outcome.details for word in words):
        return ""
    return f"the answer is {outcome.code.name}: {outcome.details}"


def is_refused_caller(case: Case) -> bool:
    """Whether the caller has shown nothing that lets it in, where that is asked for."""
    return case.credential.shown is not Shown.GOOD and not case.method.is_open and case.method.label in ANSWERS


def _allowed(case: Case, *, auth: bool) -> set[Code]:
    allowed = set(ANSWERS[case.method.label])
    if auth and is_refused_caller(case) and case.method.label != "unknown method":
        allowed = set(REFUSALS)
    elif not auth or case.method is not CONNECT:
        allowed.discard(Code.PERMISSION_DENIED)
    if case.headers:
        # Too many of them are refused before anything else is looked at; a token of the case's own may be among them.
        allowed |= {Code.INVALID_ARGUMENT, *(REFUSALS if auth else ())}
    if case.timeout_s is not None:
        allowed.add(Code.DEADLINE_EXCEEDED)
    # Who leaves may still have been answered, and for gRPC a deadline in the past is leaving too.
    if case.leaves or case.timeout_s is not None:
        allowed.add(Code.CANCELLED)
    return allowed
