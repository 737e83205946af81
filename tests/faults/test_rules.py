"""Every rule of the checker, with histories that break it, with near misses, and with one that is sound.

Each broken history must be reported by its own rule and by no other one.
"""

from collections.abc import Callable

import pytest

from dispatchd.domain.job import JobState
from dispatchd.sdk.job import JobStatus
from faults.checker import RULES, check
from faults.events import FaultKind, Outcome
from faults.story import Story

Tell = Callable[[], Story]
BROKEN: list[tuple[str, Tell]] = []
SOUND: list[tuple[str, Tell]] = []


def breaks(rule: str) -> Callable[[Tell], Tell]:
    """The history breaks this rule, and only this one."""

    def note(tell: Tell) -> Tell:
        BROKEN.append((rule, tell))
        return tell

    return note


def nearly_breaks(rule: str) -> Callable[[Tell], Tell]:
    """The history breaks nothing, though it comes close to breaking this rule."""

    def note(tell: Tell) -> Tell:
        SOUND.append((rule, tell))
        return tell

    return note


def one_job() -> Story:
    """A job that was submitted, worked on and seen to succeed."""
    story = Story()
    story.client.submits("j1", 1.0).sees("j1", JobStatus.RUNNING, 2.2).sees("j1", JobStatus.SUCCEEDED, 3.0)
    story.worker("w1").registers(0.5).gets("e1", "j1", 2.0).finishes("e1", 2.5)
    return story.job("j1").execution("e1", "j1", claimed=1.99)


def two_tries() -> Story:
    """A job whose first attempt fails at one worker and whose second succeeds at another."""
    story = Story()
    story.client.submits("j1", 1.0)
    story.worker("w1").registers(0.5).gets("e1", "j1", 2.0).finishes("e1", 2.5, success=False)
    story.worker("w2").registers(0.5).gets("e2", "j1", 2.8, attempt=2).finishes("e2", 3.0)
    story.job("j1").execution("e1", "j1", "failed", claimed=1.99)
    return story.execution("e2", "j1", worker="w2", attempt=2, delivery=2, claimed=2.79)


def held_by_one() -> Story:
    """A worker that gets an execution and is killed; its lease lasts from 2 s to 5 s."""
    story = Story()
    story.client.submits("j1", 1.0)
    story.worker("w1").registers(1.5).renewed(2.0).gets("e1", "j1", 2.1)
    return story.job("j1").execution("e1", "j1", "lost", claimed=2.09)


def held_by_another(story: Story, at: float, worker: str = "w2", *, attempt: int = 2) -> Story:
    """The job's next attempt comes to another worker."""
    teller = story.worker(worker).registers(1.0).renewed(at - 0.5)
    teller.gets("e2", "j1", at, attempt=attempt).finishes("e2", at + 0.5)
    return story.execution("e2", "j1", worker=worker, attempt=attempt, delivery=attempt, claimed=at - 0.01)


def dead_letter() -> Story:
    """A job with one attempt, which fails."""
    story = Story()
    story.client.submits("j1", 1.0, max_attempts=1).sees("j1", JobStatus.FAILED, 3.0)
    story.worker("w1").registers(0.5).gets("e1", "j1", 2.0).finishes("e1", 2.5, success=False)
    return story.job("j1", JobState.FAILED, max_attempts=1).execution("e1", "j1", "dead", claimed=1.99)


def second_life(story: Story) -> Story:
    """A dead letter runs again and succeeds."""
    story.worker("w1").renewed(3.9).gets("e2", "j1", 4.0, attempt=2).finishes("e2", 4.5)
    story.job("j1", max_attempts=1)
    return story.execution("e2", "j1", attempt=2, delivery=2, claimed=3.99)


def overtaken(*, acked: float = 10.0, lower: float = 12.0, claimed: float = 14.0, priority: int = 5) -> Story:
    """A job of priority 5 that is acked and claimed; one of priority 0 is claimed in between."""
    story = Story()
    story.client.submits("low", 1.0).submits("high", acked, priority=priority)
    worker = story.worker("w1").registers(0.5)
    worker.renewed(lower - 0.1).gets("e-low", "low", lower + 0.01).finishes("e-low", lower + 0.1)
    worker.renewed(claimed - 0.1).gets("e-high", "high", claimed + 0.01).finishes("e-high", claimed + 0.1)
    story.job("low").execution("e-low", "low", claimed=lower)
    return story.job("high", priority=priority).execution("e-high", "high", claimed=claimed)


# --- acked_jobs_end ---------------------------------------------------------------------------------------------------


@breaks("acked_jobs_end")
def an_acked_job_is_not_in_the_database() -> Story:
    story = one_job()
    story.client.submits("j2", 1.0)
    return story


@breaks("acked_jobs_end")
def an_acked_job_never_ends() -> Story:
    story = one_job()
    story.client.submits("j2", 1.0).sees("j2", JobStatus.PENDING, 3.0)
    return story.job("j2", JobState.ACTIVE)


@nearly_breaks("acked_jobs_end")
def a_submit_that_was_never_acked_left_nothing() -> Story:
    story = one_job()
    story.client.tries("key of j2", 1.0).refused("key of j2", "UNAVAILABLE", 2.0)
    return story


@nearly_breaks("acked_jobs_end")
def a_job_that_was_never_acked_does_not_end() -> Story:
    story = one_job()
    story.client.tries("key of j2", 1.0).refused("key of j2", "DEADLINE_EXCEEDED", 2.0)
    return story.job("j2", JobState.ACTIVE)


@nearly_breaks("acked_jobs_end")
def an_acked_job_is_canceled_before_anybody_gets_it() -> Story:
    story = one_job()
    story.client.submits("j2", 1.0).sees("j2", JobStatus.CANCELED, 2.0, attempts=0)
    return story.job("j2", JobState.CANCELED).execution("e2", "j2", "canceled", None, finished=1.9)


# --- accepted_results_agree -------------------------------------------------------------------------------------------


@breaks("accepted_results_agree")
def a_success_and_a_failure_are_accepted() -> Story:
    story = one_job()
    story.worker("w1").finishes("e1", 2.7, success=False)
    return story


@breaks("accepted_results_agree")
def two_workers_results_are_accepted_with_different_flags() -> Story:
    story = one_job()
    story.worker("w2").registers(0.5).finishes("e1", 2.4, success=False)
    return story


@breaks("accepted_results_agree")
def an_accepted_success_is_a_lost_lease_in_the_database() -> Story:
    story = two_tries()
    story.worker("w1").registers(0.5).gets("e0", "j0", 2.0).finishes("e0", 2.5)
    story.client.submits("j0", 1.0)
    return story.job("j0", JobState.FAILED).execution("e0", "j0", "lost", claimed=1.99)


@breaks("accepted_results_agree")
def an_accepted_failure_is_a_success_in_the_database() -> Story:
    story = Story()
    story.client.submits("j1", 1.0)
    story.worker("w1").registers(0.5).gets("e1", "j1", 2.0).finishes("e1", 2.5, success=False)
    return story.job("j1").execution("e1", "j1", claimed=1.99)


@nearly_breaks("accepted_results_agree")
def a_repeat_is_accepted_and_a_contradiction_is_stale() -> Story:
    story = one_job()
    story.worker("w1").finishes("e1", 2.7).finishes("e1", 2.9, success=False, outcome=Outcome.STALE)
    return story


@nearly_breaks("accepted_results_agree")
def a_result_comes_too_late_and_is_stale() -> Story:
    story = held_by_another(held_by_one(), 5.5)
    story.worker("w1").finishes("e1", 7.0, outcome=Outcome.STALE)
    return story


# --- leases_exclude_each_other ----------------------------------------------------------------------------------------


@breaks("leases_exclude_each_other")
def the_next_attempt_comes_before_the_lease_has_run_out() -> Story:
    return held_by_another(held_by_one(), 4.99)


@breaks("leases_exclude_each_other")
def one_execution_is_assigned_to_two_workers() -> Story:
    story = one_job()
    story.worker("w2").registers(0.5).gets("e1", "j1", 2.2)
    return story


@breaks("leases_exclude_each_other")
def one_worker_gets_the_next_attempt_while_it_holds_the_first() -> Story:
    story = held_by_one()
    story.worker("w1").gets("e2", "j1", 3.0, attempt=2).finishes("e2", 3.5)
    return story.execution("e2", "j1", attempt=2, delivery=2, claimed=2.99)


@breaks("leases_exclude_each_other")
def the_lease_was_renewed_before_the_next_attempt() -> Story:
    story = held_by_one()
    story.worker("w1").renewed(4.0)
    return held_by_another(story, 5.5)


@breaks("leases_exclude_each_other")
def a_lease_that_had_run_out_is_renewed_while_another_holds_the_job() -> Story:
    story = held_by_another(held_by_one(), 5.5)
    story.worker("w1").renewed(5.6)
    return story


@breaks("leases_exclude_each_other")
def an_execution_is_resumed_on_a_new_stream_and_assigned_elsewhere() -> Story:
    story = held_by_one()
    story.worker("w1").registers(4.0, held=["e1"])
    return held_by_another(story, 5.5)


@breaks("leases_exclude_each_other")
def the_ack_that_says_it_is_lost_comes_after_the_next_attempt() -> Story:
    story = held_by_one()
    story.worker("w1").renewed(3.0, lost=["e1"])
    return held_by_another(story, 2.9)


@breaks("leases_exclude_each_other")
def a_short_overlap_lies_within_a_long_hold_that_began_before_others() -> Story:
    story = held_by_one()
    story.worker("w3").registers(1.0).renewed(2.1).gets("e3", "j1", 2.2, attempt=2).finishes("e3", 2.3, success=False)
    story.execution("e3", "j1", "failed", "w3", attempt=2, delivery=2, claimed=2.19)
    return story


@nearly_breaks("leases_exclude_each_other")
def the_next_attempt_comes_when_the_lease_has_just_run_out() -> Story:
    return held_by_another(held_by_one(), 5.0)


@nearly_breaks("leases_exclude_each_other")
def the_next_attempt_comes_after_the_result_though_its_ack_is_lost() -> Story:
    story = held_by_one()
    story.worker("w1").sends("e1", 2.5, success=False)
    story.execution("e1", "j1", "failed", claimed=2.09)
    return held_by_another(story, 2.6)


@nearly_breaks("leases_exclude_each_other")
def the_next_delivery_comes_after_the_give_back() -> Story:
    story = held_by_one()
    story.worker("w1").gives_back("e1", 2.5)
    story.worker("w2").registers(1.0).gets("e2", "j1", 2.6).finishes("e2", 3.0)
    story.execution("e1", "j1", "returned", claimed=2.09)
    return story.execution("e2", "j1", worker="w2", delivery=2, claimed=2.59)


@nearly_breaks("leases_exclude_each_other")
def the_next_attempt_comes_after_the_ack_that_says_it_is_lost() -> Story:
    story = held_by_one()
    story.worker("w1").renewed(2.5, lost=["e1"])
    return held_by_another(story, 2.6)


@nearly_breaks("leases_exclude_each_other")
def a_registration_omits_what_was_held() -> Story:
    story = held_by_one()
    story.worker("w1").registers(2.5, held=[])
    return held_by_another(story, 2.6)


@nearly_breaks("leases_exclude_each_other")
def another_process_takes_the_worker_id_over() -> Story:
    story = held_by_one()
    story.worker("w1", process="-again").registers(2.5)
    return held_by_another(story, 2.6)


@nearly_breaks("leases_exclude_each_other")
def an_assignment_is_read_when_its_lease_is_long_over() -> Story:
    story = Story()
    story.client.submits("j1", 1.0)
    story.worker("w1").registers(1.5).gets("e1", "j1", 9.0).finishes("e1", 9.9, outcome=Outcome.STALE)
    story.job("j1").execution("e1", "j1", "lost", claimed=1.6)
    return held_by_another(story, 9.5)


@nearly_breaks("leases_exclude_each_other")
def an_ack_is_read_when_the_lease_in_it_is_over() -> Story:
    story = held_by_another(held_by_one(), 7.5)
    story.worker("w1").renewed(4.0, read=7.8)
    return story


@nearly_breaks("leases_exclude_each_other")
def acks_without_a_lease_give_none() -> Story:
    story = Story()
    story.client.submits("j1", 1.0)
    story.worker("w1").renewed(1.5, lease=None).gets("e1", "j1", 2.0)
    story.job("j1").execution("e1", "j1", "lost", claimed=1.6)
    return held_by_another(story, 2.5)


# --- leases_last ------------------------------------------------------------------------------------------------------


@breaks("leases_last")
def an_execution_is_lost_before_its_lease_is_over() -> Story:
    story = held_by_another(held_by_one(), 5.2)
    return story.execution("e1", "j1", "lost", claimed=2.09, finished=4.9)


@nearly_breaks("leases_last")
def an_execution_is_lost_when_its_lease_is_over() -> Story:
    story = held_by_another(held_by_one(), 5.2)
    return story.execution("e1", "j1", "lost", claimed=2.09, finished=5.0)


@nearly_breaks("leases_last")
def an_execution_is_lost_when_another_process_comes_without_it() -> Story:
    story = held_by_one()
    story.worker("w1", process="again").registers(3.0)
    story.execution("e1", "j1", "lost", claimed=2.09, finished=3.01)
    return held_by_another(story, 3.2)


# --- attempts_stay_within_budget --------------------------------------------------------------------------------------


@breaks("attempts_stay_within_budget")
def a_job_gets_one_attempt_too_many() -> Story:
    story = two_tries()
    story.client.submits("j2", 1.0, max_attempts=1)
    story.worker("w1").renewed(6.0).gets("e3", "j2", 6.1).finishes("e3", 6.2, success=False)
    story.worker("w1").gets("e4", "j2", 6.3, attempt=2).finishes("e4", 6.4)
    story.job("j2", max_attempts=1).execution("e3", "j2", "failed", claimed=6.0)
    return story.execution("e4", "j2", attempt=2, delivery=2, claimed=6.2)


@breaks("attempts_stay_within_budget")
def the_database_allows_more_than_was_asked_for() -> Story:
    story = Story()
    story.client.submits("j1", 1.0, max_attempts=1)
    story.worker("w1").registers(0.5).gets("e1", "j1", 2.0).finishes("e1", 2.1, success=False)
    story.worker("w1").gets("e2", "j1", 2.3, attempt=2).finishes("e2", 2.4)
    story.job("j1", max_attempts=3).execution("e1", "j1", "failed", claimed=1.99)
    return story.execution("e2", "j1", attempt=2, delivery=2, claimed=2.29)


@breaks("attempts_stay_within_budget")
def a_worker_is_told_an_attempt_that_the_database_does_not_have() -> Story:
    story = Story()
    story.client.submits("j1", 1.0)
    story.worker("w1").registers(0.5).gets("e1", "j1", 2.0, attempt=4).finishes("e1", 2.1)
    return story.job("j1").execution("e1", "j1", claimed=1.99)


@breaks("attempts_stay_within_budget")
def a_redrive_gives_more_than_one_budget() -> Story:
    story = dead_letter()
    story.client.redrives("j1", 3.5)
    story.worker("w1").renewed(3.9).gets("e2", "j1", 4.0, attempt=2).finishes("e2", 4.1, success=False)
    story.worker("w1").gets("e3", "j1", 4.2, attempt=3).finishes("e3", 4.3)
    story.job("j1", max_attempts=1).execution("e2", "j1", "failed", attempt=2, delivery=2, claimed=3.99)
    return story.execution("e3", "j1", attempt=3, delivery=3, claimed=4.19)


@nearly_breaks("attempts_stay_within_budget")
def a_job_uses_all_its_attempts_and_is_delivered_more_often() -> Story:
    story = two_tries()
    story.worker("w2").renewed(5.0).gets("e3", "j2", 5.1).gives_back("e3", 5.2)
    story.worker("w2").gets("e4", "j2", 5.3).finishes("e4", 5.4)
    story.client.submits("j2", 4.0, max_attempts=1)
    story.job("j2", max_attempts=1).execution("e3", "j2", "returned", "w2", claimed=5.0)
    return story.execution("e4", "j2", worker="w2", delivery=2, claimed=5.25)


@nearly_breaks("attempts_stay_within_budget")
def a_redrive_gives_one_more_budget() -> Story:
    story = dead_letter()
    story.client.redrives("j1", 3.5)
    return second_life(story)


@nearly_breaks("attempts_stay_within_budget")
def a_redrive_without_an_answer_may_have_given_one_more_budget() -> Story:
    story = dead_letter()
    story.client.redrives("j1", 3.5, code=None)
    return second_life(story)


# --- attempts_are_counted ---------------------------------------------------------------------------------------------


@breaks("attempts_are_counted")
def an_attempt_that_was_lost_is_not_counted() -> Story:
    story = Story()
    story.client.submits("j1", 1.0)
    story.worker("w1").registers(0.5).gets("e1", "j1", 2.0)
    story.worker("w2").registers(0.6).renewed(6.0).gets("e2", "j1", 6.1).finishes("e2", 6.2)
    story.job("j1").execution("e1", "j1", "lost", claimed=1.99)
    return story.execution("e2", "j1", worker="w2", delivery=2, claimed=6.09)


@breaks("attempts_are_counted")
def a_give_back_counts_as_an_attempt() -> Story:
    story = Story()
    story.client.submits("j1", 1.0)
    story.worker("w1").registers(0.5).gets("e1", "j1", 2.0).gives_back("e1", 2.1)
    story.worker("w1").gets("e2", "j1", 2.3, attempt=2).finishes("e2", 2.4)
    story.job("j1").execution("e1", "j1", "returned", claimed=1.99)
    return story.execution("e2", "j1", attempt=2, delivery=2, claimed=2.29)


@breaks("attempts_are_counted")
def a_delivery_has_vanished_that_nobody_saw() -> Story:
    story = Story()
    story.client.submits("j1", 1.0)
    story.worker("w1").registers(0.5).gets("e2", "j1", 2.3).finishes("e2", 2.4)
    return story.job("j1").execution("e2", "j1", delivery=2, claimed=2.29)


@nearly_breaks("attempts_are_counted")
def a_give_back_is_delivered_again_as_the_same_attempt() -> Story:
    story = Story()
    story.client.submits("j1", 1.0)
    story.worker("w1").registers(0.5).gets("e1", "j1", 2.0).gives_back("e1", 2.1)
    story.worker("w1").gets("e2", "j1", 2.3).finishes("e2", 2.4)
    story.job("j1").execution("e1", "j1", "returned", claimed=1.99)
    return story.execution("e2", "j1", delivery=2, claimed=2.29)


@nearly_breaks("attempts_are_counted")
def a_redrive_goes_on_with_the_numbers() -> Story:
    story = dead_letter()
    story.client.redrives("j1", 3.5)
    return second_life(story)


# --- ended_jobs_stay_ended --------------------------------------------------------------------------------------------


@breaks("ended_jobs_stay_ended")
def a_job_is_seen_running_after_it_succeeded() -> Story:
    story = one_job()
    story.client.sees("j1", JobStatus.RUNNING, 3.5)
    return story


@breaks("ended_jobs_stay_ended")
def a_job_is_seen_failed_after_it_was_canceled() -> Story:
    story = Story()
    story.client.submits("j1", 1.0).sees("j1", JobStatus.CANCELED, 2.0, attempts=0)
    story.client.sees("j1", JobStatus.FAILED, 2.5, attempts=0)
    return story.job("j1", JobState.FAILED).execution("e1", "j1", "dead", None)


@breaks("ended_jobs_stay_ended")
def a_failed_job_goes_on_though_nobody_redrove_it() -> Story:
    story = dead_letter()
    story.client.sees("j1", JobStatus.PENDING, 3.5)
    return story


@breaks("ended_jobs_stay_ended")
def a_failed_job_goes_on_before_it_is_redriven() -> Story:
    story = dead_letter()
    story.client.sees("j1", JobStatus.PENDING, 3.5).redrives("j1", 3.6)
    return second_life(story)


@breaks("ended_jobs_stay_ended")
def a_failed_job_goes_on_though_its_redrive_was_refused() -> Story:
    story = dead_letter()
    story.client.redrives("j1", 3.2, code="FAILED_PRECONDITION").sees("j1", JobStatus.PENDING, 3.5)
    return story


@breaks("ended_jobs_stay_ended")
def a_failed_job_goes_on_long_after_its_redrive() -> Story:
    story = dead_letter()
    story.client.redrives("j1", 3.5).sees("j1", JobStatus.FAILED, 5.0, attempts=2)
    story.client.sees("j1", JobStatus.PENDING, 6.0, attempts=2)
    story.worker("w1").renewed(3.9).gets("e2", "j1", 4.0, attempt=2).finishes("e2", 4.5, success=False)
    return story.execution("e2", "j1", "dead", attempt=2, delivery=2, claimed=3.99)


@breaks("ended_jobs_stay_ended")
def a_succeeded_job_goes_on_because_it_was_redriven() -> Story:
    story = one_job()
    story.client.redrives("j1", 3.2).sees("j1", JobStatus.PENDING, 3.5)
    return story


@breaks("ended_jobs_stay_ended")
def the_database_has_another_end_than_was_seen() -> Story:
    story = dead_letter()
    return story.job("j1", JobState.CANCELED, max_attempts=1)


@breaks("ended_jobs_stay_ended")
def a_failed_job_has_more_attempts_at_the_next_look() -> Story:
    story = Story()
    story.client.submits("j1", 1.0).sees("j1", JobStatus.FAILED, 3.0, attempts=1)
    story.client.sees("j1", JobStatus.FAILED, 9.0, attempts=2)
    story.worker("w1").registers(0.5).gets("e1", "j1", 2.0).finishes("e1", 2.5, success=False)
    story.worker("w1").renewed(4.0).gets("e2", "j1", 4.1, attempt=2).finishes("e2", 4.5, success=False)
    story.job("j1", JobState.FAILED).execution("e1", "j1", "failed", claimed=1.99)
    return story.execution("e2", "j1", "dead", attempt=2, delivery=2, claimed=4.09)


@breaks("ended_jobs_stay_ended")
def a_delivery_follows_a_success_in_the_database() -> Story:
    story = two_tries()
    return story.execution("e3", "j1", "failed", None, attempt=3, delivery=3)


@breaks("ended_jobs_stay_ended")
def a_delivery_follows_a_dead_letter_that_nobody_redrove() -> Story:
    return two_tries().execution("e1", "j1", "dead", claimed=1.99)


@nearly_breaks("ended_jobs_stay_ended")
def an_earlier_call_is_answered_later() -> Story:
    story = one_job()
    story.client.sees("j1", JobStatus.RUNNING, 3.5, asked=2.9)
    return story


@nearly_breaks("ended_jobs_stay_ended")
def a_redriven_dead_letter_goes_on_and_succeeds() -> Story:
    story = dead_letter()
    story.client.redrives("j1", 3.5).sees("j1", JobStatus.RUNNING, 4.2, attempts=2)
    story.client.sees("j1", JobStatus.SUCCEEDED, 5.0, attempts=2)
    return second_life(story)


@nearly_breaks("ended_jobs_stay_ended")
def a_redrive_takes_effect_though_its_answer_was_unclear() -> Story:
    story = dead_letter()
    story.client.redrives("j1", 3.5, code="DEADLINE_EXCEEDED").sees("j1", JobStatus.PENDING, 9.0)
    return second_life(story)


# --- one_key_is_one_job -----------------------------------------------------------------------------------------------


@breaks("one_key_is_one_job")
def a_key_is_acked_for_two_jobs() -> Story:
    story = two_tries()
    story.client.acked("key of j1", "j2", 1.5)
    return story.job("j2", key="another key").execution("e4", "j2", "canceled", None)


@breaks("one_key_is_one_job")
def the_acked_job_has_another_key_in_the_database() -> Story:
    return one_job().job("j1", key="another key")


@breaks("one_key_is_one_job")
def a_key_is_refused_as_if_it_were_another_request() -> Story:
    story = one_job()
    story.client.tries("key of j1", 3.5).refused("key of j1", "ALREADY_EXISTS", 3.6)
    return story


@nearly_breaks("one_key_is_one_job")
def an_unclear_submit_is_repeated_and_acked_twice() -> Story:
    story = one_job()
    story.client.refused("key of j1", "DEADLINE_EXCEEDED", 0.9).tries("key of j1", 1.1).acked("key of j1", "j1", 1.2)
    return story


# --- seen_executions_exist --------------------------------------------------------------------------------------------


@breaks("seen_executions_exist")
def a_worker_saw_an_execution_that_the_database_does_not_know() -> Story:
    story = one_job()
    story.worker("w1").gets("e9", "j9", 2.6)
    return story


@breaks("seen_executions_exist")
def a_worker_saw_an_execution_under_another_job() -> Story:
    story = one_job()
    story.worker("w1").renewed(3.0).gets("e2", "j1", 3.1).finishes("e2", 3.2)
    return story.job("j2").execution("e2", "j2", claimed=3.05)


@breaks("seen_executions_exist")
def a_handler_saw_an_execution_that_the_database_does_not_know() -> Story:
    story = one_job()
    story.worker("w3").handles("e9", "j9", 2.0, 2.1)
    return story


@nearly_breaks("seen_executions_exist")
def a_worker_saw_an_execution_that_was_canceled_meanwhile() -> Story:
    story = Story()
    story.client.submits("j1", 1.0).sees("j1", JobStatus.CANCELED, 1.9)
    story.worker("w1").registers(0.5).gets("e1", "j1", 2.0).finishes("e1", 2.1, outcome=Outcome.STALE)
    return story.job("j1", JobState.CANCELED).execution("e1", "j1", "canceled", claimed=1.5)


# --- successes_were_seen ----------------------------------------------------------------------------------------------


@breaks("successes_were_seen")
def an_execution_succeeded_that_nobody_saw() -> Story:
    story = two_tries()
    story.client.submits("j2", 1.0)
    return story.job("j2").execution("e4", "j2", claimed=1.99)


@breaks("successes_were_seen")
def an_execution_succeeded_at_another_worker_than_the_one_that_saw_it() -> Story:
    return one_job().execution("e1", "j1", worker="w2", claimed=1.99)


@nearly_breaks("successes_were_seen")
def an_execution_was_seen_by_a_handler_only() -> Story:
    story = Story()
    story.client.submits("j1", 1.0)
    story.worker("w3").handles("e1", "j1", 2.0, 2.1)
    return story.job("j1").execution("e1", "j1", worker="w3", claimed=1.99)


@nearly_breaks("successes_were_seen")
def a_failed_execution_was_lost_before_anybody_saw_it() -> Story:
    story = two_tries()
    story.client.submits("j2", 1.0)
    story.worker("w2").renewed(8.0).gets("e5", "j2", 8.1, attempt=2).finishes("e5", 8.2)
    story.job("j2").execution("e4", "j2", "lost", claimed=1.99)
    return story.execution("e5", "j2", worker="w2", attempt=2, delivery=2, claimed=8.0)


# --- priority_is_kept -------------------------------------------------------------------------------------------------


@breaks("priority_is_kept")
def a_lower_priority_is_claimed_while_a_higher_one_waits() -> Story:
    return overtaken()


@breaks("priority_is_kept")
def a_higher_priority_is_never_claimed_and_canceled_later() -> Story:
    story = overtaken()
    story.client.submits("highest", 10.0, priority=9)
    return story.job("highest", JobState.CANCELED, priority=9).execution(
        "e9", "highest", "canceled", None, finished=13.9
    )


@breaks("priority_is_kept")
def the_order_is_broken_while_a_worker_is_killed() -> Story:
    story = overtaken()
    story.nemesis.breaks(FaultKind.WORKER, 11.0, 13.0)
    return story


@breaks("priority_is_kept")
def the_order_is_broken_long_after_a_fault() -> Story:
    story = overtaken()
    story.nemesis.breaks(FaultKind.REDIS, 5.0, 6.9)
    return story


@breaks("priority_is_kept")
def the_order_is_broken_while_a_scheduler_is_killed_that_has_nothing_to_repair() -> Story:
    story = overtaken()
    story.nemesis.breaks(FaultKind.REDIS, 5.0, 6.9)
    story.nemesis.breaks(FaultKind.SCHEDULER, 11.95, 13.0)
    return story


@nearly_breaks("priority_is_kept")
def the_higher_priority_was_acked_less_than_a_second_before() -> Story:
    return overtaken(acked=11.01)


@nearly_breaks("priority_is_kept")
def the_higher_priority_is_claimed_right_after() -> Story:
    return overtaken(claimed=12.9)


@nearly_breaks("priority_is_kept")
def equal_priorities_may_be_claimed_in_any_order() -> Story:
    return overtaken(priority=0)


@nearly_breaks("priority_is_kept")
def the_order_is_broken_during_a_fault_of_redis() -> Story:
    story = overtaken()
    story.nemesis.breaks(FaultKind.REDIS, 11.0, 12.5)
    return story


@nearly_breaks("priority_is_kept")
def the_order_is_broken_right_after_a_fault_of_the_gateway() -> Story:
    story = overtaken()
    story.nemesis.breaks(FaultKind.GATEWAY, 7.0, 8.0)
    return story


@nearly_breaks("priority_is_kept")
def the_order_is_broken_after_a_fault_of_redis_that_schedulers_could_not_repair() -> Story:
    story = overtaken()
    story.nemesis.breaks(FaultKind.REDIS, 3.0, 4.0)
    story.nemesis.breaks(FaultKind.SCHEDULER, 5.0, 6.0)
    story.nemesis.breaks(FaultKind.POSTGRES, 10.0, 10.5)
    return story


@nearly_breaks("priority_is_kept")
def the_order_is_broken_during_a_fault_that_is_never_undone() -> Story:
    story = overtaken()
    story.nemesis.breaks(FaultKind.CONTROL_PLANE, 8.0, None)
    return story


# ----------------------------------------------------------------------------------------------------------------------


def _name(value: object) -> str:
    return value if isinstance(value, str) else getattr(value, "__name__", repr(value))


@pytest.mark.parametrize(("rule", "tell"), BROKEN, ids=_name)
def test_broken_history_is_reported_by_its_rule_and_no_other(rule: str, tell: Tell) -> None:
    story = tell()
    violations = check(story.ledgers(), story.database())
    assert {violation.rule for violation in violations} == {rule}, "\n".join(map(str, violations))


@pytest.mark.parametrize(("rule", "tell"), SOUND, ids=_name)
def test_near_miss_is_not_reported(rule: str, tell: Tell) -> None:
    story = tell()
    assert not check(story.ledgers(), story.database())


@pytest.mark.parametrize("tell", [one_job, two_tries, dead_letter], ids=_name)
def test_sound_history_is_not_reported(tell: Tell) -> None:
    story = tell()
    assert not check(story.ledgers(), story.database())


def test_every_rule_has_broken_histories_and_near_misses() -> None:
    names = {rule.__name__ for rule in RULES}
    assert {rule for rule, _ in BROKEN} == names
    assert {rule for rule, _ in SOUND} == names


def test_every_overlap_with_a_long_hold_is_reported() -> None:
    story = held_by_another(a_short_overlap_lies_within_a_long_hold_that_began_before_others(), 4.0, attempt=3)
    violations = check(story.ledgers(), story.database())
    assert [violation.rule for violation in violations] == ["leases_exclude_each_other"] * 2


def test_violation_names_job_executions_workers_times_and_files() -> None:
    story = held_by_another(held_by_one(), 4.99)
    [violation] = check(story.ledgers(), story.database())
    assert str(violation) == (
        "leases_exclude_each_other: j1: for 10.000 ms two held it: "
        "e1 was held by w1 from 2.100000 s until 5.000000 s, the end of its lease (w1.ledger); "
        "e2 was held by w2 from 4.990000 s until 5.480000 s, its result (w2.ledger)"
    )
