"""Log lines of tasks that wait to be sent: bounded, and what is lost is told."""

import logging

import pytest

from dispatchd.sdk.worker.log_lines import MAX_LINE_BYTES, MAX_LINES, LogLines


def test_what_finds_no_room_is_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    lines = LogLines()
    assert lines.add("e1", "0"), "somebody must be woken for the first one"
    assert not any(lines.add("e1", str(number)) for number in range(1, MAX_LINES + 7))
    sent = []
    while (message := lines.next_message()) is not None:
        sent.append(message.log_chunk.message)
    assert sent == [str(number) for number in range(MAX_LINES)]
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == f"7 log lines were dropped: {MAX_LINES} were waiting already"
    assert lines.add("e1", "and on")


def test_a_long_line_is_cut_between_characters() -> None:
    lines = LogLines()
    lines.add("e1", "x" + "€" * MAX_LINE_BYTES)
    message = lines.next_message()
    assert message is not None
    text = message.log_chunk.message
    assert MAX_LINE_BYTES - 3 <= len(text.encode()) <= MAX_LINE_BYTES
    assert text == "x" + "€" * (len(text) - 1)
