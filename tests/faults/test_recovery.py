"""The measurements of recovery, on histories that are told line by line."""

import pytest

from dispatchd.domain.job import JobState
from faults.events import FaultKind
from faults.history import History
from faults.recovery import Measurement, measure
from faults.story import Story

LEASE_S = 2.0


def measured(story: Story) -> dict[str, Measurement]:
    """By name; each is there once."""
    found = measure(History(story.ledgers()), story.database(), LEASE_S)
    assert len({each.what for each in found}) == len(found), found
    return {each.what: each for each in found}


def test_submits_and_assignments_work_again_with_the_first_that_was_tried_after_the_kill() -> None:
    story = Story()
    story.client.tries("key of j1", 9.9).acked("key of j1", "j1", 10.1).submits("j2", 13.0)
    story.nemesis.breaks(FaultKind.GATEWAY, 10.0, 12.0, fault="kill_gateway")
    story.worker("w1").gets("e1", "j1", 10.5).gets("e2", "j2", 14.0)
    found = measured(story)
    assert found["submits_work_again_s"].value == pytest.approx(3.0)
    assert found["assignments_work_again_s"].value == pytest.approx(4.0)


def test_submits_that_never_work_again_miss_the_target() -> None:
    story = Story()
    story.nemesis.breaks(FaultKind.CONTROL_PLANE, 10.0, 12.0, fault="kill_control_plane")
    assert not measured(story)["submits_work_again_s"].is_met


def test_the_leader_gap_lasts_until_another_owner_is_seen() -> None:
    story = Story()
    story.nemesis.sees_leader("scheduler-1-abc/1", 1.0).sees_leader("", 11.9).sees_leader("scheduler-2-def/2", 12.5)
    story.nemesis.breaks(FaultKind.SCHEDULER, 10.0, 15.0, target="scheduler-1", fault="freeze_scheduler_leader")
    gap = measured(story)["leader_gap_s"]
    assert gap.value == pytest.approx(2.5)
    assert gap.is_met


def test_a_lost_execution_and_its_next_attempt_are_measured_from_the_kill_and_from_when_it_is_due() -> None:
    story = Story()
    story.worker("w1").gets("e1", "j1", 9.0).gets("e0", "j0", 9.0).finishes("e0", 9.5)
    story.worker("w2").gets("e2", "j1", 14.4, attempt=2)
    story.job("j1").execution("e1", "j1", "lost", finished=13.9)
    story.execution("e2", "j1", worker="w2", attempt=2, delivery=2, due=14.0)
    story.job("j0").execution("e0", "j0", finished=9.5)
    story.nemesis.breaks(FaultKind.WORKER, 10.0, 15.0, target="w1", fault="kill_worker")
    found = measured(story)
    assert found["lost_execution_ended_s"].value == pytest.approx(3.9)
    assert found["lost_execution_ended_s"].is_met
    assert found["next_attempt_late_s"].value == pytest.approx(0.4)
    assert not found["next_attempt_late_s"].is_met


def test_faults_that_overlap_are_not_measured() -> None:
    story = Story()
    story.nemesis.breaks(FaultKind.GATEWAY, 10.0, 12.0, fault="kill_gateway")
    story.nemesis.breaks(FaultKind.REDIS, 11.0, 13.0, fault="freeze_redis")
    assert measured(story) == {}


def test_a_planned_failure_burns_no_attempt_and_a_lost_lease_does() -> None:
    story = Story()
    sdk = story.sdk_worker("sdk-1")
    sdk.handles("e1", "j1", 10.0, 10.5)
    story.job("j1", JobState.FAILED).execution("e1", "j1", "lost", "sdk-1", finished=12.0)
    story.nemesis.breaks(FaultKind.GATEWAY, 10.0, 13.0, fault="terminate_gateway")
    assert measured(story)["attempts_burned_by_drain"].value == 1
