"""One round: an installation under load, faults step by step, the end of all jobs, and what the ledgers say of it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from faults.checker import check
from faults.coverage import coverage
from faults.database_facts import DatabaseFacts, read_facts
from faults.events import Closed, SubmitFailed, Submitted
from faults.fault import Fault
from faults.history import History
from faults.ledger import read_ledgers
from faults.recovery import Measurement, measure
from faults.schedule import Round, Step
from faults.site import LEASE_S, FaultSite, running_site

WARM_UP_S = 5.0
WORKS_AGAIN_WITHIN_S = 30.0
STEP_WITHIN_S = 120.0
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RoundReport:
    """What came of a round. It is clean without violations, remarks, and targets that were missed."""

    seed: int
    steps: int
    violations: Sequence[str]
    remarks: Sequence[str]
    coverage: Mapping[str, int]
    counts: Mapping[str, int]
    measurements: Sequence[Measurement]

    @property
    def missed(self) -> Sequence[Measurement]:
        """Targets of recovery that were not met."""
        return [measurement for measurement in self.measurements if not measurement.is_met]

    @property
    def is_clean(self) -> bool:
        return not self.violations and not self.remarks and not self.missed

    @property
    def is_clean_for_a_busy_machine(self) -> bool:
        """As `is_clean`, but timing alone decides nothing."""
        is_near = all(measurement.is_nearly_met for measurement in self.measurements)
        return not self.violations and not self.remarks and is_near


async def run_round(folder: Path, chosen: Round, faults: Mapping[str, Fault], tell: Tell) -> RoundReport:
    """Runs the round with its ledgers in a new folder."""
    async with running_site(folder) as site:
        site.start_load(chosen.seed)
        await asyncio.sleep(WARM_UP_S)
        for number, step in enumerate(chosen.steps, start=1):
            took_s, works_s = await make_step(site, step, faults)
            tell(f"  {number}/{len(chosen.steps)} {step}: {took_s:.1f} s, the next job took {works_s:.2f} s")
            await asyncio.sleep(step.pause_s)
        return await finish(site, chosen)


async def make_step(site: FaultSite, step: Step, faults: Mapping[str, Fault]) -> tuple[float, float]:
    """Makes all faults of a step; returns its length, and how long a job takes then, both in seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def make(name: str, offset_s: float) -> None:
        await asyncio.sleep(offset_s)
        await faults[name].on(site)

    async with asyncio.timeout(STEP_WITHIN_S), asyncio.TaskGroup() as group:
        for name, offset_s in step.faults:
            group.create_task(make(name, offset_s), name=name)
    took_s = loop.time() - began
    try:
        return took_s, await site.works_again(WORKS_AGAIN_WITHIN_S)
    except TimeoutError:
        site.remarks.append(f"{WORKS_AGAIN_WITHIN_S:g} s after {step} no job could be submitted and done")
        return took_s, WORKS_AGAIN_WITHIN_S


async def finish(site: FaultSite, chosen: Round) -> RoundReport:
    """Lets the load come to its end and compares the ledgers with the database."""
    await site.end_load()
    database = await read_facts(site.database_url)
    history = History(read_ledgers(site.folder))
    return RoundReport(
        chosen.seed,
        len(chosen.steps),
        [str(violation) for violation in check(history.ledgers, database)],
        tuple(site.remarks),
        coverage(history, database),
        _counts(history, database),
        measure(history, database, LEASE_S),
    )


def _counts(history: History, database: DatabaseFacts) -> Mapping[str, int]:
    return {
        "faults": len(history.faults),
        "jobs": len(database.jobs),
        "executions": len(database.executions),
        "submits_tried": len(history.told(Submitted)),
        "submits_failed": len(history.told(SubmitFailed)),
        "submits_skipped": sum(told.event.skipped for told in history.told(Closed)),
        "executions_delivered": len(history.deliveries),
    }
