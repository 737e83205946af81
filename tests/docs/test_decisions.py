"""What the pages in docs/adr/ say is so, and each of them is listed."""

import re
from pathlib import Path

import asyncpg
import pytest

from dispatchd.adapters.grpc import job_service, operator_service, worker_service
from dispatchd.adapters.grpc.job_service import JobService
from dispatchd.adapters.grpc.operator_service import OperatorService
from dispatchd.domain.execution import ExecutionState
from dispatchd.domain.job import JobState
from dispatchd.v1 import dispatchd_pb2 as pb

FOLDER = Path(__file__).parents[2] / "docs" / "adr"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))

FOREIGN_KEYS = "select conname from pg_constraint where contype = 'f' and connamespace = 'public'::regnamespace"
CHECKS = """
select pg_get_constraintdef(c.oid)
from pg_constraint c
where c.contype = 'c' and c.conrelid = $1::regclass and pg_get_constraintdef(c.oid) like '%(state = ANY%'
"""
INDEXES = "select indexdef from pg_indexes where schemaname = 'public' and tablename = 'executions'"


def test_every_decision_is_listed_with_its_number_and_has_the_three_sections() -> None:
    index = (FOLDER / "README.md").read_text("utf-8")
    assert re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", index) == [page.name for page in PAGES]
    for number, page in enumerate(PAGES, start=1):
        text = page.read_text("utf-8")
        assert text.startswith(f"# {number:04}: "), page.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], page.name


async def test_no_table_has_a_foreign_key(database_url: str) -> None:
    assert await _column(database_url, FOREIGN_KEYS) == []


@pytest.mark.parametrize(("table", "states"), [("jobs", JobState), ("executions", ExecutionState)])
async def test_the_states_in_the_database_are_those_of_the_domain(
    database_url: str, table: str, states: type[JobState] | type[ExecutionState]
) -> None:
    # Other checks name a few of the states; the longest names all.
    check = max(await _column(database_url, CHECKS, table), key=len)
    assert set(re.findall(r"'(\w+)'", check)) == {state.value for state in states}


async def test_the_index_for_claims_holds_only_what_can_start(database_url: str) -> None:
    [ready] = [index for index in await _column(database_url, INDEXES) if "executions_ready " in index]
    assert ready.endswith("WHERE (state = 'queued'::text)")


async def test_payloads_are_in_a_table_that_no_change_of_state_writes(database_url: str) -> None:
    tables = (
        "select table_name from information_schema.columns where column_name = 'payload' and table_schema = 'public'"
    )
    assert await _column(database_url, tables) == ["job_inputs"]
    updates = [
        path.name
        for path in Path(worker_service.__file__).parents[1].rglob("*.sql")
        if re.search(r"\bupdate\s+job_inputs\b", path.read_text("utf-8"))
    ]
    assert updates == []


def test_every_method_of_the_contract_is_registered() -> None:
    services = pb.DESCRIPTOR.services_by_name
    registered = {
        job_service.NAME: set(JobService.handlers(JobService.__new__(JobService))),
        operator_service.NAME: set(OperatorService.handlers(OperatorService.__new__(OperatorService))),
        worker_service.NAME: {worker_service.METHOD},
    }
    assert registered == {
        service.full_name: {method.name for method in service.methods} for service in services.values()
    }


async def _column(database_url: str, query: str, *arguments: str) -> list[str]:
    connection = await asyncpg.connect(database_url)
    try:
        return [row[0] for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()
