"""What waits to be written to a worker: order, bounds, and what can still be taken back."""

import asyncio
from datetime import timedelta

import pytest

from dispatchd.application.gateway.messages import Ack, Assignment, Drain, Outbound
from dispatchd.application.gateway.outbox import PAYLOAD_BYTES, UNANSWERED, UNWRITTEN, LoadedAssignment, Outbox
from gateway.claimed import claimed


def assignment(payload: bytes | None = b"{}") -> Assignment:
    return Assignment(claimed(payload), timedelta(seconds=3), 0.0)


async def take_all(outbox: Outbox) -> list[Outbound | LoadedAssignment]:
    """Everything that could be written now."""
    taken: list[Outbound | LoadedAssignment] = []
    while True:
        taking = asyncio.ensure_future(outbox.take())
        await asyncio.sleep(0)
        if not taking.done():
            taking.cancel()
            return taken
        taken += taking.result()


def acks_of(messages: list[Outbound | LoadedAssignment]) -> list[str]:
    return [message.execution_text for message in messages if isinstance(message, Ack)]


async def test_on_an_ordered_stream_an_ack_waits_for_the_ones_before_it() -> None:
    outbox = Outbox(ordered=True)
    first, second, third = outbox.expect_ack(), outbox.expect_ack(), outbox.expect_ack()
    outbox.answer(second, Ack("2"))
    outbox.send(Drain("bye"))
    assert await take_all(outbox) == [Drain("bye")]
    outbox.answer(first, Ack("1"))
    assert acks_of(await take_all(outbox)) == ["1", "2"]
    outbox.answer(third, Ack("3"))
    outbox.answer(third, Ack("again"))
    assert acks_of(await take_all(outbox)) == ["3"]
    assert not outbox.has_unanswered


async def test_on_a_batched_stream_no_ack_waits_for_another() -> None:
    outbox = Outbox(ordered=False)
    first, second = outbox.expect_ack(), outbox.expect_ack()
    outbox.answer(second, Ack("2"))
    assert acks_of(await take_all(outbox)) == ["2"]
    outbox.answer(first, Ack("1"))
    assert acks_of(await take_all(outbox)) == ["1"]


async def test_an_ordered_stream_is_written_message_by_message_and_a_batched_one_at_once() -> None:
    for ordered, count in ((True, 1), (False, 3)):
        outbox = Outbox(ordered=ordered)
        for _ in range(3):
            outbox.send(assignment())
        assert len(await outbox.take()) == count
        assert len(outbox.withdraw_assignments()) == 3 - count


def has_room(outbox: Outbox) -> bool:
    waiting = outbox.has_room()
    try:
        waiting.send(None)
    except StopIteration:
        return True
    waiting.close()
    return False


async def test_too_many_unanswered_requests_stop_the_reading() -> None:
    outbox = Outbox(ordered=False)
    pending = [outbox.expect_ack() for _ in range(UNANSWERED - 1)]
    assert has_room(outbox)
    pending.append(outbox.expect_ack())
    assert not has_room(outbox)
    outbox.answer(pending[0], Ack())
    assert has_room(outbox)


@pytest.mark.parametrize("ordered", [True, False])
async def test_too_many_unwritten_acks_stop_the_reading(ordered: bool) -> None:
    outbox = Outbox(ordered=ordered)
    for _ in range(UNWRITTEN):
        assert has_room(outbox)
        outbox.answer(outbox.expect_ack(), Ack())
    assert not has_room(outbox)
    await outbox.take()
    assert has_room(outbox)


async def test_payloads_beyond_the_bound_are_left_to_be_read_later() -> None:
    outbox = Outbox(ordered=False)
    size = PAYLOAD_BYTES // 4
    for _ in range(6):
        outbox.send(assignment(b"x" * size))
    written = await take_all(outbox)
    assert [isinstance(m, Assignment) and m.execution.payload == b"x" * size for m in written] == [True] * 4
    later = await outbox.first_large()
    assert later.execution.payload is None
    outbox.send(assignment(b"x" * size))
    assert len(await take_all(outbox)) == 1, "what was written makes room"
    assert len(outbox.withdraw_assignments()) == 2


async def test_a_large_payload_is_written_in_its_turn_and_its_reader_waits_for_that() -> None:
    outbox = Outbox(ordered=False)
    outbox.send(assignment(None))
    large = await outbox.first_large()
    delivering = asyncio.ensure_future(outbox.deliver_large(large, b"payload"))
    [loaded] = await outbox.take()
    assert isinstance(loaded, LoadedAssignment)
    assert loaded.assignment.execution.payload == b"payload"
    assert not delivering.done()
    loaded.left.set()
    await delivering


async def test_a_large_assignment_that_was_withdrawn_is_not_written_whenever_that_was() -> None:
    outbox = Outbox(ordered=False)
    outbox.send(assignment(None))
    large = await outbox.first_large()
    assert outbox.withdraw(large.execution.execution_id)
    await outbox.deliver_large(large, b"payload")
    assert await take_all(outbox) == []

    outbox.send(assignment(None))
    large = await outbox.first_large()
    delivering = asyncio.ensure_future(outbox.deliver_large(large, b"payload"))
    await asyncio.sleep(0)
    assert outbox.withdraw_assignments() == [large.execution.execution_id]
    await delivering
    assert await take_all(outbox) == []


async def test_what_the_writer_has_taken_cannot_be_withdrawn() -> None:
    outbox = Outbox(ordered=False)
    sent = assignment()
    outbox.send(sent)
    await outbox.take()
    assert not outbox.withdraw(sent.execution.execution_id)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_writer_that_waits_goes_on_waiting_when_what_came_is_withdrawn_before_its_turn(ordered: bool) -> None:
    outbox = Outbox(ordered=ordered)
    taking = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    canceled = assignment()
    outbox.send(canceled)
    assert outbox.withdraw(canceled.execution.execution_id)
    await asyncio.wait_for(outbox.idle(), 5.0)
    outbox.send(Drain("bye"))
    assert await asyncio.wait_for(taking, 5.0) == [Drain("bye")]


async def test_the_outbox_is_idle_when_the_writer_asks_for_more_and_there_is_nothing() -> None:
    outbox = Outbox(ordered=True)
    outbox.send(Drain("bye"))
    idle = asyncio.ensure_future(outbox.idle())
    await outbox.take()
    await asyncio.sleep(0)
    assert not idle.done(), "taken, and perhaps not written"
    taking = asyncio.ensure_future(outbox.take())
    await idle
    taking.cancel()
