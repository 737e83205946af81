"""JobService: handlers from bytes to bytes."""

from collections.abc import Mapping

from dispatchd.adapters.grpc.call import Call, Handler
from dispatchd.adapters.grpc.job_codec import (
    execution_message,
    job_message,
    results_bytes,
    submission_of,
    submit_result,
    trace_of,
)
from dispatchd.adapters.grpc.wire import duration_of, parse
from dispatchd.application.cancel_job import CancelJob
from dispatchd.application.read_jobs import ReadJobs
from dispatchd.application.submit_jobs import SubmitJobs
from dispatchd.application.wait_job import DEFAULT_WAIT, WaitJob
from dispatchd.domain import limits
from dispatchd.domain.errors import DispatchdError, InvalidRequest
from dispatchd.domain.ids import format_job_id, parse_job_id
from dispatchd.domain.job import JobStatus
from dispatchd.domain.submission import NO_TRACE, Submission, TraceContext, check_text
from dispatchd.v1 import dispatchd_pb2 as pb

NAME = "dispatchd.v1.JobService"


class JobService:
    """Parses, calls the use case, encodes."""

    def __init__(self, submit: SubmitJobs, read: ReadJobs, wait: WaitJob, cancel: CancelJob) -> None:
        self._submit = submit
        self._read = read
        self._wait = wait
        self._cancel = cancel

    def handlers(self) -> Mapping[str, Handler]:
        """By method name."""
        return {
            "SubmitJob": self.submit_job,
            "SubmitJobs": self.submit_jobs,
            "GetJob": self.get_job,
            "WaitJob": self.wait_job,
            "CancelJob": self.cancel_job,
            "ListExecutions": self.list_executions,
        }

    async def submit_job(self, call: Call, data: bytes) -> bytes:
        request = parse(pb.SubmitJobRequest, data)
        view = await self._submit.submit(submission_of(request), _trace_of_call(call))
        call.job_id = format_job_id(view.job_id)
        if view.status is JobStatus.SUCCEEDED:
            # A repeat of a job that is done is answered with its result too.
            return pb.SubmitJobResponse(job=job_message(await self._read.get(view.job_id))).SerializeToString()
        job = job_message(view)
        # Equal requests have equal inputs, so those of a repeat are those of the first job.
        job.payload = request.payload
        job.metadata.update(request.metadata)
        return pb.SubmitJobResponse(job=job).SerializeToString()

    async def submit_jobs(self, call: Call, data: bytes) -> bytes:
        request = parse(pb.SubmitJobsRequest, data)
        if not 1 <= len(request.items) <= limits.SUBMIT_ITEMS:
            raise InvalidRequest("items", f"must have 1 to {limits.SUBMIT_ITEMS} entries, has {len(request.items)}")
        call_trace = _trace_of_call(call)
        answers = await self._submit.submit_many([_item(item, call_trace) for item in request.items])
        return results_bytes(pb.SubmitJobsResponse(results=[submit_result(answer) for answer in answers]))

    async def get_job(self, call: Call, data: bytes) -> bytes:
        request = parse(pb.GetJobRequest, data)
        job_id = parse_job_id(request.job_id)
        call.job_id = request.job_id
        return pb.GetJobResponse(job=job_message(await self._read.get(job_id))).SerializeToString()

    async def wait_job(self, call: Call, data: bytes) -> bytes:
        request = parse(pb.WaitJobRequest, data)
        job_id = parse_job_id(request.job_id)
        call.job_id = request.job_id
        wait = duration_of("wait", request.wait) if request.HasField("wait") else DEFAULT_WAIT
        view = await self._wait.wait(job_id, wait, call.time_remaining)
        return pb.WaitJobResponse(job=job_message(view)).SerializeToString()

    async def cancel_job(self, call: Call, data: bytes) -> bytes:
        request = parse(pb.CancelJobRequest, data)
        job_id = parse_job_id(request.job_id)
        call.job_id = request.job_id
        return pb.CancelJobResponse(job=job_message(await self._cancel.cancel(job_id))).SerializeToString()

    async def list_executions(self, call: Call, data: bytes) -> bytes:
        request = parse(pb.ListExecutionsRequest, data)
        job_id = parse_job_id(request.job_id)
        call.job_id = request.job_id
        page = await self._read.executions(job_id, request.page_size, request.page_token)
        return pb.ListExecutionsResponse(
            executions=[execution_message(view) for view in page.items], next_page_token=page.next_token
        ).SerializeToString()


def _item(item: pb.SubmitJobsItem, call_trace: TraceContext) -> tuple[Submission, TraceContext] | DispatchdError:
    try:
        check_text("request_id", item.request_id, limits.REQUEST_ID_BYTES)
        trace = trace_of(item.traceparent, item.tracestate) if item.traceparent else call_trace
        return submission_of(item.request), trace
    except InvalidRequest as exc:
        return exc


def _trace_of_call(call: Call) -> TraceContext:
    """Trace context of the call's headers; a damaged one is dropped, never a reason to refuse a job."""
    traceparent = call.metadata.get("traceparent", "")
    if not traceparent:
        return NO_TRACE
    try:
        return trace_of(traceparent, call.metadata.get("tracestate", ""))
    except InvalidRequest:
        return NO_TRACE
