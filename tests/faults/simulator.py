"""A tiny simulator of an installation that keeps every promise; it makes the healthy histories of the property tests.

One thing happens after the other, each 20 to 200 milliseconds later: a client submits, looks, cancels or
redrives; a worker beats, is given the best ready execution, finishes, gives back, reconnects or dies; the server ends
sessions whose lease is over. The server knows leases exactly, workers believe a little less.
"""

import random
from dataclasses import dataclass, field

from dispatchd.domain.job import JobState
from dispatchd.sdk.job import JobStatus
from faults.events import Outcome
from faults.story import LEASE_S, Story, WorkerTeller, key_of

MAX_ATTEMPTS = 2
PRIORITIES = (0, 5)
SLOTS = 3
BELIEVED_S = LEASE_S - 0.005


@dataclass(slots=True)
class _Job:
    job_id: str
    priority: int
    state: JobState = JobState.ACTIVE
    attempt: int = 1
    delivery: int = 1
    budget: int = MAX_ATTEMPTS
    newest: str = ""
    claimed_s: float | None = None
    holder: "_Worker | None" = None

    @property
    def status(self) -> JobStatus:
        if self.state is not JobState.ACTIVE:
            return JobStatus(self.state.value)
        return JobStatus.PENDING if self.holder is None else JobStatus.DISPATCHING

    @property
    def attempts(self) -> int:
        return self.attempt - (self.claimed_s is None)


@dataclass(slots=True)
class _Worker:
    teller: WorkerTeller
    lease_until_s: float = 0.0
    held: dict[str, _Job] = field(default_factory=dict)
    """What the worker believes to hold: executions with their jobs."""
    is_alive: bool = True


class Simulation:
    """A story under way. All times are in seconds."""

    def __init__(self, chance: random.Random) -> None:
        self.story = Story()
        self._random = chance
        self._now = 1.0
        self._jobs: list[_Job] = []
        self._workers: list[_Worker] = []
        self._executions = 0

    def run(self, steps: int) -> Story:
        """So many steps, then everything that has not ended is canceled."""
        for number in (1, 2):
            self._join(f"w{number}")
        self._submit()
        moves = [
            (5, self._submit),
            (5, self._look),
            (1, self._cancel),
            (2, self._redrive),
            (8, self._beat),
            (12, self._assign),
            (10, self._finish),
            (2, self._give_back),
            (2, self._reconnect),
            (1, self._die),
        ]
        weights, calls = zip(*moves, strict=True)
        for _ in range(steps):
            self._reap()
            self._random.choices(calls, weights)[0]()
        for job in self._jobs:
            if job.state is JobState.ACTIVE:
                self._end(job, "canceled", JobState.CANCELED)
            self.story.job(job.job_id, job.state, priority=job.priority, max_attempts=MAX_ATTEMPTS)
        return self.story

    def _pass(self) -> float:
        """Longer than the ten milliseconds of a call, so that the calls of a story follow each other."""
        self._now += self._random.randint(20, 200) / 1000
        return self._now

    # --- clients --------------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        job = _Job(f"j{len(self._jobs) + 1}", self._random.choice(PRIORITIES))
        key = key_of(job.job_id)
        if self._random.random() < 0.2:
            self.story.client.tries(key, self._pass(), priority=job.priority, max_attempts=MAX_ATTEMPTS)
            self.story.client.refused(key, "DEADLINE_EXCEEDED", self._pass())
        for _ in range(self._random.choice((1, 1, 1, 2))):
            self.story.client.submits(job.job_id, self._pass(), priority=job.priority, max_attempts=MAX_ATTEMPTS)
        job.newest = self._new_execution()
        self._jobs.append(job)

    def _look(self) -> None:
        job = self._random.choice(self._jobs)
        self.story.client.sees(job.job_id, job.status, self._pass(), attempts=job.attempts)

    def _cancel(self) -> None:
        job = self._random.choice(self._jobs)
        self._pass()
        if job.state is JobState.ACTIVE:
            self._end(job, "canceled", JobState.CANCELED)
        self.story.client.sees(job.job_id, job.status, self._pass(), attempts=job.attempts)

    def _redrive(self) -> None:
        dead = [job for job in self._jobs if job.state is JobState.FAILED]
        if dead:
            job = self._random.choice(dead)
            self.story.client.redrives(job.job_id, self._pass(), code=self._random.choice(["OK", "UNAVAILABLE", None]))
            job.state, job.budget = JobState.ACTIVE, job.attempt + MAX_ATTEMPTS
            self._follow(job, attempt=job.attempt + 1)

    # --- workers --------------------------------------------------------------------------------------------------

    def _join(self, name: str) -> None:
        worker = _Worker(self.story.worker(name))
        self._workers.append(worker)
        self._renew(worker, self._pass())
        worker.teller.registers(self._now, lease=BELIEVED_S)
        self._pass()

    def _renew(self, worker: _Worker, sent_s: float) -> None:
        worker.lease_until_s = sent_s + LEASE_S

    def _lives(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.is_alive and worker.lease_until_s > self._now]

    def _beat(self) -> None:
        for worker in self._lives():
            self._renew(worker, self._pass())
            worker.teller.renewed(self._now, lease=BELIEVED_S)
            self._pass()

    def _assign(self) -> None:
        free = [worker for worker in self._lives() if len(worker.held) < SLOTS]
        ready = [job for job in self._jobs if job.state is JobState.ACTIVE and job.holder is None]
        if not free or not ready:
            return
        best = max(ready, key=lambda job: job.priority)
        worker = self._random.choice(free)
        best.claimed_s, best.holder = self._now, worker
        worker.held[best.newest] = best
        worker.teller.gets(best.newest, best.job_id, self._pass(), attempt=best.attempt)

    def _finish(self) -> None:
        holding = [worker for worker in self._workers if worker.is_alive and worker.held]
        if not holding:
            return
        worker = self._random.choice(holding)
        execution_id, job = worker.held.popitem()
        success = self._random.random() < 0.5
        worker.teller.sends(execution_id, self._pass(), success=success)
        is_mine = job.holder is worker and job.newest == execution_id
        if is_mine:
            self._settle(job, success)
        outcome = Outcome.ACCEPTED if is_mine else Outcome.STALE
        worker.teller.told(execution_id, self._pass(), success=success, outcome=outcome)
        if is_mine and self._random.random() < 0.3:
            repeat = self._random.random() < 0.5
            outcome = Outcome.ACCEPTED if repeat is success else Outcome.STALE
            worker.teller.finishes(execution_id, self._pass(), success=repeat, outcome=outcome)

    def _give_back(self) -> None:
        holding = [worker for worker in self._lives() if worker.held]
        if not holding:
            return
        worker = self._random.choice(holding)
        execution_id, job = worker.held.popitem()
        worker.teller.gives_back(execution_id, self._pass())
        if job.holder is worker and job.newest == execution_id:
            self._end(job, "returned", None)
            self._follow(job, attempt=job.attempt)

    def _reconnect(self) -> None:
        worker = self._random.choice(self._workers)
        if worker.is_alive:
            lost = [held for held, job in worker.held.items() if job.holder is not worker or job.newest != held]
            self._renew(worker, self._pass())
            worker.teller.registers(self._now, held=list(worker.held), lost=lost, lease=BELIEVED_S)
            for execution_id in lost:
                del worker.held[execution_id]
            self._pass()

    def _die(self) -> None:
        self._random.choice(self._workers).is_alive = False
        if not any(worker.is_alive for worker in self._workers):
            self._join(f"w{len(self._workers) + 1}")

    # --- the server -----------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        for job in self._jobs:
            if job.holder is not None and job.holder.lease_until_s <= self._now:
                self._fail(job, "lost")

    def _settle(self, job: _Job, success: bool) -> None:
        if success:
            self._end(job, "succeeded", JobState.SUCCEEDED)
        else:
            self._fail(job, "failed")

    def _fail(self, job: _Job, end: str) -> None:
        if job.attempt >= job.budget:
            self._end(job, "dead" if end == "failed" else "dead_lost", JobState.FAILED)
        else:
            self._end(job, end, None)
            self._follow(job, attempt=job.attempt + 1)

    def _end(self, job: _Job, end: str, state: JobState | None) -> None:
        worker = None if job.holder is None else job.holder.teller.opened.name
        self.story.execution(
            job.newest,
            job.job_id,
            end,
            worker,
            attempt=job.attempt,
            delivery=job.delivery,
            claimed=job.claimed_s,
            finished=self._now,
        )
        job.holder = None
        job.state = state or job.state

    def _follow(self, job: _Job, attempt: int) -> None:
        job.attempt, job.delivery = attempt, job.delivery + 1
        job.newest, job.claimed_s, job.holder = self._new_execution(), None, None

    def _new_execution(self) -> str:
        self._executions += 1
        return f"e{self._executions}"


def healthy_history(chance: random.Random, steps: int) -> Story:
    """A history in which every promise was kept; `steps` is how many things happen."""
    return Simulation(chance).run(steps)
