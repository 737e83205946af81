"""What is told of an answer: whatever must not happen is a complaint."""

import pytest
from grpc import StatusCode as Code

from dispatchd.domain.access import AccessRole
from fuzz.cases import Case, Kind
from fuzz.credentials import NO_CREDENTIAL, Credential, Shown
from fuzz.judge import ANSWERS, what_is_wrong
from fuzz.methods import LABELS, METHODS, Method
from fuzz.role_logs import RoleLogs
from fuzz.sender import Outcome

GOOD = Credential(Shown.GOOD, "admin", AccessRole.ADMIN)


def method(label: str) -> Method:
    return next(each for each in METHODS if each.label == label)


def case(label: str, credential: Credential = NO_CREDENTIAL) -> Case:
    return Case(1, method(label), Kind.WELL_FORMED, (b"",), credential=credential)


def test_every_method_has_its_answers() -> None:
    assert set(ANSWERS) == {*LABELS, "unknown method"}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("auth", [False, True])
def test_answers_that_no_method_may_give(label: str, auth: bool) -> None:
    for credential in (NO_CREDENTIAL, GOOD):
        for code in (Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS, Code.CANCELLED, Code.UNAVAILABLE):
            assert code.name in what_is_wrong(case(label, credential), Outcome(code, "Socket closed"), auth=auth)
        assert what_is_wrong(case(label, credential), Outcome(None), auth=auth) == "the call hangs"
        assert what_is_wrong(case(label, credential), Outcome(Code.OK, unreadable="it"), auth=auth)


def test_a_call_without_a_token_must_be_refused_where_tokens_are_asked_for() -> None:
    stranger, known = case("JobService.GetJob"), case("JobService.GetJob", GOOD)
    for code in (Code.OK, Code.NOT_FOUND, Code.INVALID_ARGUMENT):
        assert what_is_wrong(stranger, Outcome(code), auth=True)
        assert not what_is_wrong(stranger, Outcome(code), auth=False)
        assert not what_is_wrong(known, Outcome(code), auth=True)
    for code in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED):
        assert not what_is_wrong(stranger, Outcome(code), auth=True)
        assert what_is_wrong(stranger, Outcome(code), auth=False)
        assert what_is_wrong(known, Outcome(code), auth=True)
    assert not what_is_wrong(case("Health.Check"), Outcome(Code.OK), auth=True)


def test_the_answer_of_a_bound_is_known_by_its_words() -> None:
    busy = "10000 calls wait already; try again in 1 s"
    assert not what_is_wrong(case("JobService.WaitJob"), Outcome(Code.RESOURCE_EXHAUSTED, busy), auth=False)
    assert what_is_wrong(case("JobService.WaitJob"), Outcome(Code.RESOURCE_EXHAUSTED, "out of memory"), auth=False)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"level":"info","message":"serving"}', ""),
        ('{"level":"warning","message":"a worker id was taken over"}', ""),
        ('{"level":"error","message":"a handler failed"}', "an error"),
        ('{"level":"info","message":"x","exception":"Traceback"}', "a traceback"),
        ("Exception ignored in: <function x>", "what is no JSON"),
        ("3", "what is no object"),
    ],
)
def test_lines_that_a_role_must_not_write(tmp_path_factory: pytest.TempPathFactory, line: str, complaint: str) -> None:
    folder = tmp_path_factory.mktemp("logs")
    with RoleLogs(folder) as logs:
        logs.take("scheduler", line)
    assert (folder / "scheduler.log").read_text() == f"{line}\n"
    assert [sentence.split(":")[0] for sentence in logs.complaints] == (
        [f"scheduler wrote {complaint}"] if complaint else []
    )
