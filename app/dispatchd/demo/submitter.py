"""Submits a job for each file, and writes down what was acknowledged."""

import asyncio
from collections.abc import Sequence

from dispatchd import AsyncClient, DispatchdError, Submission, SubmitOptions
from dispatchd.demo.ledger import LedgerWriter
from dispatchd.demo.records import ListedFile
from dispatchd.demo.tasks import check_file

# Small enough that the ledger grows while the work is under way.
AT_ONCE = 500
FIRST_BACKOFF_S = 0.2


class Submitter:
    """Every acknowledged job id is in the ledger, on the disk, before the submitter goes on."""

    def __init__(self, client: AsyncClient, ledger: LedgerWriter) -> None:
        self._client = client
        self._ledger = ledger
        self._acknowledged: list[str] = []
        self._writing = asyncio.Lock()

    async def submit_at_once(self, files: Sequence[ListedFile]) -> frozenset[str]:
        """Submits as fast as it goes, many in a call; returns the ids. Raises DispatchdError if one is refused."""
        job_ids: list[str] = []
        for begin in range(0, len(files), AT_ONCE):
            answers = await self._client.submit_many(_submission(file) for file in files[begin : begin + AT_ONCE])
            refused = [answer for answer in answers if isinstance(answer, DispatchdError)]
            accepted = [answer.job_id for answer in answers if not isinstance(answer, DispatchdError)]
            await self._note(accepted)
            job_ids += accepted
            if refused:
                raise refused[0]
        return frozenset(job_ids)

    async def submit_steadily(self, files: Sequence[ListedFile], per_s: float) -> frozenset[str]:
        """Submits one after the other at a fixed pace, without waiting for answers; returns the ids."""
        clock = asyncio.get_running_loop().time
        began = clock()
        async with asyncio.TaskGroup() as calls:
            tasks = []
            for number, file in enumerate(files):
                await asyncio.sleep(began + number / per_s - clock())
                tasks.append(calls.create_task(self._submit(file), name=f"submit {file.path}"))
        return frozenset(task.result() for task in tasks)

    async def _submit(self, file: ListedFile) -> str:
        job = await self._client.submit(check_file, file, **_options(file))
        await self._note([job.job_id])
        return job.job_id

    async def _note(self, job_ids: list[str]) -> None:
        """Who waits while the disk is busy finds that somebody else has written its ids with his own."""
        self._acknowledged += job_ids
        async with self._writing:
            if self._acknowledged:
                acknowledged, self._acknowledged = self._acknowledged, []
                await asyncio.to_thread(self._ledger.append, acknowledged)


def _submission(file: ListedFile) -> Submission:
    return Submission(job_type=check_file, payload=file, **_options(file))


def _options(file: ListedFile) -> SubmitOptions:
    return {
        "idempotency_key": file.idempotency_key,
        "initial_backoff": FIRST_BACKOFF_S,
    }
