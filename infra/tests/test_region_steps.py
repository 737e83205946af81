"""After every step of a region switch all that is checked of gitops/ still holds, or nobody could merge it."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from dispatchd_infra.promotion import steps
from dispatchd_infra.region_state import Regions
from dispatchd_infra.settings import Stack
from policies import POLICIES
from rendered import Rendered, at_another_step
from schema_checks import schema_findings

A, B = Stack.PROD_REGION_A, Stack.PROD_REGION_B
Walk = Mapping[str, Callable[[Regions], Regions]]

PLANNED: Walk = {
    "bootstrap-passive": partial(steps.bootstrap_passive, stack=B),
    "rebuild of the passive region": partial(steps.rebuild, stack=B),
    "demote": partial(steps.demote, stack=A),
    "promote": partial(steps.promote, stack=B, token="dG9rZW4="),
    "switch": partial(steps.switch, stack=B, epoch=2),
    "finish": partial(steps.finish, stack=B),
}
UNPLANNED: Walk = {
    "bootstrap-passive": partial(steps.bootstrap_passive, stack=B),
    "promote --unplanned": partial(steps.promote_unplanned, stack=B),
    "switch after it": partial(steps.switch, stack=B, epoch=2),
    "rebuild": partial(steps.rebuild, stack=A),
}


def _states(walk: Walk) -> Iterator[tuple[str, Regions]]:
    state = Regions.at_first(A)
    for name, step in walk.items():
        state = step(state)
        yield name, state


STATES = dict([*_states(PLANNED), *_states(UNPLANNED)])


@pytest.mark.parametrize("step", STATES)
def test_everything_holds_after_this_step_of_a_region_switch(rendered: Rendered, step: str, tmp_path: Path) -> None:
    after = at_another_step(rendered, STATES[step], tmp_path)

    assert [finding for policy in POLICIES for finding in policy(after)] == []
    assert [finding for each in after.overlays[B] for finding in schema_findings(each)] == []
