"""Every policy holds for what is rendered, and each would notice a breach: one object broken, and it alone objects."""

import pytest

from breaches import BREACHES, Breach
from policies import POLICIES
from rendered import Policy, Rendered


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
def test_the_policy_holds(rendered: Rendered, policy: Policy) -> None:
    assert list(policy(rendered)) == []


@pytest.mark.parametrize("breach", BREACHES, ids=str)
def test_a_breach_is_noticed_by_this_policy_alone(rendered: Rendered, breach: Breach) -> None:
    broken = rendered.copy()
    breach.breaks(broken)

    assert broken != rendered, "nothing was broken"
    assert {policy.__name__ for policy in POLICIES if list(policy(broken))} == {breach.policy.__name__}


def test_there_is_a_breach_for_every_policy() -> None:
    assert {breach.policy for breach in BREACHES} == set(POLICIES)
