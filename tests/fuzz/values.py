"""Values for the fields of messages: what an honest caller sends, and what breaks something somewhere."""

import random
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from dispatchd.application.page_token import write_token
from dispatchd.domain import limits
from fuzz import live_ids

Field = Any
"""A `FieldDescriptor`, whose attributes its stubs don't know."""

HOT_WORKERS = 4
WORKERS = 300
CAPABILITIES = ("a", "b", "c-d/e", "f:g@h")
SERVICES = (
    "dispatchd.v1.JobService",
    "dispatchd.v1.OperatorService",
    "dispatchd.v1.WorkerService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
)
FILES = ("dispatchd/v1/dispatchd.proto", "google/protobuf/duration.proto", "grpc/health/v1/health.proto", "no.proto")

_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_TIMES = ("2026-11-24T10:00:00+00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "2026-11-24")
_LENGTHS = (200, 201, 512, 513, 1_024, 1_025, limits.METADATA_BYTES, limits.METADATA_BYTES + 1, 70_000)
_TEXTS = (
    "",
    "\0",
    "a\0b",
    " ",
    "\r\n",
    '"}\n{"level":"error","message":"forged"}',
    "\x1b[2J\x1b]0;title\x07",
    "'; drop table jobs; --",
    "{}:%s%n\\u0000",
    "../../etc/passwd",
    "\N{RIGHT-TO-LEFT OVERRIDE}\N{ZERO WIDTH JOINER}\N{COMBINING ENCLOSING KEYCAP}",
    "\N{FULLWIDTH DIGIT ONE}",
    "\ufffe\uffff\U0010ffff\ud7ff\ue000",
    ".",
    ".a",
    "a..b",
    "job_",
    "job_" + "0" * 31,
    "job_" + "0" * 33,
    "job_" + "A" * 32,
    "JOB_" + "0" * 32,
    "job_" + "0" * 32,
    "job_" + "\N{FULLWIDTH DIGIT ONE}" * 32,
    "exec_" + "0" * 32,
    "exec_" + "-" * 32,
    "0190a1b2-c3d4-7e5f-8607-18293a4b5c6d",
    "Infinity",
    "nan",
)
_NUMBERS = (0, 1, -1, 2, 99, 100, 101, 999, 1_000, 1_001, 10_001, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**64 - 1)
_SECONDS = (0, 1, -1, 31_622_400, 31_622_401, 315_576_000_000, 315_576_000_001, 253_402_300_799, 253_402_300_800)
_NANOS = (0, 1, -1, 999, 999_999_999, 1_000_000_000, 2**31 - 1, -(2**31))
_RANGES: dict[int, tuple[int, int]] = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
}


class Values:
    """Draws from `chance` alone. `name` is the beginning of job types, keys and worker ids."""

    def __init__(self, chance: random.Random, name: str, worker_id: str = "") -> None:
        self._chance = chance
        self._name = name
        self._worker_id = worker_id
        self._honest: dict[str, Callable[[], object]] = {
            "job_id": self._job_id,
            "job_ids": self._job_id,
            "execution_id": self._execution_id,
            "execution_ids": self._execution_id,
            "held_execution_ids": self._execution_id,
            "job_type": lambda: self._capability() + chance.choice(["", ".work", ".more.work"]),
            "capabilities": lambda: self._capability() + chance.choice(["", ".work"]),
            "payload": lambda: chance.randbytes(chance.randrange(1, 40)),
            "priority": lambda: chance.randrange(5),
            "idempotency_key": lambda: f"{name}-{chance.randrange(30)}" if chance.random() < 0.3 else "",
            "traceparent": lambda: _TRACE,
            "tracestate": lambda: "vendor=value",
            "page_size": lambda: chance.choice([0, 1, 3, 100, 1_000]),
            "page_token": lambda: "" if chance.random() < 0.8 else self._page_token(),
            "worker_id": lambda: self._worker_id if chance.random() < 0.97 else chance.choice(["", self.worker_id()]),
            "process_id": lambda: f"process-{chance.randrange(3)}",
            "max_concurrency": lambda: chance.randrange(5),
            "max_attempts": lambda: chance.randrange(4),
            "success": lambda: chance.random() < 0.6,
            "do_not_retry": lambda: chance.random() < 0.3,
            "service": lambda: chance.choice(["", *SERVICES]),
            "list_services": lambda: "",
            "file_by_filename": lambda: chance.choice(FILES),
            "file_containing_symbol": lambda: chance.choice(SERVICES),
        }

    def worker_id(self) -> str:
        """Of a few that are everywhere, or of many."""
        among = HOT_WORKERS if self._chance.random() < 0.1 else WORKERS
        return f"{self._name}-worker-{self._chance.randrange(among)}"

    def honest(self, field: Field) -> object:
        """A value of a field that is no message, as those send it who have read the contract."""
        draw = self._honest.get(field.name)
        if draw is not None:
            return draw()
        match field.type:
            case FieldDescriptor.TYPE_STRING:
                return f"text {self._chance.randrange(100)}"
            case FieldDescriptor.TYPE_BYTES:
                return self._chance.randbytes(5)
            case FieldDescriptor.TYPE_BOOL:
                return self._chance.random() < 0.5
            case FieldDescriptor.TYPE_ENUM:
                return self._chance.choice(field.enum_type.values).number
            case _:
                return self._chance.randrange(4)

    def hostile(self, field: Field) -> object:
        """A value of a field that is no message, near or beyond some bound."""
        chance = self._chance
        match field.type:
            case FieldDescriptor.TYPE_STRING:
                return self.hostile_text()
            case FieldDescriptor.TYPE_BYTES:
                return chance.choice([b"", b"\0", b"\xff" * 9, chance.randbytes(200), self.hostile_text().encode()])
            case FieldDescriptor.TYPE_BOOL:
                return chance.random() < 0.5
            case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
                return chance.choice([0.0, -0.0, float("inf"), float("nan"), 1e308])
            case _:
                low, high = _RANGES.get(field.type, (0, 2**32 - 1))
                number = chance.choice(_NUMBERS) if chance.random() < 0.8 else chance.getrandbits(32)
                return min(max(number, low), high)

    def hostile_text(self) -> str:
        """What programs stumble over, or a text at the edge of what is allowed."""
        chance = self._chance
        match chance.randrange(8):
            case 0:
                return chance.choice("aé\N{SNOWMAN}\0") * chance.choice(_LENGTHS[:6])
            case 1 if chance.random() < 0.3:
                return "x" * chance.choice(_LENGTHS)
            case 2:
                return "".join(chr(chance.choice([chance.randrange(128), chance.randrange(0xD800)])) for _ in range(12))
            case 3:
                return self._page_token()
            case _:
                return chance.choice(_TEXTS)

    def time(self, *, is_hostile: bool) -> tuple[int, int]:
        """Seconds and nanoseconds of a Timestamp or Duration; honest ones are short, or long ago."""
        chance = self._chance
        if is_hostile:
            seconds = chance.choice(_SECONDS) if chance.random() < 0.8 else chance.getrandbits(63)
            return seconds * chance.choice([1, -1]), chance.choice(_NANOS)
        return 0, chance.randrange(50) * 1_000_000

    def _capability(self) -> str:
        return f"{self._name}-{self._chance.choice(CAPABILITIES)}"

    def _job_id(self) -> str:
        if self._chance.random() < 0.8:
            return live_ids.job(self._chance.randrange(live_ids.MOST))
        return f"job_{self._chance.getrandbits(128):032x}"

    def _execution_id(self) -> str:
        draw = self._chance.random()
        if draw < 0.6:
            return live_ids.own_execution(self._chance.randrange(live_ids.MOST))
        if draw < 0.85:
            return live_ids.any_execution(self._chance.randrange(live_ids.MOST))
        return f"exec_{self._chance.getrandbits(128):032x}"

    def _page_token(self) -> str:
        """With a checksum that is right, whatever the rest says."""
        chance = self._chance
        scope = chance.choice(["workers", "dead_letters:", f"dead_letters:{self._capability()}", "executions:", ""])
        key = [chance.choice(_TIMES), f"job_{chance.getrandbits(128):032x}", chance.choice(_TEXTS), str(2**31)]
        return write_token(scope, *chance.sample(key, chance.randrange(1, 4)))
