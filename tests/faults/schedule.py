"""Which faults are made when: a round is a list of steps, drawn from a seed before anything starts."""

import itertools
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from faults.fault import Fault

ItemT = TypeVar("ItemT")

STEPS_A_ROUND = 24
PAUSE_S = 2.0
# After a single fault, when a job has shown that all works again; longer than what `recovery.QUIET_S` looks back.
SINGLE_PAUSE_S = 1.2
LONGEST_OFFSET_S = 2.0
RANDOM_STEPS = 16
MOST_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Step:
    """Faults that are begun so many seconds after the step, and the pause after the last of them is over."""

    faults: Sequence[tuple[str, float]]
    pause_s: float = PAUSE_S

    def __str__(self) -> str:
        return " + ".join(f"{name} ({offset_s:.1f} s)" if offset_s else name for name, offset_s in self.faults)


@dataclass(frozen=True, slots=True)
class Round:
    """What is done in one installation with one set of ledgers; the seed is that of the load too."""

    seed: int
    steps: Sequence[Step]


def singles(faults: Collection[str], seed: int) -> Iterator[Round]:
    """Each fault once, in its order."""
    for number, names in enumerate(_batches(list(faults))):
        yield Round(seed + number, [Step([(name, 0.0)], SINGLE_PAUSE_S) for name in names])


def pairs(faults: Mapping[str, Fault], seed: int) -> Iterator[Round]:
    """Every two that are marked for it and don't hit the same target; the second begins a little later."""
    draw = random.Random(seed)
    marked = [fault for fault in faults.values() if fault.is_in_pairs]
    both = [pair for pair in itertools.combinations(marked, 2) if pair[0].target != pair[1].target]
    draw.shuffle(both)
    for number, some in enumerate(_batches(both)):
        steps = []
        for pair in some:
            first, second = draw.sample(pair, 2)
            steps.append(Step([(first.name, 0.0), (second.name, draw.uniform(0.1, LONGEST_OFFSET_S))]))
        yield Round(seed + number, steps)


def random_rounds(faults: Mapping[str, Fault], seed: int) -> Iterator[Round]:
    """Without end; each round can be drawn again from its own seed alone."""
    for round_seed in itertools.count(seed):
        draw = random.Random(round_seed)
        yield Round(round_seed, [_random_step(faults, draw) for _ in range(RANDOM_STEPS)])


def _random_step(faults: Mapping[str, Fault], draw: random.Random) -> Step:
    chosen: dict[str, Fault] = {}
    for _ in range(draw.randint(1, MOST_AT_ONCE)):
        fault = draw.choice(list(faults.values()))
        chosen.setdefault(fault.target, fault)
    offsets = [0.0, *(draw.uniform(0.1, LONGEST_OFFSET_S) for _ in range(len(chosen) - 1))]
    return Step(
        [(fault.name, offset_s) for fault, offset_s in zip(chosen.values(), offsets, strict=True)],
        draw.uniform(0.0, 3.0),
    )


def _batches(items: Sequence[ItemT]) -> Iterator[Sequence[ItemT]]:
    for start in range(0, len(items), STEPS_A_ROUND):
        yield items[start : start + STEPS_A_ROUND]
