"""Twelve faults, one after the other, in one installation of real processes under load; then every promise is checked.

They take two minutes, so that they are left out by default: `pytest -m faults tests/faults/test_single_faults.py`.
All others, and several at once: `python -m faults.run`.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from faults.faults import FAULTS
from faults.rounds import WARM_UP_S, finish, make_step
from faults.schedule import Round, Step
from faults.site import FaultSite, running_site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

# Those that don't disturb the order of priorities come first, while there is a backlog.
NAMES = (
    "kill_scheduler_leader",
    "freeze_worker",
    "kill_sdk_worker",
    "freeze_scheduler_leader",
    "kill_postgres",
    "end_backends",
    "kill_control_plane",
    "kill_gateway",
    "freeze_gateway",
    "terminate_gateway",
    "lose_answers_of_gateway",
    "empty_redis",
)
SEED = 20
PAUSE_S = 1.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultSite]:
    async with running_site(tmp_path_factory.mktemp("faults") / "site") as site:
        site.start_load(SEED)
        await asyncio.sleep(WARM_UP_S)
        yield site


@pytest.mark.parametrize("name", NAMES)
async def test_jobs_are_done_again_after(site: FaultSite, name: str) -> None:
    seen = len(site.remarks)
    await make_step(site, Step([(name, 0.0)]), FAULTS)
    await asyncio.sleep(PAUSE_S)
    assert site.remarks[seen:] == []


async def test_every_promise_was_kept_and_every_target_met(site: FaultSite) -> None:
    report = await finish(site, Round(SEED, [Step([(name, 0.0)]) for name in NAMES]))
    assert report.violations == []
    assert report.remarks == ()
    assert [str(missed) for missed in report.missed if not missed.is_nearly_met] == []
    if report.counts["faults"] >= len(NAMES):
        assert all(report.coverage.values()), report.coverage
        measured = {measurement.what for measurement in report.measurements}
        assert measured == {
            "submits_work_again_s",
            "assignments_work_again_s",
            "leader_gap_s",
            "lost_execution_ended_s",
            "next_attempt_late_s",
            "attempts_burned_by_drain",
        }
