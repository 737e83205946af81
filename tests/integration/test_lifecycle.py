"""Hypothesis drives jobs, workers and regions through their lives on a real database, and a model says what must come
of each step. `LIFECYCLE_EXAMPLES` and `LIFECYCLE_STEPS` make it look longer, as in

    LIFECYCLE_EXAMPLES=2000 LIFECYCLE_STEPS=80 pytest tests/integration/test_lifecycle.py
"""

import asyncio
import os
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from lifecycle.job_steps import JobSteps
from lifecycle.machine import REGIONS, WATCH
from lifecycle.processes import LONG, open_process, without_hurry
from lifecycle.region_steps import RegionSteps
from lifecycle.worker_steps import WorkerSteps
from stores import open_stores, sql

EXAMPLES = int(os.environ.get("LIFECYCLE_EXAMPLES", "50"))
STEPS = int(os.environ.get("LIFECYCLE_STEPS", "40"))


class Lives(JobSteps, WorkerSteps, RegionSteps):
    """All rules."""


@pytest.mark.timeout(300 + 10 * EXAMPLES)
def test_every_life_of_a_job_is_one_that_the_domain_allows(database_url: str) -> None:
    with asyncio.Runner() as runner, without_hurry():
        stack = AsyncExitStack()
        tasks: set[asyncio.Task[None]] = set()

        async def open_everything() -> None:
            Lives.session = await stack.enter_async_context(sql(database_url))
            await Lives.session.execute(WATCH)
            Lives.stores = await stack.enter_async_context(open_stores(database_url, statement_timeout=LONG))
            Lives.processes = {each: [open_process(Lives.stores, each, tasks) for _ in range(3)] for each in REGIONS}

        async def close_everything() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await stack.aclose()

        Lives.loop = runner.get_loop()
        runner.run(open_everything())
        try:
            run_state_machine_as_test(
                Lives,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(close_everything())
