"""Programs that use the SDK are checked by mypy: types go from a task's signature to its submits and results."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from typing import Any, assert_type

from dispatchd import AsyncClient, Client, DispatchdError, Job, Submission, Task, TaskContext, Worker

worker = Worker()

@worker.task("report.render")
async def render(pages: int) -> str:
    return ""

@worker.task("report.list", timeout=3, max_attempts=2)
async def titles(pages: int, context: TaskContext) -> list[str]:
    return []

@worker.task("report.reverse")
def reverse(data: bytes) -> bytes:
    return data

@worker.task("report.keep")
def keep(pages: dict[str, int], context: TaskContext) -> None: ...

@worker.task("report.tick")
async def tick() -> int:
    return 1

assert_type(render, Task[int, str])
assert_type(titles, Task[int, list[str]])
assert_type(reverse, Task[bytes, bytes])
assert_type(keep, Task[dict[str, int], None])
assert_type(tick, Task[None, int])

async def main() -> None:
    async with AsyncClient() as client:
        job = await client.submit(render, 3, priority=1)
        assert_type(job, Job)
        assert_type(await client.result(job, render), str)
        assert_type(await client.result(job, list[int]), list[int])
        assert_type(await client.result(job), Any)
        await client.submit("report.other", object(), timeout=5)
        await client.submit(tick, None)
        many = await client.submit_many([Submission(job_type=render, payload=1)])
        assert_type(many, list[Job | DispatchdError])

def plain() -> None:
    with Client() as client:
        assert_type(client.result(client.submit(titles, 3), titles), list[str])
"""
WRONG = ['await client.submit(render, "three")', "await client.submit(render, 3, priorty=1)"]


def check(program: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(program)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)


def test_tasks_clients_and_results_are_typed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    checked = check(program)
    assert (checked.stdout, checked.returncode) == ("", 0)


def test_a_payload_or_an_option_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("\ndef plain", "".join(f"        {line}\n" for line in WRONG) + "\ndef plain"))
    lines = program.read_text().splitlines()
    errors = [line for line in check(program).stdout.splitlines() if ": error:" in line]
    assert {lines[int(error.split(":")[1]) - 1].strip() for error in errors} == set(WRONG)
