"""Which worker of a gateway gets a ready execution."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from dispatchd.application.gateway.placing import MOST_DEMANDS, Placing, SessionsByCapabilities
from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.ports import ReadyEntry
from dispatchd.domain import limits
from dispatchd.domain.worker import Registration
from gateway.claimed import claimed, ids

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def session_with(slots: int, *capabilities: str, held: int = 0) -> WorkerSession:
    registration = Registration("mailer", capabilities or ("email",), slots)
    session = WorkerSession(ids.session_id(), registration, "anonymous", "peer", timedelta(seconds=30))
    for _ in range(held):
        session.assign(claimed())
    return session


def grouped(*sessions: WorkerSession) -> SessionsByCapabilities:
    groups: SessionsByCapabilities = {}
    for session in sessions:
        if session.free_slots:
            groups.setdefault(session.registration.capabilities, []).append((session, session.free_slots))
    return groups


def entry(capability: str = "email", priority: int = 0, due_s: int = 0) -> ReadyEntry:
    return ReadyEntry(ids.execution_id(), capability, priority, NOW + timedelta(seconds=due_s))


async def test_the_emptiest_session_gets_it_by_its_share_of_free_slots() -> None:
    nearly_full, half_full, empty = session_with(10, held=9), session_with(4, held=2), session_with(1)
    offers = Placing(grouped(nearly_full, half_full, empty)).place_ready([entry() for _ in range(4)])
    assert [offer.session_id for offer in offers] == [
        empty.session_id,
        half_full.session_id,
        half_full.session_id,
        nearly_full.session_id,
    ]


async def test_the_best_entries_are_placed_when_there_are_more_than_slots() -> None:
    both, emails = session_with(1, "email", "sms"), session_with(1, "email")
    late, urgent, early = entry("email", due_s=2), entry("sms", priority=1), entry("email", due_s=1)
    offers = Placing(grouped(both, emails)).place_ready([late, urgent, early])
    assert {offer.entry: offer.session_id for offer in offers} == {urgent: both.session_id, early: emails.session_id}


async def test_what_was_popped_for_a_group_stays_in_it() -> None:
    both, emails = session_with(2, "email", "sms"), session_with(2, "email")
    placing = Placing(grouped(both, emails))
    demands = placing.demands()
    assert [(demand.capabilities, demand.slots) for demand in demands] == [(("email", "sms"), 2), (("email",), 2)]
    first, second = entry("sms"), entry("email")
    offers = placing.place_popped(demands, [[first], [second]])
    assert [(offer.entry, offer.session_id) for offer in offers] == [
        (first, both.session_id),
        (second, emails.session_id),
    ]


async def test_groups_take_turns_and_none_is_left_out() -> None:
    groups = grouped(*(session_with(1_000, f"kind-{number}") for number in range(3)))
    firsts = [Placing(groups, turn).demands()[0] for turn in range(4)]
    assert [demand.capabilities for demand in firsts] == [("kind-0",), ("kind-1",), ("kind-2",), ("kind-0",)]
    for turn in range(3):
        demands = Placing(groups, turn).demands()
        assert {demand.capabilities for demand in demands} == {("kind-0",), ("kind-1",), ("kind-2",)}
        assert {demand.slots for demand in demands} == {limits.BATCH_ITEMS}


async def test_more_groups_than_are_asked_for_at_once_are_all_asked_in_turn() -> None:
    groups = grouped(*(session_with(1, f"kind-{number}") for number in range(MOST_DEMANDS * 2 + 5)))
    asked = set()
    for turn in range(0, len(groups), MOST_DEMANDS):
        demands = Placing(groups, turn).demands()
        assert len(demands) == MOST_DEMANDS
        asked |= {demand.capabilities for demand in demands}
    assert asked == set(groups)


CAPABILITIES = st.sampled_from("abcd")


@settings(max_examples=200, deadline=None)
@given(
    workers=st.lists(
        st.tuples(st.integers(1, 5), st.lists(CAPABILITIES, min_size=1, max_size=3, unique=True)), max_size=6
    ),
    waiting=st.lists(st.tuples(CAPABILITIES, st.integers(0, 3)), max_size=40),
)
async def test_every_offer_fits_and_nothing_better_is_left_waiting(
    workers: list[tuple[int, list[str]]], waiting: list[tuple[str, int]]
) -> None:
    sessions = {s.session_id: s for s in (session_with(slots, *capabilities) for slots, capabilities in workers)}
    entries = [entry(capability, priority) for capability, priority in waiting]
    offers = Placing(grouped(*sessions.values())).place_ready(entries)
    offered = {offer.entry for offer in offers}
    assert len(offered) == len(offers)
    taken = Counter(offer.session_id for offer in offers)
    for offer in offers:
        assert offer.entry.capability in sessions[offer.session_id].registration.capabilities
    for session_id, count in taken.items():
        assert count <= sessions[session_id].free_slots
    for left in set(entries) - offered:
        # Each session that could do it is full of what is at least as urgent.
        for session_id, session in sessions.items():
            if left.capability in session.registration.capabilities:
                assert taken[session_id] == session.free_slots
                priorities = [offer.entry.priority for offer in offers if offer.session_id == session_id]
                assert min(priorities) >= left.priority
