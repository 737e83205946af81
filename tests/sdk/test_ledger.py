"""What a worker holds, from assignment to acked result."""

from collections.abc import Iterable

import pytest

from dispatchd import Task
from dispatchd.sdk.worker.ledger import MAX_IN_MESSAGE, MAX_MESSAGE_BYTES, Held, Ledger, StopReason
from dispatchd.v1 import dispatchd_pb2 as v1


async def wait_for_it(value: int) -> None: ...


def compute(value: int) -> None: ...


ASYNC: Task[int, None] = Task("report.wait", wait_for_it)
PLAIN: Task[int, None] = Task("report.compute", compute)


def assign(ledger: Ledger, *names: str, task: Task[int, None] = ASYNC) -> None:
    for name in names:
        ledger.assign(Held(v1.TaskAssignment(execution_id=name), task, 0.0))


def names(held: Iterable[Held]) -> list[str]:
    return [each.execution_id for each in held]


def success(name: str, payload: bytes = b"") -> v1.TaskResult:
    return v1.TaskResult(execution_id=name, success=True, payload=payload)


def messages(ledger: Ledger) -> list[v1.ConnectRequest]:
    said = []
    while (message := ledger.next_message()) is not None:
        said.append(message)
    return said


def outcomes(ledger: Ledger) -> tuple[dict[str, bool], list[str]]:
    """The results (success by name) and the give-backs that are said next."""
    said = messages(ledger)
    results = {result.execution_id: result.success for message in said for result in message.results.results}
    return results, [name for message in said for name in message.give_back.execution_ids]


def running(*held: str, slots: int = 10, task: Task[int, None] = ASYNC) -> Ledger:
    ledger = Ledger(slots)
    assign(ledger, *held, task=task)
    ledger.start_next()
    return ledger


def test_no_more_run_than_there_are_slots() -> None:
    ledger = Ledger(2)
    assign(ledger, "a", "b", "c")
    assert names(ledger.start_next()) == ["a", "b"]
    assert ledger.is_busy
    ledger.ended("a", success("a"))
    assert names(ledger.start_next()) == ["c"]


def test_everything_is_named_at_registration_until_it_is_acked() -> None:
    ledger = Ledger(2)
    assign(ledger, "finished", "running", "waiting")
    ledger.start_next()
    ledger.ended("finished", success("finished"))
    assert ledger.held_ids == ["finished", "running", "waiting"]
    assert outcomes(ledger) == ({"finished": True}, [])
    assert ledger.held_ids == ["finished", "running", "waiting"]
    ledger.acked("finished")
    assert ledger.held_ids == ["running", "waiting"]


def test_an_assignment_that_comes_twice_runs_once() -> None:
    ledger = running("a")
    assign(ledger, "a")
    assert ledger.start_next() == []
    assert ledger.held_ids == ["a"]


def test_beginnings_are_said_once_and_before_results() -> None:
    ledger = running("a", "b")
    ledger.began(["a", "b"])
    ledger.ended("b", success("b"))
    first, second = messages(ledger)
    assert list(first.started.execution_ids) == ["a"]
    assert names(second.results.results) == ["b"]  # type: ignore[arg-type]


def test_results_are_said_again_on_a_new_stream_until_they_are_acked() -> None:
    ledger = running("a", "b")
    ledger.ended("a", success("a"))
    assert outcomes(ledger) == ({"a": True}, [])
    assert outcomes(ledger) == ({}, [])
    ledger.resend()
    [started, results] = messages(ledger)
    assert list(started.started.execution_ids) == ["b"]
    assert names(results.results.results) == ["a"]  # type: ignore[arg-type]
    ledger.acked("a")
    ledger.resend()
    assert outcomes(ledger) == ({}, [])


def test_an_ack_from_the_last_stream_counts_although_the_result_is_to_be_said_again() -> None:
    ledger = running("a")
    ledger.ended("a", success("a"))
    messages(ledger)
    ledger.resend()
    ledger.acked("a")
    assert outcomes(ledger) == ({}, [])
    assert ledger.is_empty


def test_an_ack_for_what_was_never_said_changes_nothing() -> None:
    ledger = running("a")
    ledger.acked("a")
    ledger.acked("unknown")
    ledger.ended("a", success("a"))
    ledger.acked("a")
    assert outcomes(ledger) == ({"a": True}, [])


def test_a_lost_lease_gives_back_what_ends_and_leaves_threads_alone() -> None:
    ledger = running("a", "swallows")
    assign(ledger, "thread", task=PLAIN)
    ledger.start_next()
    stopped = ledger.stop(ledger.held_ids, StopReason.LEASE_LOST)
    assert names(stopped) == ["a", "swallows"]
    assert outcomes(ledger) == ({}, [])
    ledger.ended("a", None)
    ledger.ended("swallows", success("swallows"))
    ledger.ended("thread", success("thread"))
    assert outcomes(ledger) == ({"swallows": True, "thread": True}, ["a"])


def test_what_waits_when_the_lease_is_lost_is_given_back_unbegun() -> None:
    ledger = Ledger(1)
    assign(ledger, "a", "waits")
    ledger.start_next()
    ledger.stop(ledger.held_ids, StopReason.LEASE_LOST)
    assert outcomes(ledger) == ({}, ["waits"])
    ledger.ended("a", None)
    assert ledger.start_next() == []


def test_a_task_is_cancelled_once_however_often_it_is_unwanted() -> None:
    ledger = running("a")
    assert names(ledger.stop(["a"], StopReason.LEASE_LOST)) == ["a"]
    assert ledger.stop(["a"], StopReason.LEASE_LOST) == []
    assert ledger.stop(["a"], StopReason.UNWANTED) == []


def test_what_the_server_has_ended_is_answered_with_a_failure_and_not_given_back() -> None:
    ledger = running("a")
    ledger.stop(["a"], StopReason.LEASE_LOST)
    ledger.stop(["a"], StopReason.UNWANTED)
    ledger.ended("a", None)
    assert outcomes(ledger) == ({"a": False}, [])


def test_what_somebody_else_cancelled_is_given_back() -> None:
    ledger = running("a")
    ledger.ended("a", None)
    assert outcomes(ledger) == ({}, ["a"])


def test_an_unwanted_thread_is_told_and_its_result_is_sent() -> None:
    ledger = running("a", task=PLAIN)
    assert names(ledger.stop(["a"], StopReason.UNWANTED)) == ["a"]
    ledger.ended("a", success("a"))
    assert outcomes(ledger) == ({"a": True}, [])


def test_what_is_unwanted_before_it_begins_never_begins() -> None:
    ledger = Ledger(1)
    assign(ledger, "a", "waits")
    ledger.start_next()
    assert ledger.stop(["waits"], StopReason.UNWANTED) == []
    assert outcomes(ledger) == ({"waits": False}, [])
    ledger.ended("a", success("a"))
    assert ledger.start_next() == []


def test_a_drain_gives_back_what_waits_and_what_still_comes() -> None:
    ledger = Ledger(1)
    assign(ledger, "a", "waits")
    ledger.start_next()
    ledger.drain()
    assign(ledger, "late")
    assert outcomes(ledger) == ({}, ["waits", "late"])
    ledger.ended("a", success("a"))
    assert ledger.start_next() == []
    assert outcomes(ledger) == ({"a": True}, [])
    for name in ("a", "waits", "late"):
        assert not ledger.is_empty
        ledger.acked(name)
    assert ledger.is_empty


def test_at_the_end_of_a_drain_only_threads_are_waited_for_no_longer() -> None:
    ledger = running("a")
    assign(ledger, "thread", task=PLAIN)
    ledger.start_next()
    assert not ledger.only_threads_run
    assert names(ledger.stop(ledger.held_ids, StopReason.DRAINED)) == ["a"]
    ledger.ended("a", None)
    messages(ledger)
    before_the_ack = ledger.only_threads_run
    ledger.acked("a")
    assert (before_the_ack, ledger.only_threads_run) == (False, True)
    assert (ledger.is_empty, ledger.running_ids) == (False, ["thread"])


def test_a_function_that_overran_keeps_its_slot_until_it_returns() -> None:
    ledger = running("a", slots=1, task=PLAIN)
    ledger.finish("a", v1.TaskResult(execution_id="a"))
    assert outcomes(ledger) == ({"a": False}, [])
    ledger.acked("a")
    assert ledger.held_ids == []
    assign(ledger, "next")
    assert ledger.start_next() == []
    ledger.ended("a", success("a"))
    assert names(ledger.start_next()) == ["next"]
    assert outcomes(ledger) == ({}, [])


def test_what_is_far_too_much_goes_straight_back() -> None:
    ledger = Ledger(2)
    assign(ledger, *(str(number) for number in range(10)))
    assert outcomes(ledger) == ({}, ["8", "9"])


def test_results_that_wait_for_their_ack_are_no_reason_to_give_work_back() -> None:
    ledger = Ledger(1)
    for number in range(20):
        assign(ledger, str(number))
        assert names(ledger.start_next()) == [str(number)]
        ledger.ended(str(number), success(str(number)))
    results, given_back = outcomes(ledger)
    assert len(results) == 20
    assert given_back == []


@pytest.mark.parametrize("count", [MAX_IN_MESSAGE, MAX_IN_MESSAGE + 1])
def test_messages_are_bounded_in_count(count: int) -> None:
    ledger = Ledger(count)
    ids = [str(number) for number in range(count)]
    assign(ledger, *ids)
    ledger.start_next()
    ledger.began(ids)
    started = messages(ledger)
    for each in ids:
        ledger.ended(each, success(each))
    results = messages(ledger)
    assert max(len(message.started.execution_ids) for message in started) == MAX_IN_MESSAGE
    assert max(len(message.results.results) for message in results) == MAX_IN_MESSAGE
    assert [each.execution_id for message in results for each in message.results.results] == ids


def test_messages_are_bounded_in_bytes() -> None:
    ids = [str(number) for number in range(8)]
    ledger = running(*ids)
    for each in ids:
        ledger.ended(each, success(each, bytes(1024 * 1024)))
    sizes = [message.ByteSize() for message in messages(ledger)]
    assert len(sizes) == 4
    assert max(sizes) <= MAX_MESSAGE_BYTES + 1024 * 1024


def test_results_and_give_backs_are_said_in_order_but_not_in_one_message() -> None:
    ledger = running("a", "b", "c")
    ledger.stop(["b"], StopReason.DRAINED)
    ledger.ended("a", success("a"))
    ledger.ended("b", None)
    ledger.ended("c", success("c"))
    kinds = [message.WhichOneof("payload") for message in messages(ledger)]
    assert kinds == ["results", "give_back", "results"]
