"""The two state machines: ended is ended, and a job's status follows from its newest execution."""

import pytest

from dispatchd.domain.execution import EXECUTION_TRANSITIONS, ExecutionState
from dispatchd.domain.job import JOB_TRANSITIONS, JobState, JobStatus, job_status
from dispatchd.domain.worker import WorkerStatus


def test_an_execution_that_has_ended_has_no_way_out_and_every_other_one_has() -> None:
    can_leave = {source for source, _ in EXECUTION_TRANSITIONS}
    assert {state for state in ExecutionState if state.has_ended} == set(ExecutionState) - can_leave


def test_the_only_way_out_of_an_ended_job_is_the_redrive_of_a_failed_one() -> None:
    ways_out = [(s, t) for s, t in JOB_TRANSITIONS if s is not JobState.ACTIVE]
    assert ways_out == [(JobState.FAILED, JobState.ACTIVE)]


def test_every_state_can_be_reached_and_every_edge_says_its_cause() -> None:
    reached = {target for _, target in EXECUTION_TRANSITIONS} | {ExecutionState.WAITING}
    assert reached == set(ExecutionState)
    assert {target for _, target in JOB_TRANSITIONS} == set(JobState)
    assert all((*EXECUTION_TRANSITIONS.values(), *JOB_TRANSITIONS.values()))


def test_only_claimed_and_running_executions_are_held_by_a_worker() -> None:
    assert {state for state in ExecutionState if state.is_live} == {ExecutionState.CLAIMED, ExecutionState.RUNNING}
    assert not any(state.is_live and state.has_ended for state in ExecutionState)


@pytest.mark.parametrize(
    ("newest", "status"),
    [
        (ExecutionState.WAITING, JobStatus.PENDING),
        (ExecutionState.QUEUED, JobStatus.PENDING),
        (ExecutionState.CLAIMED, JobStatus.DISPATCHING),
        (ExecutionState.RUNNING, JobStatus.RUNNING),
    ],
)
def test_the_status_of_an_active_job_is_that_of_its_newest_execution(newest: ExecutionState, status: JobStatus) -> None:
    assert job_status(JobState.ACTIVE, newest) is status


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.ACTIVE])
def test_the_status_of_an_ended_job_is_its_own_whatever_its_executions_say(state: JobState) -> None:
    assert {job_status(state, newest) for newest in ExecutionState} == {JobStatus(state.value)}


def test_draining_and_offline_workers_take_no_work_and_busy_ones_do() -> None:
    assert [status for status in WorkerStatus if status.takes_work] == [WorkerStatus.READY, WorkerStatus.BUSY]
