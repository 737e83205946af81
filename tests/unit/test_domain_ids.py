"""Ids are made in order, are UUIDv7, and are read back only from exactly what was written."""

from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.domain.errors import InvalidRequest
from dispatchd.domain.ids import (
    ExecutionId,
    IdGenerator,
    JobId,
    format_execution_id,
    format_job_id,
    parse_execution_id,
    parse_job_id,
)

HEX = "0123456789abcdef" * 2


def generator(*times_ms: int) -> IdGenerator:
    """A generator whose clock shows these times, the last one for ever."""
    clock = list(times_ms)
    return IdGenerator(now_ns=lambda: 1_000_000 * (clock.pop(0) if len(clock) > 1 else clock[0]))


def time_ms(made: UUID) -> int:
    return made.int >> 80


def test_an_id_is_a_uuid_of_version_7_that_carries_the_time() -> None:
    made = generator(1_700_000_000_123).job_id()
    assert (made.version, made.variant) == (7, RFC_4122)
    assert time_ms(made) == 1_700_000_000_123


@given(st.lists(st.integers(min_value=0, max_value=2**40), min_size=1, max_size=50))
def test_ids_grow_strictly_whatever_the_clock_does(times_ms: list[int]) -> None:
    ids = generator(*times_ms)
    made: list[UUID] = [ids.job_id() if n % 2 else ids.execution_id() for n in range(len(times_ms) + 10)]
    assert all(earlier < later for earlier, later in pairwise(made))


def test_more_ids_than_the_counter_counts_in_one_millisecond_run_ahead_of_the_clock() -> None:
    ids = generator(1_000)
    made = [ids.job_id() for _ in range(3 * 4096)]
    assert sorted(made) == made
    assert len(set(made)) == len(made)
    assert {time_ms(job_id) for job_id in made} == {1_000, 1_001, 1_002}


def test_two_generators_at_the_same_moment_make_different_ids() -> None:
    assert len({generator(5).job_id() for _ in range(100)}) == 100


@given(st.uuids())
def test_what_is_written_is_read_back(any_id: UUID) -> None:
    assert parse_job_id(format_job_id(JobId(any_id))) == any_id
    assert parse_execution_id(format_execution_id(ExecutionId(any_id))) == any_id


def test_the_texts_are_those_of_the_contract() -> None:
    assert format_job_id(JobId(UUID(hex=HEX))) == f"job_{HEX}"
    assert format_execution_id(ExecutionId(UUID(hex=HEX))) == f"exec_{HEX}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        f"exec_{HEX}",
        f"job_{HEX[:-1]}",
        f"job_{HEX}0",
        f"job_{HEX.upper()}",
        f"job_job_{HEX}",
        f" job_{HEX}",
        f"job_{HEX}\n",
        f"job_{'٣' * 32}",
        f"job_{{{HEX[:30]}}}",
        f"job_{HEX[:8]}-{HEX[8:12]}-{HEX[12:31]}",
    ],
)
def test_anything_else_is_no_job_id(text: str) -> None:
    with pytest.raises(InvalidRequest, match="32 lower-case hexadecimal digits") as refused:
        parse_job_id(text, field="job_ids")
    assert refused.value.field == "job_ids"


@given(st.text())
def test_any_text_is_read_without_a_crash(text: str) -> None:
    assert parse_execution_id(text) is None or text == f"exec_{UUID(hex=text[5:]).hex}"
