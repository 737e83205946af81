"""`dispatchd region` and `dispatchd migrate` as an operator or a deployment runs them."""

import json
from collections.abc import AsyncIterator
from datetime import datetime

import asyncpg
import pytest

from command_line import CommandLine
from dispatchd.entrypoints.embedded import EmbeddedPostgres

UNREACHABLE = "postgresql://app:secret@127.0.0.1:1/dispatchd"


@pytest.fixture
def dispatchd(database_url: str) -> CommandLine:
    return CommandLine({"DATABASE_URL": database_url})


@pytest.fixture
async def session(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


async def test_status_shows_the_row(dispatchd: CommandLine) -> None:
    text = await dispatchd("region", "status")
    assert text.exit_code == 0
    lines = text.stdout.splitlines()
    assert lines[:3] == ["primary  local", "epoch    1", "mode     active"]
    assert lines[3].startswith("since    20")
    document = await dispatchd.json("region", "status")
    assert datetime.fromisoformat(document.pop("changed_at")).tzinfo is not None
    assert document == {"primary_region": "local", "epoch": 1, "mode": "active"}


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


async def test_another_epoch_fails_with_a_line_that_names_the_row(dispatchd: CommandLine) -> None:
    for command in (("set", "eu-2"), ("drain",)):
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
