"""The session that stands in for an engine: it refuses what an engine of this version would refuse."""

from collections.abc import Iterator

import dagger
import pytest
from dagger import dag

from session import schema
from session.execution import Execution
from session.recipe import Recipe, decode
from session.server import FunctionCall, SessionServer


@pytest.fixture
def call(session_server: SessionServer) -> Iterator[FunctionCall]:
    call = FunctionCall("", "", "", {}, Execution())
    with session_server.serving(call):
        yield call


def test_the_schema_has_every_field_that_the_generated_client_can_select() -> None:
    source = schema.installed().read_text("utf-8")
    derived = schema.derive(schema.installed()).schema
    fields = [field for kind in derived.type_map.values() for field in getattr(kind, "fields", {}) or {}]
    assert source.count("self._select(") > 500
    assert len(fields) >= source.count("self._select(")


def test_an_id_carries_the_whole_way_to_its_object() -> None:
    secret = Recipe("Secret", "secret", {"uri": "env:TOKEN"})
    container = Recipe(
        "Container", "withSecretVariable", {"name": "T", "secret": secret}, Recipe("Container", "container", {})
    )
    assert decode(container.id) == container
    assert [step.field for step in container.unfold()] == ["container", "secret", "withSecretVariable"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("{ container { withExecs(args: []) { id } } }", "Cannot query field 'withExecs' on type 'Container'"),
        ("{ container { withExec(argv: []) { id } } }", "Unknown argument 'argv' on field 'Container.withExec'"),
        ("{ container { withExec { id } } }", "of type '[String!]!' is required, but it was not provided"),
        ("{ container { withExec(args: 1) { id } } }", "String cannot represent a non string value"),
        ("{ container { withExec(args: [], expect: MAYBE) { id } } }", "does not exist in 'ReturnType' enum"),
        ("{ container }", "must have a selection of subfields"),
    ],
)
def test_a_query_that_does_not_fit_the_api_is_refused(
    session_server: SessionServer, call: FunctionCall, query: str, says: str
) -> None:
    answer = session_server.answer({"query": query}).decode()
    assert says in answer.replace('\\"', "'")
    assert len(call.refused) == 1


def test_an_object_of_another_type_is_refused(session_server: SessionServer, call: FunctionCall) -> None:
    secret = Recipe("Secret", "secret", {"uri": "env:TOKEN"}).id
    query = f'{{ container {{ withDirectory(path: "/", source: "{secret}") {{ id }} }} }}'
    assert "takes a Directory, and got a Secret" in session_server.answer({"query": query}).decode()


async def test_a_question_without_an_answer_is_an_error_and_not_empty(call: FunctionCall) -> None:
    async with await dagger.connect():
        with pytest.raises(dagger.QueryError, match=r"no answer for Container\.workdir"):
            await dag.container().workdir()
