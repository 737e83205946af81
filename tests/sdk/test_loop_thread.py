"""The SDK's own thread, next to a program that is not the SDK's."""

import signal
import threading

from dispatchd.sdk.loop_thread import LoopThread

STOPS = {signal.SIGTERM, signal.SIGINT}


def test_signals_that_stop_a_process_are_left_to_its_main_thread() -> None:
    """Taken by another thread they would not wake a main thread that sleeps in a call."""
    thread = LoopThread("test")
    thread.start()

    async def blocked() -> set[int]:
        inherited: list[set[int]] = []
        child = threading.Thread(target=lambda: inherited.append(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        child.start()
        child.join()
        return signal.pthread_sigmask(signal.SIG_BLOCK, ()) & inherited[0]

    try:
        assert thread.call(blocked, "blocked") >= STOPS
    finally:
        thread.close(timeout_s=10)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & STOPS
