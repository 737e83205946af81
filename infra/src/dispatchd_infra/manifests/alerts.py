"""What somebody is told about: a fixed list of alerts, each over metrics that exist.

A metric is either declared in `app/dispatchd/telemetry/metrics.py`, or named in `OTHER_METRICS` with its source; the
tests refuse any other. Each region has a Prometheus of its own, so that an alert speaks of one region.
"""

from dataclasses import dataclass
from datetime import timedelta

from dispatchd_infra.manifests.custom import custom_resource
from dispatchd_infra.manifests.labels import APPLICATION
from dispatchd_infra.manifests.pods import ARCHIVE_TIMEOUT_S
from dispatchd_infra.manifests.roles import SERVING
from dispatchd_infra.manifests.waves import Wave
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common

OTHER_METRICS = {
    "up": "Prometheus itself: 1 for each target that it could read",
    "cnpg_pg_replication_lag": "cloudnative-pg/cloudnative-pg, config/manager/default-monitoring.yaml: pg_replication",
    "barman_cloud_cloudnative_pg_io_last_available_backup_timestamp": (
        "cloudnative-pg/plugin-barman-cloud, internal/cnpgi/instance/metrics.go: Unix time, 0 if there is no backup"
    ),
}
"""Metrics that dispatchd does not declare, with the public place that does."""

_OLDEST_READY_S = 300
_LOST_SESSIONS = 10
_REPLICATION_LAG_S = 3 * ARCHIVE_TIMEOUT_S
_BACKUP_AGE_S = 36 * 3600
"""Backups are made each night; half a day more lets one that is late come in."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition that has held for some time, and what it means for a person."""

    name: str
    expression: str
    holds: timedelta
    severity: str
    summary: str
    description: str
    part: str = APPLICATION
    """The part of dispatchd that it is about: a label of the alert."""


def objects(common: Common) -> list[Object]:
    """All alerts in one rule object."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": f"{int(alert.holds.total_seconds() // 60)}m",
            "labels": {"severity": alert.severity, "part": alert.part},
            "annotations": {"summary": alert.summary, "description": alert.description},
        }
        for alert in alerts(common.namespaces.dispatchd)
    ]
    spec = {"groups": [{"name": APPLICATION, "rules": rules}]}
    return [custom_resource("monitoring.coreos.com/v1", "PrometheusRule", APPLICATION, spec, wave=Wave.ROLES)]


def alerts(namespace: str) -> list[Alert]:
    """The list, for the installation in a namespace."""
    return [
        *(_role_down(namespace, role) for role in SERVING),
        _leader_absent(namespace),
        _oldest_ready_job(namespace),
        _lease_expiries(namespace),
        _dead_letters(namespace),
        _replication_lag(namespace),
        _epoch_mismatch(namespace),
        _backup_age(namespace),
    ]


def _role_down(namespace: str, role: str) -> Alert:
    return Alert(
        "DispatchdRoleDown",
        f'absent(up{{namespace="{namespace}",job="{role}"}} == 1)',
        timedelta(minutes=5),
        "critical",
        f"No pod of the {role} answers.",
        f"Prometheus has not reached a single pod of the {role} for five minutes.",
        part=role,
    )


def _leader_absent(namespace: str) -> Alert:
    return Alert(
        "DispatchdLeaderAbsent",
        f'(max(dispatchd_leader{{namespace="{namespace}"}}) or vector(0)) < 1',
        timedelta(minutes=2),
        "critical",
        "No scheduler leads.",
        "No scheduler holds the lock of the leader. If Redis is away they all work without it, which costs more; if no "
        "scheduler runs, nothing is retried and no lost lease is noticed.",
        part="scheduler",
    )


def _oldest_ready_job(namespace: str) -> Alert:
    return Alert(
        "DispatchdOldestReadyJob",
        f'max(dispatchd_oldest_ready_age_seconds{{namespace="{namespace}"}}) > {_OLDEST_READY_S}',
        timedelta(minutes=5),
        "warning",
        "A job has been ready for more than five minutes.",
        "Workers for some capability are missing, or there are too few of them.",
    )


def _lease_expiries(namespace: str) -> Alert:
    lost = f'sum(increase(dispatchd_sessions_lost_total{{namespace="{namespace}"}}[15m]))'
    return Alert(
        "DispatchdLeaseExpiries",
        f"{lost} > {_LOST_SESSIONS}",
        timedelta(minutes=5),
        "warning",
        "Many workers lose their leases.",
        f"More than {_LOST_SESSIONS} worker sessions ended in 15 minutes because their lease ran out: workers die, or "
        "the network between them and the worker-gateway fails.",
        part="worker-gateway",
    )


def _dead_letters(namespace: str) -> Alert:
    """A job whose state is `failed` is a dead letter."""
    failed = f'dispatchd_jobs_finished_total{{namespace="{namespace}",state="failed"}}'
    return Alert(
        "DispatchdDeadLetters",
        f"sum(increase({failed}[15m])) > 0",
        timedelta(0),
        "warning",
        "Jobs became dead letters.",
        "Their attempts or deliveries are used up, or a worker asked not to retry. `dispatchd deadletter list` names "
        "them.",
    )


def _replication_lag(namespace: str) -> Alert:
    return Alert(
        "DispatchdReplicationLag",
        f'max(cnpg_pg_replication_lag{{namespace="{namespace}"}}) > {_REPLICATION_LAG_S}',
        timedelta(minutes=5),
        "warning",
        "A replica is far behind its primary.",
        "The last transaction that a replica has replayed is older than three archive timeouts. In the passive region "
        "this is what a switch without its primary would lose. A primary to which nothing is written looks the same.",
        part="postgres",
    )


def _epoch_mismatch(namespace: str) -> Alert:
    row, environment = (
        f'dispatchd_region_epoch{{namespace="{namespace}",source="{source}"}}' for source in ("row", "environment")
    )
    return Alert(
        "DispatchdEpochMismatch",
        f"{row} != ignoring(source) {environment}",
        timedelta(minutes=20),
        "critical",
        "A process has another region epoch than the database.",
        "It changes nothing until both agree. During a region switch they differ for some archive timeouts.",
    )


def _backup_age(namespace: str) -> Alert:
    last = f'max(barman_cloud_cloudnative_pg_io_last_available_backup_timestamp{{namespace="{namespace}"}})'
    return Alert(
        "DispatchdBackupAge",
        f"time() - ({last} or vector(0)) > {_BACKUP_AGE_S}",
        timedelta(hours=1),
        "critical",
        "There is no recent backup of Postgres.",
        "The last base backup in this region's object store is older than 36 hours, or there is none.",
        part="postgres",
    )
