"""The job store: submit, cancel, redrive and the reads of clients and operators."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from dispatchd.adapters.postgres.database import Connection, Database, Record
from dispatchd.adapters.postgres.queries import READ, SETTLE, SUBMIT
from dispatchd.adapters.postgres.rows import (
    execution_view,
    fence_values,
    job_view,
    labels_of,
    labels_text,
    microseconds,
    optional_microseconds,
)
from dispatchd.adapters.postgres.settlements import apply, lock_executions
from dispatchd.application.ports import (
    CanceledExecution,
    Decision,
    NotPermitted,
    ReadyEntry,
    RedriveOutcome,
    StoredJob,
)
from dispatchd.domain.errors import JobNotFound
from dispatchd.domain.execution import ExecutionState
from dispatchd.domain.ids import ExecutionId, JobId, format_job_id
from dispatchd.domain.job import JobState, JobStatus
from dispatchd.domain.region import RegionFence
from dispatchd.domain.settlement import Canceled, settle
from dispatchd.domain.submission import NewJob
from dispatchd.domain.views import ExecutionView, JobView, QueueView, WorkerView
from dispatchd.domain.worker import WorkerStatus


class PostgresJobStore:
    """Fulfils `JobStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, jobs: Sequence[NewJob], fence: RegionFence) -> list[StoredJob | None]:
        async with self._database.connection() as connection:
            rows = await connection.rows(SUBMIT["insert_jobs"], **_columns(jobs), **fence_values(fence))
            if not rows[0]["permitted"]:
                raise NotPermitted
            created_at = rows[0]["created_at"]
            inserted = {row["job_id"] for row in rows}
            standing = [job for job in jobs if job.job_id not in inserted]
            winners = await _winners(connection, standing) if standing else {}
        return [_new_job(job, created_at) if job.job_id in inserted else _standing_job(job, winners) for job in jobs]

    async def cancel(self, job_id: JobId, fence: RegionFence) -> CanceledExecution | None:
        async with self._database.transaction() as connection:
            job = await connection.row(SETTLE["lock_job"], job_id=job_id)
            if job is None:
                raise JobNotFound(format_job_id(job_id))
            if job["state"] != JobState.ACTIVE:
                return None
            # The statement after the lock: its snapshot is younger, so a retry inserted meanwhile is seen.
            open_row = await connection.row(SETTLE["open_executions_of_job"], job_id=job_id)
            if open_row is None:
                raise RuntimeError(f"{format_job_id(job_id)} is active without an open execution")
            [(execution, due_at, capability, priority)] = await lock_executions(connection, [open_row["execution_id"]])
            settlement = settle(execution.count, execution.policy, Canceled(), 0.0)
            await apply(connection, [Decision(execution, settlement, None)], fence)
        return CanceledExecution(
            execution.execution_id,
            execution.session_id,
            ReadyEntry(execution.execution_id, capability, priority, due_at),
            was_ready=execution.state is ExecutionState.QUEUED,
        )

    async def redrive(
        self, jobs: Sequence[tuple[JobId, ExecutionId]], fence: RegionFence
    ) -> dict[JobId, RedriveOutcome]:
        job_ids = [job_id for job_id, _ in jobs]
        new_ids = dict(jobs)
        async with self._database.transaction() as connection:
            states = {
                JobId(row["job_id"]): JobState(row["state"])
                for row in await connection.rows(SETTLE["lock_jobs"], job_ids=job_ids)
            }
            failed = [job_id for job_id, state in states.items() if state is JobState.FAILED]
            newest = await connection.rows(SETTLE["newest_executions_of_jobs"], job_ids=failed)
            reopened = await connection.rows(
                SETTLE["reopen_jobs"],
                job_ids=[row["job_id"] for row in newest],
                execution_ids=[new_ids[row["job_id"]] for row in newest],
                attempts=[row["attempt"] for row in newest],
                deliveries=[row["delivery"] for row in newest],
                **fence_values(fence),
            )
            if failed and not reopened[0]["permitted"]:
                raise NotPermitted
        entries = {
            JobId(row["job_id"]): ReadyEntry(
                ExecutionId(row["execution_id"]), row["capability"], row["priority"], row["due_at"]
            )
            for row in reopened
            if row["job_id"] is not None
        }
        return {job_id: RedriveOutcome(entries.get(job_id), states.get(job_id)) for job_id in job_ids}

    async def get(self, job_id: JobId) -> JobView:
        async with self._database.connection() as connection:
            row = await connection.row(READ["job"], job_id=job_id)
        if row is None:
            raise JobNotFound(format_job_id(job_id))
        return job_view(row, with_inputs=True)

    async def summaries(self, job_ids: Sequence[JobId]) -> dict[JobId, JobView]:
        async with self._database.connection() as connection:
            rows = await connection.rows(READ["jobs_by_id"], job_ids=job_ids)
        return {JobId(row["job_id"]): job_view(row) for row in rows}

    async def finished_among(self, job_ids: Sequence[JobId]) -> set[JobId]:
        async with self._database.connection() as connection:
            rows = await connection.rows(READ["finished_among"], job_ids=job_ids)
        return {JobId(row["job_id"]) for row in rows}

    async def executions(self, job_id: JobId, after_delivery: int, most: int) -> list[ExecutionView]:
        async with self._database.connection() as connection:
            rows = await connection.rows(
                READ["executions_page"], job_id=job_id, after_delivery=after_delivery, most=most
            )
            if not rows:
                exists = await connection.row(READ["job_exists"], job_id=job_id)
                if exists is None or not exists["yes"]:
                    raise JobNotFound(format_job_id(job_id))
        return [execution_view(row) for row in rows]

    async def dead_letters(
        self, before: tuple[datetime, JobId] | None, job_type: str | None, most: int
    ) -> list[tuple[datetime, JobView]]:
        before_time, before_id = before if before is not None else (None, None)
        async with self._database.connection() as connection:
            rows = await connection.rows(
                READ["dead_letters_page"], before=before_time, before_id=before_id, job_type=job_type, most=most
            )
        return [(row["finished_at"], job_view(row)) for row in rows]

    async def workers(self, after: str, most: int) -> list[WorkerView]:
        async with self._database.connection() as connection:
            rows = await connection.rows(READ["workers_page"], after=after, most=most)
        return [
            WorkerView(
                row["worker_id"],
                WorkerStatus(row["status"]),
                tuple(row["capabilities"]),
                row["slots"],
                row["held"],
                labels_of(row["labels"]),
                row["gateway"],
                row["last_seen_at"],
            )
            for row in rows
        ]

    async def queues(self, most: int) -> list[QueueView]:
        async with self._database.connection() as connection:
            rows = await connection.rows(READ["queues"], most=most)
        return [
            QueueView(row["capability"], row["depth"], timedelta(seconds=row["oldest_age_s"]), row["delayed"])
            for row in rows
        ]


async def _winners(connection: Connection, jobs: Sequence[NewJob]) -> dict[object, Record]:
    """The jobs that stood in the way, by key digest and by id."""
    rows = await connection.rows(
        SUBMIT["jobs_by_key_or_id"],
        key_digests=[job.key_digest for job in jobs if job.key_digest is not None],
        job_ids=[job.job_id for job in jobs],
    )
    winners: dict[object, Record] = {}
    for row in rows:
        winners[row["key_digest"]] = row
        winners[row["job_id"]] = row
    return winners


def _standing_job(job: NewJob, winners: dict[object, Record]) -> StoredJob | None:
    row = winners.get(job.job_id) or (None if job.key_digest is None else winners.get(job.key_digest))
    if row is None:
        return None
    ready = None
    if row["ready_execution_id"] is not None:
        ready = ReadyEntry(ExecutionId(row["ready_execution_id"]), row["capability"], row["priority"], row["due_at"])
    return StoredJob(job_view(row), row["request_digest"], ready)


def _new_job(job: NewJob, created_at: datetime) -> StoredJob:
    submission = job.submission
    view = JobView(
        job_id=job.job_id,
        job_type=submission.job_type,
        status=JobStatus.PENDING,
        priority=submission.priority,
        idempotency_key=submission.idempotency_key,
        policy=submission.policy,
        run_at=submission.run_at,
        timeout=submission.timeout,
        attempts=0,
        last_error="",
        created_at=created_at,
        updated_at=created_at,
    )
    if submission.run_at is not None and submission.run_at > created_at:
        return StoredJob(view, job.request_digest, None)
    ready = ReadyEntry(job.execution_id, submission.capability, submission.priority, created_at)
    return StoredJob(view, job.request_digest, ready)


def _columns(jobs: Sequence[NewJob]) -> dict[str, object]:
    submissions = [job.submission for job in jobs]
    return {
        "job_ids": [job.job_id for job in jobs],
        "execution_ids": [job.execution_id for job in jobs],
        "key_digests": [job.key_digest for job in jobs],
        "request_digests": [job.request_digest for job in jobs],
        "traceparents": [job.trace.traceparent or None for job in jobs],
        "tracestates": [job.trace.tracestate or None for job in jobs],
        "job_types": [s.job_type for s in submissions],
        "capabilities": [s.capability for s in submissions],
        "priorities": [s.priority for s in submissions],
        "idempotency_keys": [s.idempotency_key or None for s in submissions],
        "max_attempts": [s.policy.max_attempts for s in submissions],
        "initial_backoffs_us": [microseconds(s.policy.initial_backoff) for s in submissions],
        "max_backoffs_us": [microseconds(s.policy.max_backoff) for s in submissions],
        "run_ats": [s.run_at for s in submissions],
        "timeouts_us": [optional_microseconds(s.timeout) for s in submissions],
        "payloads": [s.payload for s in submissions],
        "metadata": [labels_text(s.metadata) for s in submissions],
    }
