"""What a worker may say of itself, and how its texts are cut to what can be stored."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.domain import limits
from dispatchd.domain.errors import InvalidRequest
from dispatchd.domain.ids import ExecutionId
from dispatchd.domain.worker import (
    Registration,
    check_registration,
    first_parts,
    slots_of,
    stored_labels,
    stored_text,
)

PLAIN = Registration("worker-1", ("email",), 4)


@pytest.mark.parametrize(
    "registration",
    [
        PLAIN,
        replace(PLAIN, worker_id="é" * 100),
        replace(PLAIN, capabilities=tuple(f"c{n}" for n in range(64))),
        replace(PLAIN, capabilities=("a" * 200,)),
        replace(PLAIN, labels={str(n): "" for n in range(64)}),
        replace(PLAIN, resumes=True, process_id="p" * 200, held=(ExecutionId(UUID(int=1)),) * 10_000),
    ],
    ids=lambda registration: repr(registration)[:60],
)
def test_a_registration_within_the_bounds_is_taken(registration: Registration) -> None:
    check_registration(registration)


@pytest.mark.parametrize(
    ("registration", "field"),
    [
        (replace(PLAIN, worker_id=""), "worker_id"),
        (replace(PLAIN, worker_id="é" * 100 + "a"), "worker_id"),
        (replace(PLAIN, worker_id="a\0"), "worker_id"),
        (replace(PLAIN, capabilities=()), "capabilities"),
        (replace(PLAIN, capabilities=("",)), "capabilities"),
        (replace(PLAIN, capabilities=("a" * 201,)), "capabilities"),
        (replace(PLAIN, capabilities=("a b",)), "capabilities"),
        (replace(PLAIN, capabilities=tuple(f"c{n}" for n in range(65))), "capabilities"),
        (replace(PLAIN, labels={"a": "\0"}), "labels"),
        (replace(PLAIN, labels={str(n): "" for n in range(65)}), "labels"),
        (replace(PLAIN, process_id="p" * 201), "process_id"),
        (replace(PLAIN, resumes=True), "process_id"),
        (replace(PLAIN, held=(ExecutionId(UUID(int=1)),) * 10_001), "held_execution_ids"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_registration_past_a_bound_is_refused_with_its_field(registration: Registration, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_registration(registration)
    assert refused.value.field == field


def test_a_dotted_capability_means_its_first_part_and_counts_once() -> None:
    assert first_parts(["email.send", "report", "email.read", "report"]) == ("email", "report")


@pytest.mark.parametrize(
    ("declared", "slots"), [(-(2**31), 1), (0, 1), (1, 1), (7, 7), (1_000, 1_000), (2**31 - 1, 1_000)]
)
def test_a_worker_has_between_one_and_a_thousand_slots(declared: int, slots: int) -> None:
    assert slots_of(declared) == slots


@given(st.text(), st.integers(0, 30))
def test_a_text_is_stored_without_nul_and_cut_at_a_character(text: str, most_bytes: int) -> None:
    stored = stored_text(text, most_bytes)
    assert "\0" not in stored
    assert len(stored.encode()) <= most_bytes
    assert text.replace("\0", "\ufffd").startswith(stored)
    if len(text.replace("\0", "\ufffd").encode()) <= most_bytes:
        assert stored == text.replace("\0", "\ufffd")


@given(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=80))
def test_labels_are_cut_to_64_entries_that_fit(labels: dict[str, str]) -> None:
    stored = stored_labels(labels)
    assert len(stored) <= limits.METADATA_ENTRIES
    assert not any("\0" in text for pair in stored.items() for text in pair)
    if len(labels) <= limits.METADATA_ENTRIES and not any("\0" in text for pair in labels.items() for text in pair):
        assert stored == labels


def test_labels_of_too_many_bytes_are_cut_to_those_that_fit() -> None:
    stored = stored_labels({f"{n:02}": "v" * 1_000 for n in range(40)})
    assert list(stored) == [f"{n:02}" for n in range(16)]
