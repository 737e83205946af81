"""What passes over a worker's stream, between the contract and the gateway."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TypeVar

from dispatchd.adapters.grpc.wire import datetime_of, duration_of, parse, set_duration, set_timestamp
from dispatchd.application.gateway.messages import (
    Ack,
    Assignment,
    CancelSignal,
    Drain,
    Heartbeat,
    Inbound,
    LogChunk,
    Outbound,
    Outcome,
    Report,
    Reports,
    Started,
)
from dispatchd.domain import limits
from dispatchd.domain.errors import InvalidRequest
from dispatchd.domain.ids import ExecutionId, format_execution_id, format_job_id, parse_execution_id
from dispatchd.domain.settlement import Ending, Failed, Returned, Succeeded
from dispatchd.domain.worker import (
    Registration,
    WorkerStatus,
    first_parts,
    slots_of,
    stored_labels,
    stored_text,
)
from dispatchd.v1 import dispatchd_pb2 as pb

_STATUS = {
    pb.WORKER_STATUS_BUSY: WorkerStatus.BUSY,
    pb.WORKER_STATUS_DRAINING: WorkerStatus.DRAINING,
    pb.WORKER_STATUS_OFFLINE: WorkerStatus.OFFLINE,
}
_OUTCOME = {
    Outcome.ACCEPTED: pb.ACK_OUTCOME_ACCEPTED,
    Outcome.STALE: pb.ACK_OUTCOME_STALE,
    Outcome.UNKNOWN: pb.ACK_OUTCOME_UNKNOWN,
}
_RESULT_OVERHEAD_BYTES = 512
_LIST_BYTES = limits.ANSWER_BYTES
_ID_TEXT_CHARACTERS = 64

_Listed = TypeVar("_Listed", pb.WorkerAck, pb.TaskAssignment)


def inbound(data: bytes) -> Inbound | None:
    """Reads a worker's message; None for one of a kind this release does not know. Raises InvalidRequest."""
    message = parse(pb.ConnectRequest, data)
    match message.WhichOneof("payload"):
        case "heartbeat":
            heartbeat = message.heartbeat
            return Heartbeat(heartbeat.worker_id, _STATUS.get(heartbeat.status, WorkerStatus.READY))
        case "result":
            return Reports((_report(message.result),))
        case "results":
            _check_count("results", len(message.results.results))
            return Reports(tuple(_report(result) for result in message.results.results))
        case "started":
            _check_count("started", len(message.started.execution_ids))
            ids = [parse_execution_id(text) for text in message.started.execution_ids]
            return Started(tuple(execution_id for execution_id in ids if execution_id is not None))
        case "give_back":
            _check_count("give_back", len(message.give_back.execution_ids))
            return Reports(tuple(_give_back(text) for text in message.give_back.execution_ids))
        case "log_chunk":
            chunk = message.log_chunk
            emitted_at = datetime_of("emitted_at", chunk.emitted_at) if chunk.HasField("emitted_at") else None
            return LogChunk(
                chunk.execution_id[:_ID_TEXT_CHARACTERS], stored_text(chunk.message, limits.LOG_CHUNK_BYTES), emitted_at
            )
        case "registration":
            return _registration(message.registration)
        case _:
            return None


def _registration(message: pb.WorkerRegistration) -> Registration:
    _check_count("held_execution_ids", len(message.held_execution_ids), limits.HELD_EXECUTIONS)
    held = [parse_execution_id(text) for text in message.held_execution_ids]
    features = set(message.features)
    return Registration(
        worker_id=message.worker_id,
        capabilities=first_parts(message.capabilities),
        slots=slots_of(message.max_concurrency),
        labels=dict(message.labels),
        batching=pb.WORKER_FEATURE_BATCHING in features,
        sends_started=pb.WORKER_FEATURE_STARTED in features,
        resumes=pb.WORKER_FEATURE_RESUME in features,
        process_id=message.process_id,
        held=tuple(execution_id for execution_id in held if execution_id is not None),
    )


def _report(result: pb.TaskResult) -> Report:
    return Report(
        result.execution_id[:_ID_TEXT_CHARACTERS],
        parse_execution_id(result.execution_id),
        _ending(result),
        len(result.payload) + len(result.error_message) + _RESULT_OVERHEAD_BYTES,
    )


def _ending(result: pb.TaskResult) -> Ending:
    metadata = stored_labels(result.metadata) if result.metadata else {}
    if result.success and len(result.payload) <= limits.RESULT_BYTES:
        return Succeeded(result.payload, metadata)
    if result.success:
        return Failed(
            f"the result is {len(result.payload)} bytes, the most is {limits.RESULT_BYTES}: store it and return a link",
            "ResultTooLarge",
            do_not_retry=True,
            metadata=metadata,
        )
    retry_after = None
    if result.HasField("retry_after"):
        retry_after = duration_of("retry_after", result.retry_after)
        retry_after = min(max(retry_after, timedelta(0)), limits.LONGEST_RETRY_AFTER)
    return Failed(
        stored_text(result.error_message) or "the worker reported a failure without a message",
        stored_text(result.error_type, limits.ERROR_TYPE_BYTES),
        result.do_not_retry,
        retry_after,
        metadata,
    )


def _give_back(text: str) -> Report:
    return Report(
        text[:_ID_TEXT_CHARACTERS],
        parse_execution_id(text),
        Returned(was_sent=True, error_message="given back by the worker"),
        _RESULT_OVERHEAD_BYTES,
    )


def _check_count(field: str, count: int, most: int = limits.MESSAGE_ITEMS) -> None:
    if count > most:
        raise InvalidRequest(field, f"has {count} entries, the most is {most}")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A message as bytes, and the executions it assigns."""

    data: bytes
    assigned: tuple[ExecutionId, ...] = ()


class StreamEncoder:
    """Encodes for one worker: lists for a worker that understands them, else a message each."""

    def __init__(self, worker_id: str, *, batching: bool) -> None:
        self._worker_id = worker_id
        self._batching = batching

    def encode(self, messages: Sequence[Outbound]) -> Iterator[Encoded]:
        """One or more messages, each below the size of an answer, encoded when its turn comes."""
        if not self._batching:
            for message in messages:
                assigned: tuple[ExecutionId, ...] = ()
                if isinstance(message, Assignment):
                    assigned = (message.execution.execution_id,)
                yield Encoded(self._single(message).SerializeToString(), assigned)
            return
        acks = [self._ack(message) for message in messages if isinstance(message, Ack)]
        for ack_list in _chunks(acks):
            yield Encoded(pb.ConnectResponse(acks=pb.WorkerAcks(acks=ack_list)).SerializeToString())
        assignments = [_assignment(message) for message in messages if isinstance(message, Assignment)]
        ids = iter([message.execution.execution_id for message in messages if isinstance(message, Assignment)])
        for assignment_list in _chunks(assignments):
            listed = pb.TaskAssignments(assignments=assignment_list)
            yield Encoded(
                pb.ConnectResponse(assignments=listed).SerializeToString(), tuple(islice(ids, len(assignment_list)))
            )
        for message in messages:
            if isinstance(message, Drain | CancelSignal):
                yield Encoded(self._single(message).SerializeToString())

    def _single(self, message: Outbound) -> pb.ConnectResponse:
        match message:
            case Ack():
                return pb.ConnectResponse(ack=self._ack(message))
            case Assignment():
                return pb.ConnectResponse(assignment=_assignment(message))
            case Drain():
                signal = pb.DrainSignal(reason=message.reason, kind=pb.DRAIN_KIND_RECONNECT)
                return pb.ConnectResponse(drain_signal=signal)
            case CancelSignal():
                texts = [format_execution_id(execution_id) for execution_id in message.execution_ids]
                return pb.ConnectResponse(cancel=pb.CancelSignal(execution_ids=texts, reason=message.reason))

    def _ack(self, ack: Ack) -> pb.WorkerAck:
        answer = pb.WorkerAck(execution_id=ack.execution_text, worker_id=self._worker_id, message=ack.message)
        if ack.outcome is not None:
            answer.outcome = _OUTCOME[ack.outcome]
        if ack.lease_remaining is not None:
            set_duration(answer.lease_remaining, ack.lease_remaining)
        if ack.lost:
            answer.lost_execution_ids.extend(format_execution_id(execution_id) for execution_id in ack.lost)
        return answer


def _assignment(message: Assignment) -> pb.TaskAssignment:
    execution = message.execution
    assignment = pb.TaskAssignment(
        execution_id=format_execution_id(execution.execution_id),
        job_type=execution.job_type,
        payload=execution.payload or b"",
        attempt=execution.attempt,
        job_id=format_job_id(execution.job_id),
        metadata=execution.metadata,
        traceparent=execution.trace.traceparent,
        tracestate=execution.trace.tracestate,
    )
    waited = timedelta(seconds=time.monotonic() - message.assigned_at)
    time_left = execution.deadline_at - execution.claimed_at - waited
    set_timestamp(assignment.lease_expires_at, execution.claimed_at + message.lease_remaining)
    set_timestamp(assignment.deadline, execution.deadline_at)
    set_duration(assignment.time_left, max(time_left, timedelta(0)))
    return assignment


def _chunks(messages: Sequence[_Listed]) -> Iterator[list[_Listed]]:
    chunk: list[_Listed] = []
    room = _LIST_BYTES
    for message in messages:
        size = message.ByteSize() + 8
        if chunk and (size > room or len(chunk) >= limits.MESSAGE_ITEMS):
            yield chunk
            chunk, room = [], _LIST_BYTES
        chunk.append(message)
        room -= size
    if chunk:
        yield chunk
