"""A client that submits by an open loop and writes down every try, every answer and every job it was shown.

`python -m faults.submitter --target HOST:PORT --ledger FILE --name NAME`, with `tests` on the path. It uses gRPC
without the SDK's client, which repeats tries and gathers calls out of sight: here one try is one call and one line.

    arrivals (Poisson) ──▶ try ──▶ acked ──▶ looked at now and then, some waited for, some canceled
                            ▲ │                └─ seen failed ──▶ some redriven
                            └─┘ UNAVAILABLE, DEADLINE_EXCEEDED and the like: once more with the same key

After its duration it goes on looking until SIGTERM or until it has lingered long enough.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from dispatchd.sdk.backoff import Backoff
from dispatchd.sdk.channel import open_client_channel
from dispatchd.sdk.job import TERMINAL, JobStatus
from dispatchd.v1 import dispatchd_pb2 as v1
from dispatchd.v1.dispatchd_pb2_grpc import JobServiceStub, OperatorServiceStub
from faults.events import (
    Closed,
    JobSeen,
    LedgerRole,
    RedriveAnswered,
    RedriveAsked,
    SubmitAcked,
    SubmitFailed,
    Submitted,
)
from faults.ledger import LedgerWriter, now_ns
from faults.options import add_options
from faults.signals import stop_event

if TYPE_CHECKING:
    from dispatchd.v1.dispatchd_pb2_grpc import JobServiceAsyncStub, OperatorServiceAsyncStub

AnswerT = TypeVar("AnswerT")

TRY_S = 5.0
WAIT_S = 2.0
MOST_OPEN = 2_000
LOOKERS = 2
# Asking again would be answered alike.
FINAL = frozenset({"INVALID_ARGUMENT", "ALREADY_EXISTS", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What the submitter does. Shares are probabilities of one job; times are in seconds."""

    name: str
    rate_per_s: float = 50.0
    duration_s: float = 10.0
    linger_s: float = 3600.0
    patience_s: float = 120.0
    job_types: tuple[str, ...] = ("faults.work",)
    priorities: tuple[int, ...] = (0, 1, 9)
    max_attempts: tuple[int, ...] = (1, 2, 5)
    backoff_s: float = 0.1
    looks_per_s: float = 20.0
    repeat_share: float = 0.05
    wait_share: float = 0.05
    cancel_share: float = 0.02
    redrive_share: float = 0.5
    seed: int = 0


class Submitter:
    """One run of a plan."""

    def __init__(self, plan: Plan, target: str, ledger: LedgerWriter, stop: asyncio.Event) -> None:
        self._plan = plan
        self._ledger = ledger
        self._stop = stop
        self._random = random.Random(plan.seed)
        self._channel = open_client_channel(target, None)
        self._jobs: JobServiceAsyncStub = JobServiceStub(self._channel)
        self._operator: OperatorServiceAsyncStub = OperatorServiceStub(self._channel)
        self._acked: list[str] = []
        self._open = 0
        self._skipped = 0

    async def run(self) -> None:
        """Submits for the plan's duration, then looks on; returns when every submit is clear or out of patience."""
        try:
            async with asyncio.TaskGroup() as submits, asyncio.TaskGroup() as followers:
                lookers = [followers.create_task(self._look_around(), name="looker") for _ in range(LOOKERS)]
                await self._arrive(submits, followers)
                await self._pause(self._plan.linger_s)
                self._stop.set()
                for looker in lookers:
                    looker.cancel()
        finally:
            await self._channel.close()
        self._ledger.note(Closed(now_ns(), self._skipped))

    async def _arrive(self, submits: asyncio.TaskGroup, followers: asyncio.TaskGroup) -> None:
        clock = asyncio.get_running_loop().time
        due = began = clock()
        number = 0
        while due < began + self._plan.duration_s and not self._stop.is_set():
            due += self._random.expovariate(self._plan.rate_per_s)
            await self._pause(due - clock())
            number += 1
            if self._open < MOST_OPEN:
                submits.create_task(self._submit(number, followers), name=f"submit {number}")
            else:
                self._skipped += 1

    async def _submit(self, number: int, followers: asyncio.TaskGroup) -> None:
        plan = self._plan
        request = v1.SubmitJobRequest(
            job_type=self._random.choice(plan.job_types),
            payload=f'{{"number": {number}}}'.encode(),
            priority=self._random.choice(plan.priorities),
            idempotency_key=f"{plan.name}-{number}",
        )
        request.retry_policy.max_attempts = self._random.choice(plan.max_attempts)
        request.retry_policy.initial_backoff.FromMicroseconds(round(plan.backoff_s * 1e6))
        request.retry_policy.max_backoff.FromMicroseconds(round(plan.backoff_s * 1e6))
        self._open += 1
        try:
            job_id = await self._submit_until_clear(request)
            if job_id is not None:
                self._acked.append(job_id)
                if not self._stop.is_set():
                    followers.create_task(self._follow(request, job_id), name=f"follow {number}")
        finally:
            self._open -= 1

    async def _submit_until_clear(self, request: v1.SubmitJobRequest) -> str | None:
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + self._plan.patience_s
        backoff = Backoff(0.05, 1.0)
        while clock() < give_up_at:
            key, asked_ns = request.idempotency_key, now_ns()
            max_attempts = request.retry_policy.max_attempts
            self._ledger.note(Submitted(asked_ns, key, request.job_type, request.priority, max_attempts))
            try:
                answer = await self._jobs.SubmitJob(request, timeout=TRY_S)
            except grpc.aio.AioRpcError as refusal:
                code = refusal.code().name
                self._ledger.note(SubmitFailed(now_ns(), key, code))
                if code in FINAL:
                    return None
                await asyncio.sleep(backoff.next_s())
                continue
            self._ledger.note(SubmitAcked(now_ns(), key, answer.job.job_id))
            self._saw(answer.job, asked_ns, "SubmitJob")
            return answer.job.job_id
        return None

    # --- what becomes of the jobs ---------------------------------------------------------------------------------

    async def _follow(self, request: v1.SubmitJobRequest, job_id: str) -> None:
        plan, chance = self._plan, self._random.random()
        await self._pause(self._random.uniform(0.0, 0.2))
        if chance < plan.repeat_share:
            await self._submit_until_clear(request)
        elif chance < plan.repeat_share + plan.wait_share:
            await self._wait(job_id)
        elif chance < plan.repeat_share + plan.wait_share + plan.cancel_share:
            await self._cancel(job_id)

    async def _wait(self, job_id: str) -> None:
        request = v1.WaitJobRequest(job_id=job_id)
        request.wait.FromMicroseconds(round(WAIT_S * 1e6))
        while not self._stop.is_set():
            asked_ns = now_ns()
            answer = await self._answer(self._jobs.WaitJob(request, timeout=WAIT_S + TRY_S))
            if answer is None:
                await self._pause(0.2)
            elif self._saw(answer.job, asked_ns, "WaitJob") in TERMINAL:
                return

    async def _cancel(self, job_id: str) -> None:
        asked_ns = now_ns()
        answer = await self._answer(self._jobs.CancelJob(v1.CancelJobRequest(job_id=job_id), timeout=TRY_S))
        if answer is not None:
            self._saw(answer.job, asked_ns, "CancelJob")

    async def _look_around(self) -> None:
        redriven: set[str] = set()
        while True:
            await asyncio.sleep(self._random.expovariate(self._plan.looks_per_s / LOOKERS))
            if not self._acked:
                continue
            job_id, asked_ns = self._random.choice(self._acked), now_ns()
            answer = await self._answer(self._jobs.GetJob(v1.GetJobRequest(job_id=job_id), timeout=TRY_S))
            if answer is None or self._saw(answer.job, asked_ns, "GetJob") is not JobStatus.FAILED:
                continue
            if job_id not in redriven:
                redriven.add(job_id)
                if self._random.random() < self._plan.redrive_share:
                    await self._redrive(job_id)

    async def _redrive(self, job_id: str) -> None:
        asked_ns = now_ns()
        self._ledger.note(RedriveAsked(asked_ns, job_id))
        try:
            answer = await self._operator.RedriveDeadLetters(
                v1.RedriveDeadLettersRequest(job_ids=[job_id]), timeout=TRY_S
            )
        except grpc.aio.AioRpcError as refusal:
            self._ledger.note(RedriveAnswered(now_ns(), asked_ns, job_id, refusal.code().name))
            return
        [result] = answer.results
        code = _code_name(result.error.code) if result.HasField("error") else "OK"
        self._ledger.note(RedriveAnswered(now_ns(), asked_ns, job_id, code))
        if result.HasField("job"):
            self._saw(result.job, asked_ns, "RedriveDeadLetters")

    def _saw(self, job: v1.Job, asked_ns: int, call: str) -> JobStatus:
        status = JobStatus(v1.JobStatus.Name(job.status).removeprefix("JOB_STATUS_").lower())
        self._ledger.note(JobSeen(now_ns(), asked_ns, job.job_id, status, job.attempts, call))
        return status

    # --- calls and pauses -----------------------------------------------------------------------------------------

    async def _answer(self, call: Awaitable[AnswerT]) -> AnswerT | None:
        try:
            return await call
        except grpc.aio.AioRpcError:
            return None

    async def _pause(self, delay_s: float) -> None:
        """Waits so long, or until the submitter is to stop."""
        if delay_s > 0:
            try:
                async with asyncio.timeout(delay_s):
                    await self._stop.wait()
            except TimeoutError:
                return


def _code_name(number: int) -> str:
    return next((code.name for code in grpc.StatusCode if code.value[0] == number), "UNKNOWN")


async def submit(plan: Plan, target: str, path: Path) -> None:
    """Carries a plan out, with a new ledger at `path`; SIGTERM ends it early."""
    with LedgerWriter(path, LedgerRole.CLIENT, plan.name) as ledger, stop_event(signal.SIGTERM) as stop:
        await Submitter(plan, target, ledger, stop).run()


def main() -> None:
    parser = argparse.ArgumentParser(description="Submits jobs by an open loop and keeps a ledger.")
    parser.add_argument("--target", required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    add_options(parser, Plan)
    arguments = vars(parser.parse_args())
    target, path = arguments.pop("target"), arguments.pop("ledger")
    asyncio.run(submit(Plan(**arguments), target, path))


if __name__ == "__main__":
    main()
