"""The schedules: drawn again from the same seed they are the same, and no two faults hit one target at once."""

from itertools import combinations, islice

from faults.faults import FAULTS
from faults.schedule import STEPS_A_ROUND, pairs, random_rounds, singles

SEED = 7


def test_singles_make_every_fault_once() -> None:
    rounds = list(singles(FAULTS, SEED))
    assert [name for chosen in rounds for step in chosen.steps for name, _ in step.faults] == list(FAULTS)
    assert all(len(chosen.steps) <= STEPS_A_ROUND for chosen in rounds)


def test_pairs_make_every_two_marked_faults_with_different_targets_once() -> None:
    marked = [fault for fault in FAULTS.values() if fault.is_in_pairs]
    wanted = {frozenset({one.name, other.name}) for one, other in combinations(marked, 2) if one.target != other.target}
    made = [frozenset(name for name, _ in step.faults) for chosen in pairs(FAULTS, SEED) for step in chosen.steps]
    assert set(made) == wanted
    assert len(made) == len(wanted)


def test_a_random_round_can_be_drawn_again_from_its_own_seed() -> None:
    third = list(islice(random_rounds(FAULTS, SEED), 3))[2]
    assert next(random_rounds(FAULTS, third.seed)) == third
    assert next(random_rounds(FAULTS, SEED)) != third


def test_no_step_hits_a_target_twice() -> None:
    for chosen in islice(random_rounds(FAULTS, SEED), 20):
        for step in chosen.steps:
            targets = [FAULTS[name].target for name, _ in step.faults]
            assert len(targets) == len(set(targets)), step
