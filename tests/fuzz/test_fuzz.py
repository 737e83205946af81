"""Hostile messages to real processes: no crash, no wrong answer, no growth, and all is well afterwards.

Left out by default because it takes half a minute: `pytest -m fuzz`. FUZZ_MESSAGES and FUZZ_SEED change how many there
are and which; `python -m fuzz.run` says more while it runs.
"""

import os
from pathlib import Path

import pytest

from fuzz.campaign import fuzz

MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "5000"))
SEED = int(os.environ.get("FUZZ_SEED", "20"))

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(300 + MESSAGES // 20)]


async def test_whatever_is_sent_the_answer_is_right_and_nobody_else_is_harmed(tmp_path: Path) -> None:
    lines: list[str] = []
    reports = await fuzz(tmp_path / "site", SEED, MESSAGES, lines.append)
    assert [report.auth for report in reports] == [False, True]
    assert sum(report.counts.messages for report in reports) >= MESSAGES
    complaints = [complaint for report in reports for complaint in report.complaints]
    assert not complaints, "\n".join([f"seed {SEED}, logs in {tmp_path}", *complaints, *lines])
