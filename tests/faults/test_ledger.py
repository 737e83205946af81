"""The ledger's file: what survives a SIGKILL, and what is refused."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dispatchd.sdk.job import JobStatus
from faults.events import (
    Closed,
    JobSeen,
    LeaseAcked,
    LedgerRole,
    Outcome,
    RegistrationSent,
    ResultAcked,
    Submitted,
)
from faults.ledger import SUFFIX, LedgerDamaged, LedgerWriter, read_ledger, read_ledgers

WRITES_FOR_EVER = """
import sys
from pathlib import Path
from faults.events import Closed, LedgerRole
from faults.ledger import LedgerWriter, now_ns
writer = LedgerWriter(Path(sys.argv[1]), LedgerRole.CLIENT, "doomed")
print("begun", flush=True)
number = 0
while True:
    number += 1
    writer.note(Closed(now_ns(), number))
"""
EVENTS = (
    Submitted(1, "key \n with a line break", "faults.work", 9, 3),
    JobSeen(3, 2, "j1", JobStatus.SUCCEEDED, 1, "WaitJob"),
    RegistrationSent(4, 1, ("e1", "e2")),
    LeaseAcked(6, 1, 5, None, ("e2",)),
    ResultAcked(7, 1, "e1", False, Outcome.STALE),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / f"one{SUFFIX}"


@pytest.fixture
def written(path: Path) -> Path:
    """A ledger with five events."""
    with LedgerWriter(path, LedgerRole.RAW_WORKER, "w1") as writer:
        for event in EVENTS:
            writer.note(event)
    return path


def test_what_was_written_is_read_again(written: Path) -> None:
    ledger = read_ledger(written)
    assert ledger is not None
    assert (ledger.file, ledger.name, ledger.opened.role) == ("one.ledger", "w1", LedgerRole.RAW_WORKER)
    assert ledger.events == EVENTS


def test_a_torn_last_line_is_ignored(written: Path) -> None:
    written.write_bytes(written.read_bytes()[:-10])
    ledger = read_ledger(written)
    assert ledger is not None
    assert ledger.events == EVENTS[:-1]


def test_a_torn_line_in_the_middle_is_damage(written: Path) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(lines[0] + lines[1][:20] + b"\n" + lines[2])
    with pytest.raises(LedgerDamaged, match=r"line 2 of one\.ledger"):
        read_ledger(written)


def test_a_ledger_begins_with_its_opening(written: Path) -> None:
    written.write_bytes(b"".join(written.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(LedgerDamaged, match="does not begin"):
        read_ledger(written)


def test_two_processes_can_not_share_a_ledger(written: Path) -> None:
    with pytest.raises(FileExistsError):
        LedgerWriter(written, LedgerRole.RAW_WORKER, "w1")


def test_a_folder_is_read_without_what_never_began(written: Path) -> None:
    written.with_name(f"empty{SUFFIX}").touch()
    written.with_name("some.log").write_text("no ledger")
    assert [ledger.file for ledger in read_ledgers(written.parent)] == ["one.ledger"]


def test_sigkill_leaves_whole_lines_without_a_gap(path: Path) -> None:
    program = [sys.executable, "-c", WRITES_FOR_EVER, str(path)]
    environ = {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(program, stdout=subprocess.PIPE, env=environ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"begun\n"
        while path.stat().st_size < 100_000:
            assert writer.poll() is None
        writer.send_signal(signal.SIGKILL)
    ledger = read_ledger(path)
    assert ledger is not None
    assert [event.skipped for event in ledger.of(Closed)] == list(range(1, len(ledger.events) + 1))
