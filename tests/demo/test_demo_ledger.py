"""The ledger of the demo must catch a job that was acknowledged and then lost, or never ended."""

from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from dispatchd.demo.ledger import LedgerCheck, LedgerWriter, check_ledger
from dispatchd.demo.readings import open_readings
from dispatchd.domain.ids import JobId, format_job_id
from dispatchd.domain.job import JobState

SUCCEEDED, FAILED, ACTIVE, LOST = (JobId(UUID(int=number)) for number in range(1, 5))

INSERT = """
insert into jobs (
    job_id, job_type, capability, priority, state, request_digest, max_attempts, initial_backoff_us, max_backoff_us,
    created_at, updated_at, finished_at
)
select
    $1, 'audit.file', 'audit', 0, $2::text, decode(repeat('00', 32), 'hex'), 3, 0, 0,
    now(), now(), case when $2 <> 'active' then now() end
"""


async def check(database_url: str, ledger: Path) -> LedgerCheck:
    async with open_readings(database_url) as read:
        return check_ledger(ledger, {job.job_id: job.state for job in await read.jobs()})


async def test_a_lost_job_and_one_that_has_not_ended_are_caught(database_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        for job_id, state in ((SUCCEEDED, "succeeded"), (FAILED, "failed"), (ACTIVE, "active")):
            await connection.execute(INSERT, job_id, state)
    finally:
        await connection.close()
    ledger = tmp_path / "ledger"
    with LedgerWriter(ledger) as writer:
        writer.append([format_job_id(SUCCEEDED), format_job_id(FAILED)])
        before = await check(database_url, ledger)
        writer.append([format_job_id(ACTIVE), format_job_id(LOST)])
    after = await check(database_url, ledger)
    assert (before.acknowledged, before.finished, before.holds) == (2, 2, True)
    assert (after.acknowledged, after.finished, after.holds) == (4, 2, False)
    assert after.vanished == (format_job_id(LOST),)
    assert after.unfinished == (format_job_id(ACTIVE),)


def test_what_was_appended_can_be_read_while_the_ledger_is_open(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger") as writer:
        writer.append(["job_1", "job_2"])
        assert (tmp_path / "ledger").read_text() == "job_1\njob_2\n"


def test_a_job_that_was_acknowledged_twice_counts_once(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger") as writer:
        writer.append(["job_1", "job_1"])
    assert check_ledger(tmp_path / "ledger", {"job_1": JobState.CANCELED}) == LedgerCheck(1, (), ())


def test_a_ledger_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("job_1\n")
    with pytest.raises(FileExistsError):
        LedgerWriter(tmp_path / "ledger")
