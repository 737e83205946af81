"""What is drawn: the same for a seed every time, everything that can be called, and everything that can be said."""

import random
from collections import Counter
from itertools import islice

import jwt
import pytest
from google.protobuf.message import DecodeError

from dispatchd.adapters.tokens import TokenVerifier, shared_secret
from dispatchd.domain.access import AccessRole, check_may_call
from dispatchd.domain.errors import PermissionDenied, Unauthenticated
from dispatchd.v1 import dispatchd_pb2 as pb
from fuzz import credentials, live_ids, wire
from fuzz.cases import FORBIDDEN, Cases, Kind
from fuzz.counts import Counts
from fuzz.credentials import Shown
from fuzz.damage import damaged
from fuzz.messages import Messages
from fuzz.methods import CONNECT, LABELS, METHODS
from fuzz.values import Values
from tokens_for_tests import SECRET

COUNT = 4_000
VERIFIER = TokenVerifier([shared_secret(SECRET)], issuer="dispatchd", audience="dispatchd-clients")
OURS = [method for method in METHODS if "dispatchd" in method.path]


def test_a_seed_draws_the_same_cases_every_time_and_another_draws_others() -> None:
    cases = list(islice(Cases(5, auth=True), 300))
    assert cases == [Cases(5, auth=True).case(number) for number in range(300)]
    assert cases != list(islice(Cases(6, auth=True), 300))
    assert [case.messages for case in cases] != [case.messages for case in islice(Cases(5, auth=False), 300)]


def test_every_method_is_called_in_every_way() -> None:
    cases = list(islice(Cases(1, auth=True), COUNT))
    assert {case.method.label for case in cases} == {*LABELS, "unknown method"}
    assert {case.credential.shown for case in cases} == set(Shown)
    assert {case.kind for case in cases} == set(Kind)
    assert {case.credential.role for case in cases if case.credential.shown is Shown.GOOD} == set(AccessRole)
    for number in (0, 2):
        assert any(len(case.messages) == number for case in cases if case.kind is Kind.MISCOUNTED)


@pytest.mark.parametrize("method", OURS, ids=lambda method: method.label)
def test_every_field_is_set_and_every_request_is_mostly_well_formed(method: object) -> None:
    assert any(method is each for each in OURS)
    kind = next(each for each in OURS if each is method).request
    chance = random.Random(1)
    messages = Messages(chance, Values(chance, "fuzz", "fuzz-worker-1"))
    seen: Counter[str] = Counter()
    for _ in range(400):
        message = kind.FromString(messages.encoded(kind, 0.3))
        seen.update(field.name for field, _ in message.ListFields())
    assert set(seen) == {field.name for field in kind.DESCRIPTOR.fields}


def test_a_conversation_says_everything_in_every_place() -> None:
    parts = {field.name for field in pb.ConnectRequest.DESCRIPTOR.fields}
    first: set[str | None] = set()
    later: set[str | None] = set()
    for case in islice(Cases(2, auth=False), COUNT):
        if case.method is CONNECT:
            for number, message in enumerate(case.messages):
                try:
                    said = pb.ConnectRequest.FromString(message).WhichOneof("payload")
                except DecodeError:
                    continue
                (later if number else first).add(said)
    assert parts <= first
    assert parts <= later


def test_damage_breaks_some_messages_and_leaves_others_readable() -> None:
    chance = random.Random(3)
    message = pb.GetJobRequest(job_id=live_ids.job(1)).SerializeToString()
    broken = 0
    for _ in range(500):
        try:
            pb.GetJobRequest.FromString(damaged(chance, message))
        except DecodeError:
            broken += 1
    assert 100 < broken < 450


def test_encodings_are_those_of_protobuf() -> None:
    request = pb.SubmitJobRequest(job_type="a", priority=300)
    assert wire.delimited(1, b"a") + wire.tag(3, wire.VARINT) + wire.varint(300) == request.SerializeToString()
    deep = pb.SubmitJobsRequest.FromString(wire.nested(1, 2))
    assert deep == pb.SubmitJobsRequest(items=[pb.SubmitJobsItem(request=pb.SubmitJobRequest())])


# --- tokens ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [method.label for method in OURS])
def test_good_tokens_let_in_and_all_others_do_not(label: str) -> None:
    chance = random.Random(label)
    for _ in range(100):
        [(_, header)] = credentials.good(chance, label, "w").headers()
        check_may_call(VERIFIER.identify(str(header)), label)
        credential = credentials.refused(chance, label)
        headers = dict(credential.headers())
        given = str(headers["authorization"]) if headers else None
        with pytest.raises((Unauthenticated, PermissionDenied)) as refusal:
            check_may_call(VERIFIER.identify(given), label)
        assert (refusal.type is PermissionDenied) == (credential.shown is Shown.OTHER_ROLE)


def test_a_wrong_token_is_wrong_in_one_thing_alone() -> None:
    for shown in (Shown.EXPIRED, Shown.NOT_YET, Shown.OTHER_AUDIENCE, Shown.FORGED, Shown.HUGE):
        [(_, header)] = credentials.Credential(shown).headers()
        claims = jwt.decode(str(header).partition(" ")[2], options={"verify_signature": False})
        assert claims["roles"] == ["admin"]
        assert claims["iss"] == "dispatchd"


def test_who_may_not_call_asks_only_for_what_can_be_told_apart() -> None:
    named = 0
    for case in islice(Cases(1, auth=True), COUNT):
        if case.method.label != "JobService.SubmitJob" or case.kind is not Kind.WELL_FORMED:
            continue
        job_type = pb.SubmitJobRequest.FromString(case.messages[0]).job_type
        is_refused = case.credential.shown is not Shown.GOOD
        assert not job_type.startswith("fuzz-" if is_refused else FORBIDDEN)
        named += job_type.startswith(FORBIDDEN)
    assert named > 20


# --- ids ------------------------------------------------------------------------------------------------------------


def test_placeholders_become_ids_that_exist() -> None:
    ids = live_ids.LiveIds()
    job, own, other = (prefix + digit * 32 for prefix, digit in (("job_", "1"), ("exec_", "2"), ("exec_", "3")))
    said = " ".join([live_ids.job(7), live_ids.own_execution(7), live_ids.any_execution(7), "job_" + "f" * 31])
    assert ids.put_into(said.encode()).decode() == said
    ids.jobs.append(job)
    ids.executions.append(other)
    assert ids.put_into(said.encode(), [own]).decode() == f"{job} {own} {other} job_{'f' * 31}"


def test_too_little_is_said_of_a_run_that_reached_nothing() -> None:
    sentences = " ".join(Counts(auth=True).too_little())
    for label in LABELS:
        assert label in sentences
    assert "nobody was refused for his role" in sentences
