"""How many streams and registrations a principal may have on one gateway."""

import pytest

from dispatchd.application.gateway import admission
from dispatchd.application.gateway.admission import Admission
from dispatchd.domain.access import ANONYMOUS, AccessRole, Identity
from dispatchd.domain.errors import Overloaded

ANN = Identity("ann", frozenset({AccessRole.SERVICE}))
BOB = Identity("bob", frozenset({AccessRole.SERVICE}))


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(admission, "time", clock)
    return clock


def test_a_principal_has_so_many_streams_and_others_are_not_its_business(clock: Clock) -> None:
    admitted = Admission(sessions=1_000, streams=2, registrations_a_minute=100)
    for _ in range(2):
        admitted.enter(ANN)
    with pytest.raises(Overloaded, match="'ann' has 2 streams"):
        admitted.enter(ANN)
    admitted.enter(BOB)
    admitted.closed("ann")
    admitted.enter(ANN)


def test_who_registers_again_and_again_waits_and_may_then_go_on(clock: Clock) -> None:
    admitted = Admission(sessions=1_000, streams=1_000, registrations_a_minute=60)
    for _ in range(60):
        admitted.enter(ANN)
    with pytest.raises(Overloaded, match="more than 60 times in a minute"):
        admitted.enter(ANN)
    admitted.enter(BOB)
    clock.now += 2.0
    admitted.enter(ANN)
    admitted.enter(ANN)
    with pytest.raises(Overloaded):
        admitted.enter(ANN)
    clock.now += 3600.0
    for _ in range(60):
        admitted.enter(ANN)
    with pytest.raises(Overloaded):
        admitted.enter(ANN)


def test_without_tokens_only_the_bound_of_the_gateway_counts(clock: Clock) -> None:
    admitted = Admission(sessions=10, streams=1, registrations_a_minute=1)
    for _ in range(10):
        admitted.enter(ANONYMOUS)
    with pytest.raises(Overloaded, match="this worker-gateway has 10 streams already"):
        admitted.enter(ANONYMOUS)
    admitted.closed("anonymous")
    admitted.enter(ANONYMOUS)


def test_a_gateway_has_so_many_streams_whoever_has_them(clock: Clock) -> None:
    admitted = Admission(sessions=2, streams=1, registrations_a_minute=100)
    admitted.enter(ANN)
    with pytest.raises(Overloaded, match="'ann' has 1 streams"):
        admitted.enter(ANN)
    admitted.enter(BOB)
    with pytest.raises(Overloaded, match="this worker-gateway has 2 streams already"):
        admitted.enter(Identity("cyd", frozenset({AccessRole.SERVICE})))
    admitted.closed("ann")
    admitted.enter(Identity("cyd", frozenset({AccessRole.SERVICE})))


def test_principals_that_have_gone_are_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_FORGET_ABOVE", 10)
    admitted = Admission(sessions=1_000, streams=5, registrations_a_minute=60)
    admitted.enter(ANN)
    for number in range(100):
        clock.now += 10.0
        admitted.enter(Identity(f"passer-by {number}", frozenset()))
        admitted.closed(f"passer-by {number}")
    assert len(admitted._principals) <= 10
    assert admitted._principals["ann"].streams == 1
