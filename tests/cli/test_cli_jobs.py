"""The commands that talk to a control-plane, against real roles and a worker of the SDK."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import pytest_asyncio

from command_line import CommandLine
from databases import cloned_database
from dispatchd import Fail, Retry, TaskContext, Worker
from dispatchd.entrypoints.embedded import EmbeddedPostgres, EmbeddedValkey
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.role_process import PROGRAM
from dispatchd.entrypoints.settings import Role
from waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN_JOB = "job_0199a1b2c3d4e5f60718293a4b5c6d7e"
JOB_KEYS = {
    "job_id", "job_type", "status", "priority", "attempts", "last_error", "idempotency_key", "metadata",
    "retry_policy", "timeout_s", "run_at", "created_at", "updated_at", "payload", "result",
}  # fmt: skip


def make_worker(target: str) -> Worker:
    worker = Worker(target, worker_id="cli-worker", max_concurrency=3, labels={"zone": "a"})

    @worker.task("text.upper")
    async def upper(payload: dict[str, str], context: TaskContext) -> dict[str, str]:
        return {key: value.upper() for key, value in payload.items()} | dict(context.metadata)

    @worker.task("bytes.reverse")
    async def reverse(payload: bytes) -> bytes:
        return payload[::-1]

    @worker.task("text.fail")
    async def fail(payload: dict[str, str]) -> None:
        raise Fail("the printer\nis on fire")

    @worker.task("text.flaky")
    async def flaky(payload: dict[str, str], context: TaskContext) -> str:
        if context.attempt == 1:
            raise Retry("not now", after=0)
        return f"attempt {context.attempt}"

    return worker


@pytest.fixture(scope="module")
def module_database_url(postgres: EmbeddedPostgres, _template: None) -> Iterator[str]:
    """The address of a fresh database for all tests of this file."""
    with cloned_database(postgres) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(
    module_database_url: str, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    given = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "REGION"))}
    given |= {
        "DATABASE_URL": module_database_url,
        "REDIS_ADDRESS": valkey.address,
        "READY_QUEUE_PREFIX": "cli-tests:ready",
        "SCHEDULER_LEADER_KEY": "cli-tests:leader",
    }
    async with Installation(tmp_path_factory.mktemp("installation"), given) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(installation: Installation) -> AsyncIterator[str]:
    """The address of the worker-gateway, with a worker on it."""
    [gateway] = installation.of_role(Role.WORKER_GATEWAY)
    worker = make_worker(gateway.grpc_address)
    serving = asyncio.create_task(worker.serve())
    yield gateway.grpc_address
    worker.drain()
    await serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dispatchd(installation: Installation, gateway: str) -> CommandLine:
    [control_plane] = installation.of_role(Role.CONTROL_PLANE)
    return CommandLine({"DISPATCHD_ADDRESS": control_plane.grpc_address})


# --- submit and wait ----------------------------------------------------------------------------------------------


async def test_submit_prints_the_id_and_get_shows_the_job(dispatchd: CommandLine) -> None:
    options = ["--priority", "7", "--metadata", "customer=17", "--metadata", "note=a=b", "--max-attempts", "5"]
    submitted = await dispatchd(
        "submit", "nobody.works", '{"year": 2025}', *options, "--timeout", "1m30s", "--key", "get-me"
    )
    assert (submitted.exit_code, submitted.stderr) == (0, "")
    job_id = submitted.stdout.strip()
    shown = (await dispatchd("job", "get", job_id)).stdout
    fields = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert {name: fields[name] for name in ("job", "type", "status", "attempts", "key", "metadata", "payload")} == {
        "job": job_id,
        "type": "nobody.works",
        "status": "pending",
        "attempts": "0 of 5",
        "key": "get-me",
        "metadata": "customer=17 note=a=b",
        "payload": '{"year": 2025}',
    }
    document = await dispatchd.json("job", "get", job_id)
    assert set(document) == JOB_KEYS
    assert document["payload"] == {"encoding": "utf-8", "data": '{"year": 2025}'}
    assert document["metadata"] == {"customer": "17", "note": "a=b"}
    assert document["retry_policy"] == {"max_attempts": 5, "initial_backoff_s": 5.0, "max_backoff_s": 60.0}
    assert (document["priority"], document["timeout_s"], document["result"]) == (7, 90.0, None)


async def test_submit_and_wait_prints_the_result_as_text(dispatchd: CommandLine) -> None:
    done = await dispatchd("submit", "text.upper", '{"word": "größe"}', "--metadata", "zone=b", "--wait")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"word": "GRÖSSE", "zone": "b"}
    assert done.stdout.endswith("}\n")
    assert done.stderr.startswith("job_")
    document = await dispatchd.json("submit", "text.upper", '{"word": "a"}', "--wait", "--at-most", "30s")
    assert set(document) == JOB_KEYS
    assert (document["status"], document["attempts"]) == ("succeeded", 1)
    assert document["result"] == {"encoding": "utf-8", "data": '{"word":"A"}'}


async def test_bytes_go_and_come_as_they_are(dispatchd: CommandLine, tmp_path: Path) -> None:
    data = b"\xff\x00 no text"
    file = tmp_path / "payload.bin"
    file.write_bytes(data)
    for argument, stdin in ((f"@{file}", b""), ("-", data)):
        done = await dispatchd("submit", "bytes.reverse", argument, "--wait", stdin=stdin)
        assert (done.exit_code, done.stdout_bytes) == (0, data[::-1])
        document = await dispatchd.json("submit", "bytes.reverse", argument, "--wait", stdin=stdin)
        assert document["payload"] == {"encoding": "base64", "data": "/wAgbm8gdGV4dA=="}
        assert document["result"] == {"encoding": "base64", "data": "dHhldCBvbiAA/w=="}
    text = await dispatchd("submit", "bytes.reverse", "-", "--wait", stdin=b"drawkcab")
    assert text.stdout == "backward\n"


async def test_a_job_that_fails_ends_with_1_and_its_error_on_one_line(dispatchd: CommandLine) -> None:
    failed = await dispatchd("submit", "text.fail", "--wait")
    assert (failed.exit_code, failed.stdout) == (1, "")
    job_id, *_ = failed.stderr.split()
    assert failed.stderr == (
        f"{job_id} is stored\ndispatchd submit: {job_id} failed after 1 attempt: the printer is on fire\n"
    )
    document = await dispatchd.json("job", "wait", job_id, exit_code=1)
    assert (document["status"], document["last_error"]) == ("failed", "the printer\nis on fire")


async def test_waiting_ends_with_4_when_the_time_is_up(dispatchd: CommandLine) -> None:
    waited = await dispatchd("submit", "nobody.works", "--wait", "--at-most", "100ms")
    assert (waited.exit_code, waited.stdout) == (4, "")
    job_id, *_ = waited.stderr.split()
    assert waited.stderr.endswith(
        f"dispatchd submit: {job_id} is still pending: go on waiting with `dispatchd job wait {job_id}`\n"
    )
    document = await dispatchd.json("job", "wait", job_id, "--at-most", "100ms", exit_code=4)
    assert document["status"] == "pending"


async def test_ctrl_c_ends_the_wait_and_not_the_job(installation: Installation, dispatchd: CommandLine) -> None:
    [control_plane] = installation.of_role(Role.CONTROL_PLANE)
    command = [*PROGRAM, "submit", "nobody.works", "--wait", "--server", control_plane.grpc_address]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    job_id, *_ = (await process.stderr.readline()).decode().split()
    process.send_signal(signal.SIGINT)
    _, rest = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, rest.decode()) == (
        4,
        f"dispatchd submit: interrupted; {job_id} goes on: `dispatchd job wait {job_id}` waits for it again\n",
    )
    assert (await dispatchd.json("job", "get", job_id))["status"] == "pending"


async def test_equal_keys_make_one_job(dispatchd: CommandLine) -> None:
    first = await dispatchd("submit", "nobody.works", "[1]", "--key", "once")
    second = await dispatchd("submit", "nobody.works", "[1]", "--key", "once")
    assert first.stdout == second.stdout != ""
    other = await dispatchd("submit", "nobody.works", "[2]", "--key", "once")
    assert (other.exit_code, other.stdout) == (1, "")
    assert f"already used by {first.stdout.strip()} with a different request" in other.stderr


async def test_a_job_for_later_is_delayed(dispatchd: CommandLine) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for run_at in (
        "+10m",
        f"{tomorrow:%Y-%m-%dT%H:%M:%SZ}",
        tomorrow.astimezone(timezone(timedelta(hours=2))).isoformat(),
    ):
        job = await dispatchd.json("submit", "later.work", "--run-at", run_at)
        assert datetime.fromisoformat(job["run_at"]) > datetime.now(UTC) + timedelta(minutes=9)
    [queue] = [each for each in (await dispatchd.json("queues"))["queues"] if each["capability"] == "later"]
    assert queue == {"capability": "later", "depth": 0, "oldest_age_s": queue["oldest_age_s"], "delayed": 3}


# --- look and cancel ----------------------------------------------------------------------------------------------


async def test_cancel_ends_a_job_and_waiting_for_it_ends_with_1(dispatchd: CommandLine) -> None:
    job_id = (await dispatchd("submit", "nobody.works")).stdout.strip()
    canceled = await dispatchd("job", "cancel", job_id)
    assert (canceled.exit_code, canceled.stdout) == (0, f"{job_id} is canceled\n")
    assert (await dispatchd.json("job", "cancel", job_id))["status"] == "canceled"
    waited = await dispatchd("job", "wait", job_id)
    assert (waited.exit_code, waited.stderr) == (1, f"dispatchd job wait: {job_id} was canceled\n")


async def test_executions_shows_every_attempt(dispatchd: CommandLine) -> None:
    job_id = (await dispatchd.json("submit", "text.flaky", "--wait"))["job_id"]
    executions = (await dispatchd.json("job", "executions", job_id))["executions"]
    assert [(each["attempt"], each["status"], each["end_reason"]) for each in executions] == [
        (1, "failed", "failed"),
        (2, "succeeded", "succeeded"),
    ]
    assert executions[0]["error_message"] == "not now"
    assert {each["worker_id"] for each in executions} == {"cli-worker"}
    table = (await dispatchd("job", "executions", job_id)).stdout.splitlines()
    assert table[0].split() == ["execution", "attempt", "status", "end", "worker", "claimed", "took", "error"]
    assert [line.split()[0] for line in table[2:]] == [each["execution_id"] for each in executions]
    assert table[2].endswith("not now")


async def test_workers_lists_the_registry(dispatchd: CommandLine) -> None:
    [worker] = (await dispatchd.json("workers"))["workers"]
    assert worker.pop("last_seen_at").endswith("+00:00")
    assert worker.pop("gateway").startswith("worker-gateway-")
    assert worker == {
        "worker_id": "cli-worker",
        "status": "ready",
        "capabilities": ["bytes", "text"],
        "max_concurrency": 3,
        "held": 0,
        "labels": {"zone": "a"},
    }
    header, _, row = (await dispatchd("workers")).stdout.splitlines()
    assert header.split() == ["worker", "status", "capabilities", "held", "slots", "gateway", "last", "seen", "labels"]
    assert row.split()[:6] == ["cli-worker", "ready", "bytes", "text", "0", "3"]


async def test_queues_lists_what_waits(dispatchd: CommandLine) -> None:
    for _ in range(2):
        await dispatchd("submit", "heap.sort")
    [queue] = [each for each in (await dispatchd.json("queues"))["queues"] if each["capability"] == "heap"]
    assert (queue["depth"], queue["delayed"]) == (2, 0)
    assert queue["oldest_age_s"] > 0
    table = (await dispatchd("queues")).stdout.splitlines()
    assert table[0].split() == ["capability", "ready", "oldest", "delayed"]
    [row] = [line.split() for line in table if line.startswith("heap")]
    assert (row[1], row[-1]) == ("2", "0")


# --- dead letters -------------------------------------------------------------------------------------------------


async def dead_letter(dispatchd: CommandLine) -> str:
    job_id: str = (await dispatchd.json("submit", "text.fail", "--wait", exit_code=1))["job_id"]
    return job_id


async def test_dead_letters_are_listed_the_last_first(dispatchd: CommandLine) -> None:
    job_ids = [await dead_letter(dispatchd) for _ in range(3)]
    document = await dispatchd.json("deadletter", "list", "--limit", "2")
    assert document["has_more"] is True
    assert [job["job_id"] for job in document["jobs"]] == job_ids[:0:-1]
    assert set(document["jobs"][0]) == JOB_KEYS
    assert (document["jobs"][0]["payload"], document["jobs"][0]["metadata"]) == (None, {})
    text = await dispatchd("deadletter", "list", "--job-type", "text.fail", "--limit", "1")
    header, _, row = text.stdout.splitlines()
    assert header.split() == ["job", "type", "attempts", "failed", "last", "error"]
    assert row.split()[:3] == [job_ids[-1], "text.fail", "1"]
    assert row.endswith("the printer is on fire")
    assert text.stderr == "There are more than 1; raise --limit to see them.\n"
    none = await dispatchd("deadletter", "list", "--job-type", "never.failed")
    assert (none.exit_code, none.stdout, none.stderr) == (0, "", "There are no dead letters.\n")


async def test_redrive_gives_a_dead_letter_another_try(dispatchd: CommandLine) -> None:
    job_id = await dead_letter(dispatchd)
    redriven = await dispatchd("deadletter", "redrive", job_id)
    assert redriven.exit_code == 0
    assert redriven.stdout.splitlines()[-1].startswith(job_id)
    again = await dispatchd.json("job", "wait", job_id, exit_code=1)
    assert (again["status"], again["attempts"]) == ("failed", 2)


async def test_redrive_answers_for_each_job_and_ends_with_1_if_one_is_refused(dispatchd: CommandLine) -> None:
    job_id = await dead_letter(dispatchd)
    waiting = (await dispatchd("submit", "nobody.works")).stdout.strip()
    document = await dispatchd.json("deadletter", "redrive", job_id, waiting, UNKNOWN_JOB, exit_code=1)
    redriven, refused, unknown = document["results"]
    assert (redriven["job"]["job_id"], redriven["error"]) == (job_id, None)
    assert (refused["job_id"], refused["job"]) == (waiting, None)
    assert "only failed jobs can be redriven" in refused["error"]
    assert f"there is no job {UNKNOWN_JOB}" in unknown["error"]
    text = await dispatchd("deadletter", "redrive", UNKNOWN_JOB)
    assert (text.exit_code, text.stderr) == (1, "dispatchd deadletter redrive: 1 job of 1 could not be redriven\n")


async def test_redrive_all_takes_those_of_a_type(dispatchd: CommandLine) -> None:
    await dead_letter(dispatchd)
    other = await dispatchd.json("deadletter", "redrive", "--all", "--job-type", "never.failed")
    assert other == {"results": []}
    document = await dispatchd.json("deadletter", "redrive", "--all", "--job-type", "text.fail")
    assert document["results"]
    assert {(each["job"]["job_type"], each["error"]) for each in document["results"]} == {("text.fail", None)}


# --- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["get", "wait", "cancel", "executions"])
async def test_an_unknown_job_ends_with_1(dispatchd: CommandLine, command: str) -> None:
    result = await dispatchd("job", command, UNKNOWN_JOB)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"dispatchd job {command}: there is no job {UNKNOWN_JOB}")
    assert len(result.stderr.splitlines()) == 1


MISTAKES = {
    "no job id": (("job", "get", "17"), "must be a job id"),
    "no job type": (("submit", ".render"), "must have a capability"),
    "no JSON": (("submit", "a.b", "{year: 2025}"), "this is no JSON"),
    "no file": (("submit", "a.b", "@/no/such/file"), "'/no/such/file' can't be read (No such file or directory)"),
    "an empty payload": (("submit", "a.b", "-"), "standard input is empty"),
    "a label without a key": (("submit", "a.b", "--metadata", "=1"), "has no key"),
    "a time without a zone": (("submit", "a.b", "--run-at", "2030-01-31T08:00"), "write 2030-01-31T08:00Z for UTC"),
    "no time": (("submit", "a.b", "--run-at", "tomorrow"), "is no time"),
    "a time too late": (("submit", "a.b", "--run-at", "2999-01-01T00:00Z"), "at most 366 days ahead"),
    "no duration": (("submit", "a.b", "--timeout", "30"), "is no duration"),
    "a bound without a wait": (("submit", "a.b", "--at-most", "1s"), "--at-most bounds --wait"),
    "no command": (("sumbit", "a.b"), "No such command 'sumbit'"),
    "no such option": (("job", "get", "--jsno", UNKNOWN_JOB), "No such option '--jsno'"),
    "an argument too few": (("job", "get"), "Missing argument 'JOB_ID'. See `dispatchd job get --help`."),
    "no server": (("queues", "--server", ""), "write HOST:PORT, for example localhost:8080"),
    "no port": (("queues", "--server", "localhost"), "'localhost' is no address"),
    "a port too high": (("queues", "--server", "localhost:99999"), "is no address"),
    "a URL": (("queues", "--server", "http://localhost:8080"), "is no address"),
    "no gateway": (("worker", "shop:worker", "--gateway", "localhost:1x"), "'localhost:1x' is no address"),
    "nothing to redrive": (("deadletter", "redrive"), "name one or more jobs"),
    "all and some": (("deadletter", "redrive", "--all", UNKNOWN_JOB), "name one or more jobs"),
}


@pytest.mark.parametrize(("arguments", "words"), MISTAKES.values(), ids=MISTAKES)
async def test_a_mistake_ends_with_2_and_says_what_to_change(
    dispatchd: CommandLine, arguments: tuple[str, ...], words: str
) -> None:
    result = await dispatchd(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


async def test_a_payload_that_is_too_large_is_not_sent(dispatchd: CommandLine) -> None:
    result = await dispatchd("submit", "a.b", "-", stdin=b"x" * (2 * 1024 * 1024 + 1))
    assert result.exit_code == 2
    assert "larger than 2 MiB" in result.stderr


REMOTE = {
    "submit": ("submit", "a.b"),
    "get": ("job", "get", UNKNOWN_JOB),
    "list": ("deadletter", "list"),
    "redrive": ("deadletter", "redrive", UNKNOWN_JOB),
    "workers": ("workers",),
    "queues": ("queues",),
}


@pytest.mark.parametrize("arguments", REMOTE.values(), ids=REMOTE)
async def test_a_server_out_of_reach_ends_with_3(arguments: tuple[str, ...], free_port: Callable[[], int]) -> None:
    server = f"127.0.0.1:{free_port()}"
    result = await CommandLine({})(*arguments, "--server", server, "--call-timeout", "200ms")
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"no answer from {server}" in result.stderr
    assert "--server or DISPATCHD_ADDRESS" in result.stderr
    assert len(result.stderr.splitlines()) == 1


# --- worker -------------------------------------------------------------------------------------------------------

SHOP = """
from dispatchd import Worker

worker = Worker("localhost:1", max_concurrency=2)

@worker.task("shop.greet")
def greet(payload: dict[str, str]) -> str:
    return f"hello {payload['name']}"
"""


async def test_worker_runs_the_worker_of_a_module_until_sigterm(
    dispatchd: CommandLine, gateway: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    command = [*PROGRAM, "worker", "shop:worker", "--gateway", gateway]
    command += ["--worker-id", "shop-1", "--concurrency", "4"]
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
    try:
        done = await dispatchd("submit", "shop.greet", '{"name": "Ada"}', "--wait", "--at-most", "30s")
        assert (done.exit_code, done.stdout) == (0, '"hello Ada"\n')
        workers = (await dispatchd.json("workers"))["workers"]
        [worker] = [each for each in workers if each["worker_id"] == "shop-1"]
        assert (worker["max_concurrency"], worker["capabilities"]) == (4, ["shop"])
        process.send_signal(signal.SIGTERM)
        _, log = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, log


async def test_a_worker_that_is_sent_to_a_control_plane_is_told_so(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    control_plane = installation.of_role(Role.CONTROL_PLANE)[0].grpc_address
    command = [*PROGRAM, "worker", "shop:worker", "--gateway", control_plane]
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
    try:
        _, log = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 1
    assert f"dispatchd worker: {control_plane} is no worker-gateway" in log.decode()


async def test_a_worker_that_is_not_there_ends_with_2(
    dispatchd: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = await dispatchd("worker", "no_such_module:worker")
    assert result.exit_code == 2
    assert result.stderr.startswith("dispatchd worker: there is no module 'no_such_module'")


# --- regions ------------------------------------------------------------------------------------------------------


async def test_a_passive_region_answers_reads_and_names_the_primary(
    dispatchd: CommandLine, module_database_url: str
) -> None:
    operator = CommandLine({"DATABASE_URL": module_database_url})
    job_id = (await dispatchd("submit", "nobody.works")).stdout.strip()
    dead = await dead_letter(dispatchd)
    assert (await operator("region", "set", "eu-2", "--expect-epoch", "1")).exit_code == 0
    refused = (("submit", "nobody.works"), ("job", "cancel", job_id), ("deadletter", "redrive", dead))
    for arguments in refused:
        result = await dispatchd(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "region 'local' is passive: the primary is 'eu-2' (epoch 2); send changes there" in result.stderr
    assert (await dispatchd.json("job", "get", job_id))["status"] == "pending"
    assert (await operator("region", "set", "local", "--expect-epoch", "2")).exit_code == 0

    async def takes_work() -> str:
        return (await dispatchd("submit", "text.upper", '{"word": "a"}')).stdout.strip()

    # The roles look once a second; the worker finds its way back by itself.
    done = await dispatchd("job", "wait", await eventually(takes_work), "--at-most", "30s")
    assert (done.exit_code, done.stdout) == (0, '{"word":"A"}\n')
