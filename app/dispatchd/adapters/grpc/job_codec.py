"""Jobs, executions, workers and queues between the contract and the domain."""

from datetime import timedelta
from itertools import islice

from dispatchd.adapters.grpc.status import item_error
from dispatchd.adapters.grpc.wire import datetime_of, duration_of, set_duration, set_timestamp
from dispatchd.domain import limits
from dispatchd.domain.errors import DispatchdError
from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.domain.ids import format_execution_id, format_job_id
from dispatchd.domain.job import JobStatus
from dispatchd.domain.retry import RetryPolicy, retry_policy
from dispatchd.domain.submission import Submission, TraceContext, check_text
from dispatchd.domain.views import ExecutionView, JobView, QueueView, WorkerView
from dispatchd.domain.worker import WorkerStatus, stored_text
from dispatchd.v1 import dispatchd_pb2 as pb

_ID_TEXT_CHARACTERS = 64
_CUT_ERROR_BYTES = 1024

JOB_STATUS = {
    JobStatus.PENDING: pb.JOB_STATUS_PENDING,
    JobStatus.DISPATCHING: pb.JOB_STATUS_DISPATCHING,
    JobStatus.RUNNING: pb.JOB_STATUS_RUNNING,
    JobStatus.SUCCEEDED: pb.JOB_STATUS_SUCCEEDED,
    JobStatus.FAILED: pb.JOB_STATUS_FAILED,
    JobStatus.CANCELED: pb.JOB_STATUS_CANCELED,
}
EXECUTION_STATUS = {
    ExecutionState.WAITING: pb.EXECUTION_STATUS_QUEUED,
    ExecutionState.QUEUED: pb.EXECUTION_STATUS_QUEUED,
    ExecutionState.CLAIMED: pb.EXECUTION_STATUS_CLAIMED,
    ExecutionState.RUNNING: pb.EXECUTION_STATUS_RUNNING,
    ExecutionState.SUCCEEDED: pb.EXECUTION_STATUS_SUCCEEDED,
    ExecutionState.FAILED: pb.EXECUTION_STATUS_FAILED,
    ExecutionState.DEAD_LETTERED: pb.EXECUTION_STATUS_DEAD_LETTERED,
}
END_REASON = {
    EndReason.SUCCEEDED: pb.EXECUTION_END_REASON_SUCCEEDED,
    EndReason.FAILED: pb.EXECUTION_END_REASON_FAILED,
    EndReason.LEASE_LOST: pb.EXECUTION_END_REASON_LEASE_LOST,
    EndReason.RETURNED: pb.EXECUTION_END_REASON_RETURNED,
    EndReason.CANCELED: pb.EXECUTION_END_REASON_CANCELED,
    EndReason.TIMED_OUT: pb.EXECUTION_END_REASON_TIMED_OUT,
}
WORKER_STATUS = {
    WorkerStatus.READY: pb.WORKER_STATUS_READY,
    WorkerStatus.BUSY: pb.WORKER_STATUS_BUSY,
    WorkerStatus.DRAINING: pb.WORKER_STATUS_DRAINING,
    WorkerStatus.OFFLINE: pb.WORKER_STATUS_OFFLINE,
}


def submission_of(request: pb.SubmitJobRequest) -> Submission:
    """A request with its defaults filled in; the domain checks the rest. Raises InvalidRequest."""
    return Submission(
        job_type=request.job_type,
        payload=request.payload,
        priority=request.priority,
        idempotency_key=request.idempotency_key,
        # One too many is enough to be refused; a million of them would take the loop's time.
        metadata=dict(islice(request.metadata.items(), limits.METADATA_ENTRIES + 1)) if request.metadata else {},
        policy=_policy_of(request.retry_policy) if request.HasField("retry_policy") else RetryPolicy(),
        run_at=datetime_of("run_at", request.run_at) if request.HasField("run_at") else None,
        timeout=duration_of("timeout", request.timeout) if request.HasField("timeout") else None,
    )


def _policy_of(policy: pb.RetryPolicy) -> RetryPolicy:
    initial = maximum = None
    if policy.HasField("initial_backoff"):
        initial = duration_of("retry_policy.initial_backoff", policy.initial_backoff)
    if policy.HasField("max_backoff"):
        maximum = duration_of("retry_policy.max_backoff", policy.max_backoff)
    return retry_policy(policy.max_attempts, initial, maximum)


def trace_of(traceparent: str, tracestate: str) -> TraceContext:
    """Trace context as sent. Raises InvalidRequest."""
    check_text("traceparent", traceparent, limits.TRACE_FIELD_BYTES)
    check_text("tracestate", tracestate, limits.TRACE_FIELD_BYTES)
    return TraceContext(traceparent, tracestate)


def job_message(view: JobView) -> pb.Job:
    """A job on the wire."""
    job = pb.Job(
        job_id=format_job_id(view.job_id),
        job_type=view.job_type,
        payload=view.payload,
        status=JOB_STATUS[view.status],
        priority=view.priority,
        idempotency_key=view.idempotency_key,
        metadata=view.metadata,
        result=view.result,
        last_error=view.last_error,
        attempts=view.attempts,
    )
    policy = job.retry_policy
    policy.max_attempts = view.policy.max_attempts
    set_duration(policy.initial_backoff, view.policy.initial_backoff)
    set_duration(policy.max_backoff, view.policy.max_backoff)
    set_timestamp(job.created_at, view.created_at)
    set_timestamp(job.updated_at, view.updated_at)
    if view.run_at is not None:
        set_timestamp(job.run_at, view.run_at)
    if view.timeout is not None:
        set_duration(job.timeout, view.timeout)
    return job


def submit_result(answer: JobView | DispatchdError) -> pb.SubmitJobsResult:
    """What became of one item."""
    if isinstance(answer, DispatchdError):
        return pb.SubmitJobsResult(error=item_error(answer))
    return pb.SubmitJobsResult(job=job_message(answer))


def redrive_result(job_id: str, answer: JobView | DispatchdError) -> pb.RedriveResult:
    """What became of one id. Of a text that is no id only the beginning comes back."""
    if isinstance(answer, DispatchdError):
        return pb.RedriveResult(job_id=job_id[:_ID_TEXT_CHARACTERS], error=item_error(answer))
    return pb.RedriveResult(job_id=job_id, job=job_message(answer))


def results_bytes(answer: "pb.SubmitJobsResponse | pb.RedriveDeadLettersResponse") -> bytes:
    """A list that has a result for each item it was asked for. Where it would be larger than an answer may be, the
    errors of the jobs in it are cut; GetJob has the whole of each."""
    data = answer.SerializeToString()
    if len(data) <= limits.ANSWER_BYTES:
        return data
    for result in answer.results:
        if result.HasField("job"):
            result.job.last_error = stored_text(result.job.last_error, _CUT_ERROR_BYTES)
    return answer.SerializeToString()


def execution_message(view: ExecutionView) -> pb.Execution:
    """An execution on the wire."""
    execution = pb.Execution(
        execution_id=format_execution_id(view.execution_id),
        job_id=format_job_id(view.job_id),
        attempt=view.attempt,
        status=EXECUTION_STATUS[view.state],
        worker_id=view.worker_id,
        error_message=view.error_message,
        error_type=view.error_type,
        metadata=view.metadata,
    )
    if view.end_reason is not None:
        execution.end_reason = END_REASON[view.end_reason]
    for target, value in (
        ("claimed_at", view.claimed_at),
        ("started_at", view.started_at),
        ("finished_at", view.finished_at),
    ):
        if value is not None:
            set_timestamp(getattr(execution, target), value)
    return execution


def worker_message(view: WorkerView) -> pb.Worker:
    """A worker of the registry on the wire."""
    worker = pb.Worker(
        worker_id=view.worker_id,
        status=WORKER_STATUS[view.status],
        capabilities=view.capabilities,
        max_concurrency=view.slots,
        held=view.held,
        labels=view.labels,
        gateway=view.gateway,
    )
    set_timestamp(worker.last_seen_at, view.last_seen_at)
    return worker


def queue_message(view: QueueView) -> pb.Queue:
    """A ready queue on the wire."""
    queue = pb.Queue(capability=view.capability, depth=view.depth, delayed=view.delayed)
    set_duration(queue.oldest_age, max(view.oldest_age, timedelta(0)))
    return queue
