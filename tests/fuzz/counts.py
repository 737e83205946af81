"""How calls ended, method by method: what was reached at all, and the table for people."""

from collections import Counter
from collections.abc import Iterator, Mapping

from fuzz.cases import Case
from fuzz.judge import is_refused_caller
from fuzz.methods import LABELS
from fuzz.sender import Outcome

_LEAST_REACHED = 0.2
_MOST_BUSY = 0.05
_UNSERVED = frozenset(["Health.List"])
"""Methods that our servers don't have; they are called all the same."""
_HANGS = "HANGS"
_ACKS = ("ACCEPTED", "STALE", "UNKNOWN")


class Counts:
    """Of one installation."""

    def __init__(self, *, auth: bool) -> None:
        self._auth = auth
        self.messages = 0
        self.admitted: Counter[tuple[str, str]] = Counter()
        """By method and code, of callers who may call it."""
        self.refused: Counter[tuple[str, str]] = Counter()
        self.kinds: Counter[str] = Counter()
        self.acks: Counter[str] = Counter()
        self.assignments = 0

    def note(self, case: Case, outcome: Outcome) -> None:
        """A call is over."""
        self.messages += max(1, len(outcome.sent))
        self.kinds[case.kind] += 1
        self.acks.update(outcome.acks)
        self.assignments += len(outcome.assigned)
        counter = self.refused if self._auth and is_refused_caller(case) else self.admitted
        counter[case.method.label, _HANGS if outcome.code is None else outcome.code.name] += 1

    def too_little(self) -> Iterator[str]:
        """Sentences about what the calls did not reach, so that little was tried."""
        for label in LABELS:
            codes = _of(self.admitted, label)
            calls = sum(codes.values())
            if label in _UNSERVED:
                if not calls:
                    yield f"{label} was never called"
                continue
            if not codes["OK"]:
                yield f"{label} never answered OK in {calls} calls"
            reached = calls - codes["INVALID_ARGUMENT"] - codes["DEADLINE_EXCEEDED"] - codes["CANCELLED"]
            if reached < _LEAST_REACHED * calls:
                yield f"only {reached} of {calls} calls of {label} got beyond the look at the message"
            if codes["UNAVAILABLE"] > _MOST_BUSY * calls + 1:
                yield f"{label} was unavailable in {codes['UNAVAILABLE']} of {calls} calls"
            if self._auth and not label.startswith("Health.") and not _of(self.refused, label)["UNAUTHENTICATED"]:
                yield f"{label} was never called without a token"
        for ack in _ACKS:
            if not self.acks[ack]:
                yield f"no report of a worker was answered {ack}"
        if not self.assignments:
            yield "no stream was assigned anything"
        if self._auth and not any(code == "PERMISSION_DENIED" for _, code in self.refused):
            yield "nobody was refused for his role"

    def table(self) -> list[str]:
        """Lines of a table: a row for each method, with what each code was counted."""
        lines = [f"  {self.messages} messages, authentication {'on' if self._auth else 'off'}"]
        for title, counter in (("", self.admitted), (" without the right", self.refused)):
            for label in sorted({label for label, _ in counter}):
                codes = ", ".join(f"{code} {count}" for code, count in _of(counter, label).most_common())
                lines.append(f"  {label + title:<52} {codes}")
        acks = ", ".join(f"{ack} {count}" for ack, count in self.acks.most_common())
        return [*lines, f"  acks: {acks}; assignments: {self.assignments}"]

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "messages": self.messages,
            "kinds": dict(sorted(self.kinds.items())),
            "codes": _nested(self.admitted),
            "codes_without_the_right": _nested(self.refused),
            "acks": dict(sorted(self.acks.items())),
            "assignments": self.assignments,
        }


def _of(counter: Counter[tuple[str, str]], label: str) -> Counter[str]:
    return Counter({code: count for (found, code), count in counter.items() if found == label})


def _nested(counter: Counter[tuple[str, str]]) -> Mapping[str, Mapping[str, int]]:
    return {label: dict(_of(counter, label).most_common()) for label in sorted({label for label, _ in counter})}
