"""The use cases of one process, on the database that all processes share."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from dispatchd.adapters.postgres.recovery import PostgresRegionStore
from dispatchd.adapters.postgres.region_switch import PostgresRegionSwitchStore
from dispatchd.application.cancel_job import CancelJob
from dispatchd.application.gateway.reports import ReportCollector
from dispatchd.application.operate import Operate
from dispatchd.application.region_switch import RegionSwitch
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.settler import Settler
from dispatchd.application.submit_jobs import SubmitJobs
from dispatchd.domain.region import RegionFence, RegionMode, RegionRow
from stores import Stores, ids

EXTRA_DELIVERIES = 1
"""Beyond its attempts, in place of 20: so that the bound is reached."""

LONG = timedelta(seconds=60)
_MUCH = 10_000
_MANY_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Process:
    """What a control-plane, a gateway and a scheduler of one region do, with what they know of the region row."""

    region: str
    watch: RegionWatch
    settler: Settler
    submit: SubmitJobs
    cancel: CancelJob
    operate: Operate
    reports: ReportCollector

    @property
    def fence(self) -> RegionFence:
        return self.watch.fence

    def has_not_heard(self, row: RegionRow) -> None:
        """It still knows an earlier row, of which this one differs: the last in which it might change everything."""
        epoch = row.epoch - 1 if self.fence.epoch is None else self.fence.epoch
        self.watch._row = replace(row, primary_region=self.region, epoch=epoch, mode=RegionMode.ACTIVE)

    def deploy(self, epoch: int | None) -> None:
        """Starts it anew with another REGION_EPOCH."""
        self.watch.fence = RegionFence(self.region, epoch)


def open_process(stores: Stores, region: str, tasks: "set[asyncio.Task[None]]") -> Process:
    """Its loops go on until the tasks are cancelled."""
    watch = RegionWatch(PostgresRegionStore(stores.database), RegionFence(region))
    settler = Settler(stores.settlements, stores.announcer, watch, ids, chance=lambda: 0.5)
    submit = SubmitJobs(stores.jobs, stores.announcer, watch, ids, queue_items=_MUCH, queue_bytes=_MANY_BYTES)
    reports = ReportCollector(stores.settlements, settler, watch, queue_items=_MUCH, queue_bytes=_MANY_BYTES)
    for commits in (submit.commits.run(), reports.commits.run()):
        tasks.add(asyncio.ensure_future(commits))
    return Process(
        region,
        watch,
        settler,
        submit,
        CancelJob(stores.jobs, stores.announcer, watch),
        Operate(stores.jobs, stores.announcer, watch, ids),
        reports,
    )


def region_switch(stores: Stores) -> RegionSwitch:
    """What the commands of an operator use."""
    return RegionSwitch(PostgresRegionSwitchStore(stores.database))


@contextmanager
def without_hurry() -> Iterator[None]:
    """However slow the machine is: nothing runs into a timeout, and a lock is waited for until it is free. Takeovers
    are not counted by the minute, and deliveries are few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dispatchd.adapters.postgres.database.LOCK_TIMEOUT", LONG)
        patch.setattr("dispatchd.adapters.postgres.database.CONNECT_TIMEOUT", LONG)
        patch.setattr("dispatchd.application.group_commit.ANSWER_WAIT", LONG)
        patch.setattr("dispatchd.adapters.postgres.sessions.MOST_TAKEOVERS_A_MINUTE", 1_000)
        patch.setattr("dispatchd.domain.retry.EXTRA_DELIVERIES", EXTRA_DELIVERIES)
        yield
