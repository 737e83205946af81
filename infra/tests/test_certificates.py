"""Certificates are for servers, and a new one is there before the old one ends."""

import re

import pytest

from dispatchd_infra.objects import Object
from dispatchd_infra.settings import ENVIRONMENTS, Stack
from rendered import Rendered, of_kind

OUTSIDE_DEVELOPMENT = [stack for stack in ENVIRONMENTS if stack is not Stack.DEV]


def _certificates(rendered: Rendered, stack: Stack) -> list[Object]:
    found = [each["spec"] for each in of_kind(rendered.overlays[stack], "Certificate")]
    assert found
    return found


def _hours(duration: str) -> int:
    [hours] = re.findall(r"^([0-9]+)h0m0s$", duration)
    return int(hours)


@pytest.mark.parametrize("stack", OUTSIDE_DEVELOPMENT)
def test_clients_accept_them_as_those_of_servers(rendered: Rendered, stack: Stack) -> None:
    for spec in _certificates(rendered, stack):
        assert "server auth" in spec["usages"], spec["secretName"]


@pytest.mark.parametrize("stack", OUTSIDE_DEVELOPMENT)
def test_a_renewal_may_fail_for_weeks_before_anything_ends(rendered: Rendered, stack: Stack) -> None:
    """cert-manager refuses one that is renewed before it begins."""
    for spec in _certificates(rendered, stack):
        assert 14 * 24 <= _hours(spec["renewBefore"]) < _hours(spec["duration"]), spec["secretName"]
