"""OperatorService: handlers from bytes to bytes."""

from collections.abc import Mapping

from dispatchd.adapters.grpc.call import Call, Handler
from dispatchd.adapters.grpc.job_codec import job_message, queue_message, redrive_result, results_bytes, worker_message
from dispatchd.adapters.grpc.wire import parse
from dispatchd.application.operate import Operate
from dispatchd.domain.submission import check_name
from dispatchd.v1 import dispatchd_pb2 as pb

NAME = "dispatchd.v1.OperatorService"


class OperatorService:
    """Parses, calls the use case, encodes."""

    def __init__(self, operate: Operate) -> None:
        self._operate = operate

    def handlers(self) -> Mapping[str, Handler]:
        """By method name."""
        return {
            "ListDeadLetters": self.list_dead_letters,
            "RedriveDeadLetters": self.redrive_dead_letters,
            "ListWorkers": self.list_workers,
            "ListQueues": self.list_queues,
        }

    async def list_dead_letters(self, _: Call, data: bytes) -> bytes:
        request = parse(pb.ListDeadLettersRequest, data)
        if request.job_type:
            check_name("job_type", request.job_type)
        page = await self._operate.dead_letters(request.job_type, request.page_size, request.page_token)
        return pb.ListDeadLettersResponse(
            jobs=[job_message(view) for view in page.items], next_page_token=page.next_token
        ).SerializeToString()

    async def redrive_dead_letters(self, _: Call, data: bytes) -> bytes:
        request = parse(pb.RedriveDeadLettersRequest, data)
        answers = await self._operate.redrive(request.job_ids)
        results = [redrive_result(job_id, answer) for job_id, answer in zip(request.job_ids, answers, strict=True)]
        return results_bytes(pb.RedriveDeadLettersResponse(results=results))

    async def list_workers(self, _: Call, data: bytes) -> bytes:
        request = parse(pb.ListWorkersRequest, data)
        page = await self._operate.workers(request.page_size, request.page_token)
        return pb.ListWorkersResponse(
            workers=[worker_message(view) for view in page.items], next_page_token=page.next_token
        ).SerializeToString()

    async def list_queues(self, _: Call, data: bytes) -> bytes:
        parse(pb.ListQueuesRequest, data)
        queues = await self._operate.queues()
        return pb.ListQueuesResponse(queues=[queue_message(view) for view in queues]).SerializeToString()
