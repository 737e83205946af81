"""Fixtures for all tests of infra/."""

import pytest
from hypothesis import settings

from rendered import Rendered, render_all

# Timing never decides a test.
settings.register_profile("infra", deadline=None)
settings.load_profile("infra")


@pytest.fixture(scope="session")
def rendered() -> Rendered:
    """All rendered objects, built once a session. Tests that change some take a `copy()`."""
    return render_all()
