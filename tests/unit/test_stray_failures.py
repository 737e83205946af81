"""What fails in the background of a role, and nobody waits for."""

import asyncio
import logging
import ssl

import pytest

from dispatchd.entrypoints.lifecycle import _on_stray_failure


@pytest.mark.parametrize(
    ("exc", "level", "has_trace"),
    [(ssl.SSLCertVerificationError("not trusted"), logging.INFO, False), (ValueError("a defect"), logging.ERROR, True)],
)
async def test_a_connection_that_fails_is_no_defect(
    caplog: pytest.LogCaptureFixture, exc: Exception, level: int, has_trace: bool
) -> None:
    caplog.set_level(logging.INFO)
    context = {"message": "Future exception was never retrieved", "exception": exc}
    _on_stray_failure(asyncio.get_running_loop(), context)
    [told] = caplog.records
    assert told.levelno == level
    assert (told.exc_info is not None) is has_trace
    assert str(exc) in str(vars(told))
