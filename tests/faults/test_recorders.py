"""The recording processes against real roles without any fault: hundreds of jobs, and the checker finds nothing."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from faults.checker import check
from faults.coverage import coverage
from faults.database_facts import read_facts
from faults.events import (
    Closed,
    HandlerEnded,
    JobSeen,
    LeaseAcked,
    Outcome,
    RedriveAnswered,
    ResultAcked,
    StreamEnded,
    SubmitAcked,
)
from faults.history import History
from faults.ledger import read_ledgers
from faults.recorders import TESTS, Recorders
from gateway.roles import RunningRole, Site
from waiting import eventually

LONGEST_S = 30.0
RATE_PER_S = 120
DURATION_S = 4


@pytest.fixture
def recorders(tmp_path: Path) -> Iterator[Recorders]:
    recorders = Recorders(tmp_path)
    yield recorders
    recorders.kill_all()


@pytest.fixture
async def roles(database_url: str, redis_address: str) -> AsyncIterator[tuple[RunningRole, list[RunningRole]]]:
    """A control-plane and two worker-gateways; a scheduler runs too. On a busy machine no lease runs out either."""
    site = Site(database_url, redis_address, LEASE_DURATION="20s", WORKER_HEARTBEAT_TTL="30s")
    async with AsyncExitStack() as running:
        await running.enter_async_context(site.scheduler())
        gateways = [
            await running.enter_async_context(site.gateway(INSTANCE_ID=f"gateway-{number}")) for number in (1, 2)
        ]
        control_plane = await running.enter_async_context(site.control_plane())
        yield control_plane, gateways


async def all_ended(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)

    async def look() -> bool:
        active: int = await connection.fetchval("select count(*) from jobs where state = 'active'")
        return not active

    try:
        await eventually(look, LONGEST_S)
    finally:
        await connection.close()


async def checker(folder: Path, database_url: str) -> tuple[int, str]:
    """The checker as a process of its own: exit code and what it printed."""
    command = [sys.executable, "-m", "faults.checker", str(folder), database_url]
    run = await asyncio.to_thread(
        subprocess.run, command, env={"PYTHONPATH": TESTS}, capture_output=True, text=True, timeout=LONGEST_S
    )
    return run.returncode, run.stdout + run.stderr


async def deny_one_success(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "update executions set worker_id = 'nobody' "
            "where execution_id = (select execution_id from executions where state = 'succeeded' limit 1)"
        )
    finally:
        await connection.close()


async def test_a_run_without_faults_keeps_every_promise(
    roles: tuple[RunningRole, list[RunningRole]], recorders: Recorders, database_url: str
) -> None:
    control_plane, gateways = roles
    addresses = [gateway.address for gateway in gateways]
    workers = ["raw-1", "raw-2", "sdk-1"]
    for name in workers[:2]:
        habits = ["--fail-share", "0.2", "--final-share", "0.5", "--repeat-share", "0.2", "--seed", name[-1]]
        recorders.start("raw_worker", name, "--worker-id", name, "--gateways", ",".join(addresses), *habits)
    recorders.start("sdk_worker", "sdk-1", "--worker-id", "sdk-1", "--gateway", f"ipv4:{','.join(addresses)}")
    plan = ["--rate-per-s", f"{RATE_PER_S}", "--duration-s", f"{DURATION_S}", "--linger-s", "1", "--looks-per-s", "100"]
    target = ["--target", control_plane.address, "--name", "client-1", "--job-types", "faults.work,faults.thread"]
    recorders.start("submitter", "client-1", *target, *plan)
    await recorders.ended("client-1")
    await all_ended(database_url)
    await recorders.stop(*workers)

    ledgers, facts = read_ledgers(recorders.folder), await read_facts(database_url)
    assert [str(violation) for violation in check(ledgers, facts)] == []

    history = History(ledgers)
    covered = coverage(history, facts)
    unseen = {rule for rule, count in covered.items() if not count}
    assert unseen <= {"priority_is_kept", "leases_last"}, covered
    assert len(history.acks) > RATE_PER_S * DURATION_S / 2
    assert history.acks.keys() == facts.jobs.keys()
    assert {told.name for told in history.deliveries} == set(workers)
    assert {hold.worker_id for hold in history.holds} == {"raw-1", "raw-2"}
    assert {ending.event.end for ending in history.told(HandlerEnded)} >= {"returned", "raised"}
    outcomes = Counter(told.event.outcome for told in history.told(ResultAcked))
    assert outcomes[Outcome.ACCEPTED] > 50
    assert outcomes[Outcome.STALE] > 0, "no contradiction was sent"
    assert len(history.told(SubmitAcked)) > len(history.acks), "no submit was repeated"
    assert {told.event.call for told in history.told(JobSeen)} >= {"SubmitJob", "GetJob", "WaitJob", "CancelJob"}
    assert "OK" in {told.event.code for told in history.told(RedriveAnswered)}
    assert [told.event.skipped for told in history.told(Closed)] == [0]
    assert all(told.event.remaining_ns is not None for told in history.told(LeaseAcked))
    assert {told.event.code for told in history.told(StreamEnded)} == {"OK"}

    assert await checker(recorders.folder, database_url) == (0, "")
    await deny_one_success(database_url)
    code, printed = await checker(recorders.folder, database_url)
    assert code == 1
    assert printed.startswith("successes_were_seen: job_")
    assert printed.count("\n") == 1
