"""How long to wait before the next try: doubling, bounded, and spread out so that callers don't return together."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays between 50 and 100 % of a step that doubles from `first_s` to `longest_s`."""

    def __init__(self, first_s: float, longest_s: float, uniform: Callable[[float, float], float] = random.uniform):
        self._first_s = first_s
        self._longest_s = longest_s
        self._uniform = uniform
        self._step_s = first_s

    def next_s(self) -> float:
        """Return the next delay and double the step."""
        step_s = self._step_s
        self._step_s = min(step_s * 2, self._longest_s)
        return self._uniform(step_s / 2, step_s)

    def reset(self) -> None:
        """Start over: the last try worked."""
        self._step_s = self._first_s
