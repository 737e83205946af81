"""Every policy holds for what is rendered, and each would notice a breach: one object broken, and it alone objects."""

import pytest

from mutations import MUTATIONS, Mutation
from policies import POLICIES
from rendered import Policy, Rendered


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
def test_the_policy_holds(rendered: Rendered, policy: Policy) -> None:
    assert list(policy(rendered)) == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_breach_is_noticed_by_this_policy_alone(rendered: Rendered, mutation: Mutation) -> None:
    broken = rendered.copy()
    mutation.breaks(broken)

    assert broken != rendered, "the mutation changed nothing"
    assert {policy.__name__ for policy in POLICIES if list(policy(broken))} == {mutation.policy.__name__}


def test_every_policy_has_a_mutation() -> None:
    assert {mutation.policy for mutation in MUTATIONS} == set(POLICIES)
