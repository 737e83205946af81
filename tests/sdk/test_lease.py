"""How long a lease is counted on, how fast the heart beats, and when silence is the end."""

import asyncio
import time

import pytest

from dispatchd.sdk.worker.lease import Lease, Pace


def test_a_lease_counts_from_when_the_heartbeat_was_sent() -> None:
    pace = Pace(100.0)
    pace.sent(100.0)
    assert pace.acked(107.0, 30.0) == 130.0


def test_acks_belong_to_heartbeats_in_order() -> None:
    pace = Pace(0.0)
    pace.sent(1.0)
    pace.sent(2.0)
    assert [pace.acked(3.0, 10.0), pace.acked(3.0, 10.0), pace.acked(3.0, 10.0)] == [11.0, 12.0, None]


def test_the_heart_beats_once_a_second_until_the_lease_is_known_and_then_every_third_of_it() -> None:
    pace = Pace(0.0)
    pace.sent(0.0)
    assert pace.next_heartbeat_at == 1.0
    pace.acked(0.1, 30.0)
    assert pace.next_heartbeat_at == 10.0
    pace.sent(10.0)
    assert pace.next_heartbeat_at == 20.0


def test_a_lease_that_has_shrunk_by_the_way_of_the_ack_does_not_speed_up_the_heart() -> None:
    pace = Pace(0.0)
    for sent, remaining_s in ((0.0, 27.0), (9.0, 18.0), (18.0, -4.0)):
        pace.sent(sent)
        pace.acked(sent, remaining_s)
    assert pace.interval_s == 9.0


def test_long_leases_do_not_make_the_gateway_believe_that_the_worker_is_gone() -> None:
    pace = Pace(0.0)
    pace.sent(0.0)
    pace.acked(0.0, 3_600.0)
    assert pace.interval_s == 10.0


def test_a_silent_stream_is_given_up_with_a_third_of_the_lease_to_spare() -> None:
    pace = Pace(0.0)
    pace.sent(0.0)
    pace.acked(0.5, 30.0)
    assert pace.silent_at == 20.5


def test_a_server_without_leases_may_be_silent_for_a_while() -> None:
    pace = Pace(0.0)
    pace.sent(0.0)
    assert pace.acked(1.0, None) is None
    assert (pace.interval_s, pace.silent_at) == (1.0, 11.0)


async def test_a_lease_that_no_server_named_is_never_lost() -> None:
    lease = Lease()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lease.lost(), 0.05)


async def test_a_lease_is_lost_when_it_was_not_renewed_in_time() -> None:
    lease = Lease()
    lost = asyncio.create_task(lease.lost())
    end = time.monotonic() + 0.1
    lease.extend(end)
    lease.extend(end - 5)
    await lost
    assert time.monotonic() >= end


async def test_a_renewal_puts_the_loss_off() -> None:
    lease = Lease()
    lease.extend(time.monotonic() + 0.05)
    lost = asyncio.create_task(lease.lost())
    end = time.monotonic() + 0.2
    lease.extend(end)
    await lost
    assert time.monotonic() >= end
