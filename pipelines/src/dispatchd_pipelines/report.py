"""How a run of steps ended: a line for each, for people and for `grep`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_PYTEST = re.compile(r"=*\s*(\d+ (?:passed|failed|skipped|errors?|deselected|xfailed).*? in [\d.]+s.*?)\s*=*")


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Result:
    """How one step ended. `reason` says why it failed or was not run, or what pytest said last, in a few words."""

    step: str
    outcome: Outcome
    seconds: float = 0.0
    reason: str = ""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.outcome:<8}{self.seconds:7.1f} s  {self.step}{reason}"


def table(results: Iterable[Result]) -> str:
    """The report at the end of a run: step by step, and how many ended how."""
    listed = list(results)
    counts = {outcome: sum(result.outcome is outcome for result in listed) for outcome in Outcome}
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    return "\n".join([*map(str, listed), f"steps: {summary or 'none'}"])


def closing_line(printed: str) -> str:
    """The line with which pytest ended, without its frame; empty if this is not what pytest printed."""
    lines = printed.rstrip().splitlines()
    found = _PYTEST.fullmatch(lines[-1].strip()) if lines else None
    return found[1] if found else ""
