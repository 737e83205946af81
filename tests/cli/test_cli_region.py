"""`dispatchd region` and `dispatchd migrate` as an operator or a deployment runs them."""

import json
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import asyncpg
import pytest

from command_line import CommandLine
from dispatchd.entrypoints.embedded import EmbeddedPostgres
from stores import insert, new_job, open_stores, register, sql

UNREACHABLE = "postgresql://app:secret@127.0.0.1:1/dispatchd"


@pytest.fixture
def dispatchd(database_url: str) -> CommandLine:
    return CommandLine({"DATABASE_URL": database_url})


@pytest.fixture
async def session(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


async def test_status_shows_the_row_and_whose_database_it_is(dispatchd: CommandLine) -> None:
    text = await dispatchd("region", "status", environ={"REGION": "eu-2"})
    assert text.exit_code == 0
    shown = dict(re.split(r" {2,}", line, maxsplit=1) for line in text.stdout.splitlines())
    assert shown.pop("database").startswith("primary, at ")
    assert all(shown.pop(name).startswith("20") for name in ("read at", "since"))
    assert shown == {
        "region": "eu-2",
        "primary": "local",
        "epoch": "1",
        "mode": "active",
        "in flight": "0 executions",
        "last lease": "none runs",
    }
    document = await dispatchd.json("region", "status")
    changed_at, read_at = (datetime.fromisoformat(document.pop(name)) for name in ("changed_at", "read_at"))
    assert changed_at.tzinfo is not None
    assert changed_at < read_at
    assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", document.pop("wal_position"))
    assert document == {
        "region": "local",
        "database": "primary",
        "primary_region": "local",
        "epoch": 1,
        "mode": "active",
        "in_flight": 0,
        "latest_lease_end": None,
    }


async def test_status_counts_what_workers_hold_and_shows_the_last_lease_that_runs(
    dispatchd: CommandLine, database_url: str
) -> None:
    async with open_stores(database_url) as stores:
        await insert(stores, *(new_job() for _ in range(4)))
        first, second = (
            await register(stores, "worker-1"),
            await register(stores, "worker-2", lease=timedelta(hours=2.5)),
        )
        ended, *_ = await first.claim(2)
        await second.claim(1)
        await first.complete(ended.execution_id)
    document = await dispatchd.json("region", "status")
    left = datetime.fromisoformat(document["latest_lease_end"]) - datetime.fromisoformat(document["read_at"])
    assert document["in_flight"] == 2
    assert timedelta(hours=2) < left < timedelta(hours=2.5)
    text = await dispatchd("region", "status")
    assert "in flight   2 executions\n" in text.stdout
    assert re.search(r"^last lease  ends 20.* UTC \(in 2h \d+m\)$", text.stdout, re.MULTILINE)
    async with sql(database_url) as session:
        await session.execute("update worker_sessions set lease_expires_at = now() - interval '1 second'")
    document = await dispatchd.json("region", "status")
    assert (document["in_flight"], document["latest_lease_end"]) == (2, None)


async def test_a_planned_switch(dispatchd: CommandLine) -> None:
    drained = await dispatchd("region", "drain", "--expect-epoch", "1")
    assert (drained.exit_code, drained.stdout) == (0, "done: primary local, epoch 1, draining\n")
    switched = await dispatchd("region", "set", "eu-2", "--expect-epoch", "1")
    assert (switched.exit_code, switched.stdout) == (0, "done: primary eu-2, epoch 2, active\n")
    again = await dispatchd("region", "set", "eu-2", "--expect-epoch", "1")
    assert again.stdout == "done (the row was changed by an earlier run): primary eu-2, epoch 2, active\n"
    document = await dispatchd.json("region", "set", "eu-3", "--expect-epoch", "2")
    del document["changed_at"]
    assert document == {
        "primary_region": "eu-3",
        "epoch": 3,
        "mode": "active",
        "outcome": "changed",
        "blockers": [],
    }


async def test_a_drain_can_be_given_up(dispatchd: CommandLine) -> None:
    undo = ("region", "drain", "--undo", "--expect-epoch", "1")
    nothing = await dispatchd(*undo)
    assert nothing.stdout == "nothing to do, the region is not draining: primary local, epoch 1, active\n"
    await dispatchd("region", "drain", "--expect-epoch", "1")
    undone = await dispatchd(*undo)
    assert (undone.exit_code, undone.stdout) == (0, "done: primary local, epoch 1, active\n")
    assert (await dispatchd.json("region", "status"))["mode"] == "active"
    pointless = await dispatchd(*undo, "--terminate")
    assert pointless.exit_code == 2
    assert "--undo waits for no transaction" in pointless.stderr


async def test_another_epoch_fails_with_a_line_that_names_the_row(dispatchd: CommandLine) -> None:
    for command in (("set", "eu-2"), ("drain",), ("drain", "--undo")):
        result = await dispatchd("region", *command, "--expect-epoch", "7")
        assert result.exit_code == 1
        assert result.stderr == (
            f"dispatchd region {command[0]}: the region row has epoch 1 (primary 'local', active), not 7: somebody "
            "else changed it; look with `dispatchd region status` before you try again\n"
        )


async def test_what_is_in_the_way_is_named_and_the_command_can_be_repeated(
    dispatchd: CommandLine, session: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await session.execute("set application_name = 'nightly report'; begin; select pg_current_xact_id()")
    pid = session.get_server_pid()
    command = ("region", "set", "eu-2", "--expect-epoch", "1", "--patience", "0s")
    text = await dispatchd(*command)
    assert (text.exit_code, text.stdout) == (4, "")
    waiting, changed, named, advice = text.stderr.splitlines()
    assert waiting.endswith(f"for 1 older transaction: pid {pid}")
    assert "the row is changed (primary eu-2, epoch 2, active)" in changed
    assert f"pid {pid}: user postgres, application nightly report, idle in transaction for " in named
    assert advice == "Run the same command again to go on waiting, or with --terminate to end these sessions."
    document = await dispatchd.json(*command, exit_code=4)
    assert (document["outcome"], document["epoch"]) == ("blocked", 2)
    [blocker] = document["blockers"]
    assert (blocker["pid"], blocker["prepared"], blocker["application"]) == (pid, None, "nightly report")
    ended = await dispatchd.json(*command, "--terminate")
    assert (ended["outcome"], ended["blockers"]) == ("resumed", [])


async def test_a_prepared_transaction_is_named_with_what_ends_it(
    dispatchd: CommandLine, session: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await session.execute("begin; select pg_current_xact_id(); prepare transaction 'cli transfer'")
    try:
        command = ("region", "drain", "--expect-epoch", "1", "--patience", "0s")
        text = await dispatchd(*command)
        assert "prepared transaction 'cli transfer': user postgres, " in text.stderr
        assert "only COMMIT PREPARED or ROLLBACK PREPARED ends it" in text.stderr
        [blocker] = (await dispatchd.json(*command, exit_code=4))["blockers"]
        assert (blocker["pid"], blocker["prepared"]) == (None, "cli transfer")
    finally:
        await session.execute("rollback prepared 'cli transfer'")


async def test_apply_reads_the_environment_of_the_deployment(dispatchd: CommandLine) -> None:
    def deployment(region: str, primary: str, epoch: int) -> dict[str, str]:
        return {"REGION": region, "PRIMARY_REGION": primary, "REGION_EPOCH": str(epoch)}

    same = await dispatchd("region", "apply", environ=deployment("local", "local", 1))
    assert same.stdout == "nothing to do, the region row agrees already: primary local, epoch 1, active\n"
    elsewhere = await dispatchd("region", "apply", environ=deployment("local", "eu-2", 2))
    assert elsewhere.exit_code == 1
    assert "only the deployment of region 'eu-2' itself may set this" in elsewhere.stderr
    there = await dispatchd("region", "apply", environ=deployment("eu-2", "eu-2", 2))
    assert there.stdout == "done: primary eu-2, epoch 2, active\n"
    late = await dispatchd("region", "apply", environ=deployment("local", "local", 1))
    assert late.exit_code == 1
    assert "it is older than the row" in late.stderr


async def test_mistakes_end_with_2(dispatchd: CommandLine) -> None:
    for arguments, words in (
        (("region", "set", "eu-2"), "--expect-epoch"),
        (("region", "set", "eu 2", "--expect-epoch", "1"), "1 to 64 letters"),
        (("region", "drain", "--expect-epoch", "0"), "range"),
        (("region", "drain", "--expect-epoch", "1", "--patience", "long"), "for example 500ms, 30s or 1m30s"),
    ):
        result = await dispatchd(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr
    without_url = await CommandLine({"REGION_EPOCH": "x"})("region", "apply")
    assert without_url.exit_code == 2
    assert "DATABASE_URL" in without_url.stderr
    assert "REGION_EPOCH" in without_url.stderr


@pytest.mark.parametrize("command", ["migrate", "region status", "region drain"])
async def test_a_database_out_of_reach_ends_with_3(command: str) -> None:
    options = ("--expect-epoch", "1") if command == "region drain" else ()
    result = await CommandLine({"DATABASE_URL": UNREACHABLE})(*command.split(), *options)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"dispatchd {command}: ")
    assert "check that the server in DATABASE_URL runs" in result.stderr
    assert "secret" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


async def test_a_schema_that_is_missing_ends_with_2(postgres: EmbeddedPostgres) -> None:
    result = await CommandLine({"DATABASE_URL": postgres.url})("region", "status")
    assert result.exit_code == 2
    assert "run `dispatchd migrate`" in result.stderr


async def test_migrate_says_when_there_is_nothing_to_do(dispatchd: CommandLine) -> None:
    result = await dispatchd("migrate")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("nothing to do: the schema has version ")


async def test_json_is_one_document_on_one_line(dispatchd: CommandLine) -> None:
    result = await dispatchd("region", "status", "--json")
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout)["epoch"] == 1
