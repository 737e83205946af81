"""Who may call what: the table of the wire contract, method by method and role by role."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.domain.access import ANONYMOUS, METHODS, AccessRole, Identity, check_may_call, check_worker_id
from dispatchd.domain.errors import PermissionDenied
from dispatchd.v1 import dispatchd_pb2 as pb

SUBMITTER, VIEWER, OPERATOR, WORKER, SERVICE, ADMIN = AccessRole
REFLECTION = "ServerReflection.ServerReflectionInfo"
TABLE = {
    "JobService.SubmitJob": {SUBMITTER, OPERATOR, ADMIN},
    "JobService.SubmitJobs": {SUBMITTER, OPERATOR, ADMIN},
    "JobService.GetJob": {SUBMITTER, VIEWER, OPERATOR, ADMIN},
    "JobService.WaitJob": {SUBMITTER, VIEWER, OPERATOR, ADMIN},
    "JobService.ListExecutions": {SUBMITTER, VIEWER, OPERATOR, ADMIN},
    "JobService.CancelJob": {OPERATOR, ADMIN},
    "OperatorService.ListDeadLetters": {VIEWER, OPERATOR, ADMIN},
    "OperatorService.ListWorkers": {VIEWER, OPERATOR, ADMIN},
    "OperatorService.ListQueues": {VIEWER, OPERATOR, ADMIN},
    "OperatorService.RedriveDeadLetters": {OPERATOR, ADMIN},
    "WorkerService.Connect": {WORKER, SERVICE, OPERATOR, ADMIN},
}


def may(identity: Identity, method: str) -> bool:
    try:
        check_may_call(identity, method)
    except PermissionDenied:
        return False
    return True


@pytest.mark.parametrize("role", AccessRole)
def test_each_role_may_call_what_the_table_says_and_nothing_else(role: AccessRole) -> None:
    someone = Identity("someone", frozenset({role}))
    assert {method for method in TABLE if may(someone, method)} == {m for m, roles in TABLE.items() if role in roles}


@given(st.sets(st.sampled_from(AccessRole)), st.sampled_from(sorted(METHODS)) | st.text(max_size=40))
def test_any_roles_may_together_what_one_of_them_may(roles: set[AccessRole], method: str) -> None:
    allowed = TABLE.get(method, set(AccessRole) if method == REFLECTION else set())
    assert may(Identity("someone", frozenset(roles)), method) == bool(roles & allowed)


def test_every_method_of_the_contract_stands_in_the_table() -> None:
    methods = {
        f"{service.name}.{method.name}"
        for service in pb.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == set(TABLE) == set(METHODS) - {REFLECTION}


def test_roles_add_up_and_none_means_nothing() -> None:
    assert may(Identity("x", frozenset({VIEWER, SUBMITTER})), "JobService.SubmitJob")
    assert not any(may(Identity("x", frozenset()), method) for method in METHODS)
    assert not may(Identity("x", frozenset(AccessRole)), "JobService.NoSuchMethod")


def test_a_refusal_names_what_is_needed_and_what_there_is() -> None:
    with pytest.raises(
        PermissionDenied, match=r"CancelJob needs one of the roles admin, operator; this token has viewer"
    ):
        check_may_call(Identity("x", frozenset({VIEWER})), "JobService.CancelJob")


@pytest.mark.parametrize(
    ("identity", "worker_id", "allowed"),
    [
        (Identity("w1", frozenset({WORKER})), "w1", True),
        (Identity("w1", frozenset({WORKER})), "w2", False),
        (Identity("w1", frozenset({WORKER}), worker_id="w1"), "w1", True),
        (Identity("w1", frozenset({WORKER}), worker_id="w2"), "w1", False),
        (Identity("w1", frozenset({WORKER}), worker_id="w2"), "w2", False),
        (Identity("fleet", frozenset({SERVICE})), "w2", True),
        (Identity("fleet", frozenset({WORKER, SERVICE})), "w2", True),
        (Identity("ops", frozenset({OPERATOR})), "w2", True),
        (ANONYMOUS, "w2", True),
    ],
)
def test_a_worker_is_who_its_token_names(identity: Identity, worker_id: str, allowed: bool) -> None:
    if allowed:
        check_worker_id(identity, worker_id)
        return
    with pytest.raises(PermissionDenied, match="this token is for worker"):
        check_worker_id(identity, worker_id)


@pytest.mark.parametrize("identity", [ANONYMOUS, Identity("fleet", frozenset({SERVICE}))])
def test_its_certificate_has_to_name_it_too_where_that_is_asked_for(identity: Identity) -> None:
    named = replace(identity, certificate_names=("host-1", "w2"))
    check_worker_id(named, "w2", by_certificate=True)
    for other in (identity, replace(identity, certificate_names=("w22",))):
        with pytest.raises(PermissionDenied, match="certificate"):
            check_worker_id(other, "w2", by_certificate=True)
