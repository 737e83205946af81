"""What is sent, drawn from a seed: case number N of an installation is the same in every run with that seed.

Messages are well-formed, damaged or noise; calls have ordinary or odd headers, deadlines and tokens. Plain `random`
draws them, because they must be cheap: Hypothesis takes milliseconds a message. The same generators are driven by
Hypothesis too, in `test_parsers.py`, where it can shrink what it finds.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count

from dispatchd.domain import limits
from dispatchd.v1 import dispatchd_pb2 as pb
from fuzz import credentials
from fuzz.conversations import conversation
from fuzz.credentials import NO_CREDENTIAL, Credential, Header
from fuzz.damage import damaged, noise
from fuzz.messages import Messages
from fuzz.methods import CONNECT, METHODS, UNKNOWN, Method
from fuzz.values import Values

FORBIDDEN = "forbidden"
"""The name in whatever a caller without the right asks for: none of it may be found afterwards."""

_WEIGHTS = {
    "WorkerService.Connect": 3.0,
    "JobService.SubmitJob": 4.0,
    "JobService.SubmitJobs": 1.5,
    "JobService.WaitJob": 0.5,
    "Health.Check": 0.3,
    "Health.List": 0.1,
    "Health.Watch": 0.2,
    "ServerReflection.ServerReflectionInfo": 0.2,
}
_UNKNOWN_SHARE = 0.01
_REFUSED_SHARE = 0.35
_HEADERS_SHARE = 0.08
_DEADLINE_SHARE = 0.04
_LEAVES_SHARE = 0.06
_LARGE_SHARE = 0.003
_MISCOUNTED_SHARE = 0.01
_DEADLINES_S = (-1.0, 0.0, 1e-9, 0.001, 0.01, 0.1, 1e6)
_ODD_HEADERS: tuple[tuple[Header, ...], ...] = (
    (("x-request-id", "r" * 300),),
    (("x-request-id", '"}{"level":"error'),),
    (("traceparent", "~" * 600), ("tracestate", "x" * 600)),
    (("traceparent", "00-zz-zz-zz"),),
    (("x-data-bin", bytes(range(256))),),
    (("grpc-status-details-bin", b"\xff\0"),),
    (("grpc-timeout", "tomorrow"),),
    (("grpc-encoding", "br"),),
    (("authorization-bin", b"Bearer x"),),
    (("authorization", "Bearer a"), ("authorization", "Bearer b")),
    (("content-type", "text/html"), ("te", "x"), ("host", "elsewhere")),
    tuple(("same", str(number)) for number in range(150)),
    tuple((f"header-{number}", "x") for number in range(limits.HEADERS + 1)),
    (("x-long", "y" * (limits.HEADER_BYTES - 1_000)),),
    (("x-long", "y" * (limits.HEADER_BYTES + 1)),),
)
_MIB = 1024 * 1024


class Kind(StrEnum):
    """How the messages were made."""

    WELL_FORMED = "well-formed"
    DAMAGED = "damaged"
    NOISE = "noise"
    MISCOUNTED = "miscounted"
    """None where one is expected, or two."""
    LARGE = "large"


@dataclass(frozen=True, slots=True)
class Case:
    """One call. Messages have placeholders in place of ids that exist; `waits` are the messages after which the caller
    waits for an answer."""

    number: int
    method: Method
    kind: Kind
    messages: tuple[bytes, ...]
    waits: frozenset[int] = frozenset()
    headers: tuple[Header, ...] = ()
    credential: Credential = NO_CREDENTIAL
    timeout_s: float | None = None
    leaves: bool = False
    """Whether the caller drops the call once all is sent, and waits for no answer."""
    compresses: bool = False


class Cases:
    """Draws cases. `seed` says everything but the placeholders and the times in tokens."""

    def __init__(self, seed: int, *, auth: bool) -> None:
        self._seed = seed
        self._auth = auth

    def __iter__(self) -> Iterator[Case]:
        return map(self.case, count())

    def case(self, number: int) -> Case:
        """Case `number`."""
        chance = random.Random(f"{self._seed}/{'on' if self._auth else 'off'}/{number}")
        method = _method(chance)
        is_refused = self._auth and not method.is_open and chance.random() < _REFUSED_SHARE
        name = FORBIDDEN if is_refused else "fuzz"
        worker_id = Values(chance, name).worker_id()
        values = Values(chance, name, worker_id)
        case = _with_messages(chance, Case(number, method, Kind.WELL_FORMED, ()), Messages(chance, values))
        return _with_surroundings(chance, case, self._credential(chance, method, worker_id, is_refused=is_refused))

    def _credential(self, chance: random.Random, method: Method, worker_id: str, *, is_refused: bool) -> Credential:
        if is_refused:
            return credentials.refused(chance, method.label)
        if self._auth and not method.is_open:
            return credentials.good(chance, method.label, worker_id)
        # Where nobody asks for a token, any is as good as none.
        return credentials.refused(chance, method.label) if chance.random() < 0.1 else NO_CREDENTIAL


def _method(chance: random.Random) -> Method:
    if chance.random() < _UNKNOWN_SHARE:
        return chance.choice(UNKNOWN)
    [method] = chance.choices(METHODS, [_WEIGHTS.get(method.label, 1.0) for method in METHODS])
    return method


def _with_messages(chance: random.Random, case: Case, messages: Messages) -> Case:
    method = case.method
    if method is CONNECT:
        parts, waits = conversation(chance, messages)
        return replace(case, messages=parts, waits=waits)
    if chance.random() < _LARGE_SHARE:
        return replace(case, kind=Kind.LARGE, messages=(_large(chance),), compresses=chance.random() < 0.5)
    kind = chance.choices([Kind.WELL_FORMED, Kind.DAMAGED, Kind.NOISE], [0.7, 0.24, 0.06])[0]
    times = chance.randrange(1, 5) if method.streams_requests else 1
    if not method.streams_requests and chance.random() < _MISCOUNTED_SHARE:
        kind, times = Kind.MISCOUNTED, chance.choice([0, 2, 3])
    return replace(case, kind=kind, messages=tuple(_one(chance, kind, messages, method) for _ in range(times)))


def _one(chance: random.Random, kind: Kind, messages: Messages, method: Method) -> bytes:
    if kind is Kind.NOISE:
        return noise(chance)
    message = messages.encoded(method.request, chance.choice([0.0, 0.0, 0.0, 0.05, 0.1, 0.3, 0.8]))
    return damaged(chance, message) if kind is Kind.DAMAGED else message


def _large(chance: random.Random) -> bytes:
    """At or beyond the bounds of a payload and of a whole message."""
    size = chance.choice([limits.PAYLOAD_BYTES, limits.PAYLOAD_BYTES + 1, limits.REQUEST_BYTES, 6 * _MIB])
    whole = pb.SubmitJobRequest(job_type="fuzz-large", payload=b"x" * min(size, 3 * _MIB)).SerializeToString()
    return whole if size <= limits.PAYLOAD_BYTES + 1 else whole + b"\0" * (size - len(whole))


def _with_surroundings(chance: random.Random, case: Case, credential: Credential) -> Case:
    headers: tuple[Header, ...] = ()
    timeout_s = None
    if chance.random() < _HEADERS_SHARE:
        headers = chance.choice(_ODD_HEADERS)
    if chance.random() < _DEADLINE_SHARE:
        timeout_s = chance.choice(_DEADLINES_S)
    leaves = not case.method.label.startswith("Health") and chance.random() < _LEAVES_SHARE
    return replace(case, headers=headers, credential=credential, timeout_s=timeout_s, leaves=leaves)
