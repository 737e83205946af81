"""What the gates read from a status file is what `dispatchd region status --json` writes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from dispatchd_infra.promotion.region_status import RegionStatus
from repositories import INFRA

POSITION: TypeAdapter[int] = TypeAdapter(RegionStatus.model_fields["wal_position"].rebuild_annotation())


def test_every_field_is_written_by_the_command() -> None:
    report = (INFRA.parent / "app" / "dispatchd" / "cli" / "region_report.py").read_text("utf-8")
    assert set(RegionStatus.model_fields) <= set(re.findall(r'^ +"([a-z_]+)": ', report, re.MULTILINE))


@given(st.integers(0, 2**64 - 1))
def test_a_position_is_a_number_of_bytes_that_only_grows(position: int) -> None:
    assert POSITION.validate_python(f"{position >> 32:X}/{position & 0xFFFFFFFF:X}") == position


@pytest.mark.parametrize("text", ["", "0", "/", "0/", "x/0", "0/123456789", "0/0/0", "-1/0", "0x1/0", 5])
def test_what_is_no_position_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        POSITION.validate_python(text)
