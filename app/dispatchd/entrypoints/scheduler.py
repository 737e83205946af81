"""The scheduler: due retries, lost leases, repair, retention. One leader a region; two at once are harmless."""

import asyncio
import logging
from datetime import timedelta

from dispatchd.adapters.postgres.recovery import PostgresRecoveryStore
from dispatchd.adapters.postgres.settlements import PostgresSettlementStore
from dispatchd.adapters.redis.leader_lock import RedisLeaderLock
from dispatchd.adapters.redis.signals import listen
from dispatchd.application.scheduler.due_queuer import DueQueuer
from dispatchd.application.scheduler.leadership import Leadership
from dispatchd.application.scheduler.lease_reaper import LeaseReaper
from dispatchd.application.scheduler.ready_age_meter import ReadyAgeMeter
from dispatchd.application.scheduler.ready_queue_repairer import ReadyQueueRepairer
from dispatchd.application.scheduler.retention import RetentionSweeper
from dispatchd.application.settler import Settler
from dispatchd.entrypoints.lifecycle import Backends, probes, run_role, running
from dispatchd.entrypoints.settings import Role, Settings

_log = logging.getLogger(__name__)


def main() -> int:
    """Runs the role; returns the exit code."""
    return run_role(Role.SCHEDULER, serve)


async def serve(settings: Settings, backends: Backends, stop: asyncio.Event) -> None:
    """Works until `stop`."""
    database, region, announcer = backends.database, backends.region, backends.announcer
    store = PostgresRecoveryStore(database)
    settler = Settler(PostgresSettlementStore(database), announcer, region, backends.ids)
    owner = f"{settings.instance_id}/{backends.ids.session_id().hex}"
    leadership = Leadership(RedisLeaderLock(backends.redis, settings.scheduler_leader_key, owner))
    due = DueQueuer(store, announcer, region, leadership, settings.scheduler_poll_interval)
    reaper = LeaseReaper(
        store,
        settler,
        region,
        leadership,
        lease=settings.lease_duration,
        longest_sleep=settings.scheduler_poll_interval,
        last_database_failure=lambda: database.last_failure_at,
    )
    repairer = ReadyQueueRepairer(store, backends.queue, region, leadership)
    meter = ReadyAgeMeter(store, region, leadership)
    retention = RetentionSweeper(
        store, region, leadership, keep=settings.retention, keep_dead_letters=settings.dead_letter_retention
    )

    def due_earlier(message: bytes) -> None:
        if message.isdigit():
            due.due_in(timedelta(milliseconds=int(message)))

    loops = {
        "region_watch": region.run,
        "announcer": announcer.run,
        "leadership": leadership.run,
        "due_queuer": due.run,
        "lease_reaper": reaper.run,
        "ready_queue_repairer": repairer.run,
        "ready_age_meter": meter.run,
        "retention": retention.run,
        "signals": lambda: listen(backends.redis, {backends.signals.due: due_earlier}, due.look_now),
    }
    async with running(loops), probes(settings, backends, lambda: not stop.is_set()):
        _log.info("working", extra={"metrics_port": settings.metrics_port})
        await stop.wait()
