"""The lease model: from when until when a worker's ledger says that it held an execution."""

from faults.leases import all_holds, holds_of
from faults.story import Story, WorkerTeller
from faults.violation import ns


def spans(worker: WorkerTeller) -> list[tuple[str, float, float]]:
    """Execution, begin and end in seconds."""
    return [(hold.execution_id, hold.begin_ns / 1e9, hold.end_ns / 1e9) for hold in holds_of(worker.ledger())]


def teller() -> WorkerTeller:
    """A worker that registers at 1 s with a lease of 3 s."""
    return Story().worker("w1").registers(1.0)


def test_lease_counts_from_when_the_registration_was_sent() -> None:
    assert spans(teller().gets("e1", "j1", 2.0)) == [("e1", 2.0, 4.0)]


def test_a_heartbeats_ack_extends_the_hold_from_when_the_heartbeat_was_sent() -> None:
    assert spans(teller().gets("e1", "j1", 2.0).renewed(3.0, read=3.9)) == [("e1", 2.0, 6.0)]


def test_an_ack_that_is_read_late_leaves_a_gap() -> None:
    assert spans(teller().gets("e1", "j1", 2.0).renewed(3.0, read=4.5)) == [("e1", 2.0, 4.0), ("e1", 4.5, 6.0)]


def test_an_ack_with_an_earlier_end_takes_nothing_away() -> None:
    assert spans(teller().gets("e1", "j1", 2.0).renewed(2.1, lease=0.5)) == [("e1", 2.0, 4.0)]


def test_an_assignment_after_the_lease_is_not_held_before_the_next_ack() -> None:
    worker = teller().gets("e1", "j1", 5.0)
    assert spans(worker) == []
    assert spans(worker.renewed(5.5, read=5.6)) == [("e1", 5.6, 8.5)]


def test_a_hold_ends_when_its_result_is_about_to_be_sent() -> None:
    assert spans(teller().gets("e1", "j1", 2.0).sends("e1", 2.5).renewed(3.0)) == [("e1", 2.0, 2.5)]


def test_a_result_after_the_lease_does_not_lengthen_the_hold() -> None:
    assert spans(teller().gets("e1", "j1", 2.0).sends("e1", 6.0)) == [("e1", 2.0, 4.0)]


def test_a_loss_ends_the_hold_of_what_is_lost_only() -> None:
    worker = teller().gets("e1", "j1", 2.0).gets("e2", "j2", 2.0).renewed(2.5, read=2.6, lost=["e1"])
    assert spans(worker) == [("e1", 2.0, 2.6), ("e2", 2.0, 5.5)]


def test_what_a_resuming_registration_names_is_held_without_a_gap() -> None:
    worker = teller().gets("e1", "j1", 2.0).gets("e2", "j2", 2.0).registers(3.0, held=["e2"])
    assert spans(worker) == [("e1", 2.0, 3.0), ("e2", 2.0, 6.0)]


def test_another_process_with_the_worker_id_ends_what_was_held_before_it() -> None:
    story = Story()
    story.worker("w1").registers(1.0).gets("e1", "j1", 2.0).gets("e2", "j2", 2.9)
    story.worker("w1", process="-2").registers(2.5).gets("e3", "j3", 2.6)
    holds = all_holds(story.ledgers())
    found = [(hold.execution_id, hold.begin_ns, hold.end_ns) for hold in holds]
    assert found == [("e1", ns(2.0), ns(2.5)), ("e3", ns(2.6), ns(5.5))]


def test_a_process_that_takes_its_worker_id_back_holds_again() -> None:
    story = Story()
    story.worker("w1").registers(1.0).registers(3.0).gets("e1", "j1", 3.5)
    story.worker("w1", process="-2").registers(2.5)
    [hold] = all_holds(story.ledgers())
    assert (hold.begin_ns, hold.end_ns) == (ns(3.5), ns(6.0))
