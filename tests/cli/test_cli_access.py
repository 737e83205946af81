"""Commands that show who they are and encrypt, against a control-plane that asks for both; and how they are refused."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import Result

from command_line import CommandLine
from control_planes import ControlPlane, control_plane_on
from dispatchd.entrypoints.dev_certificates import DevAuthority
from dispatchd.entrypoints.role_process import PROGRAM
from gateway.roles import Site
from tls_for_tests import credentials, server_environment
from tokens_for_tests import AUTH, token

HOW = "with --token-file, DISPATCHD_TOKEN_FILE or DISPATCHD_TOKEN"
TASKS = (
    "from dispatchd import Worker\nworker = Worker(token='code')\n@worker.task('email.send')\nasync def send(): ...\n"
)


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority(tmp_path / "ours")


@pytest.fixture
async def plane(database_url: str, redis_address: str) -> AsyncIterator[ControlPlane]:
    async with control_plane_on(database_url, redis_address, **AUTH) as plane:
        yield plane


@pytest.fixture
def dispatchd(plane: ControlPlane) -> CommandLine:
    return CommandLine({"DISPATCHD_ADDRESS": address_of(plane)})


def address_of(plane: ControlPlane) -> str:
    return f"localhost:{plane.port}"


def refused(result: Result, exit_code: int = 1) -> str:
    """The only line that a refused command writes."""
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.output
    [line] = result.stderr.splitlines()
    return line


# Tokens.


@pytest.mark.parametrize("how", ["option", "variable with a file", "variable"])
async def test_every_command_shows_the_token_it_is_given(dispatchd: CommandLine, tmp_path: Path, how: str) -> None:
    secret = token("ann", "operator")
    file = tmp_path / "token"
    file.write_text(f"{secret}\n")
    options = ["--token-file", str(file)] if how == "option" else []
    environ = {
        "option": {"DISPATCHD_TOKEN": "another"},
        "variable with a file": {"DISPATCHD_TOKEN_FILE": str(file)},
        "variable": {"DISPATCHD_TOKEN": secret},
    }[how]
    submitted = await dispatchd("submit", "nobody.works", *options, environ=environ)
    assert submitted.exit_code == 0, submitted.output
    job_id = submitted.stdout.strip()
    for command in (
        ["job", "get", job_id],
        ["job", "executions", job_id],
        ["job", "cancel", job_id],
        ["deadletter", "list"],
        ["deadletter", "redrive", "--all"],
        ["workers"],
        ["queues"],
    ):
        result = await dispatchd(*command, *options, environ=environ)
        assert result.exit_code == 0, result.output
        assert secret not in result.output


async def test_without_a_token_the_command_says_how_to_give_one(dispatchd: CommandLine, plane: ControlPlane) -> None:
    line = refused(await dispatchd("queues"))
    assert line.startswith(f"dispatchd queues: {address_of(plane)} asks for a token (")
    assert line.endswith(f"give one {HOW}")


async def test_a_token_that_is_not_taken_is_refused_in_one_line(dispatchd: CommandLine, plane: ControlPlane) -> None:
    forged = token("ann", "viewer")[:-6] + "AAAAAA"
    line = refused(await dispatchd("queues", environ={"DISPATCHD_TOKEN": forged}))
    assert line.startswith(f"dispatchd queues: no access to {address_of(plane)} (the signature of the token")
    assert line.endswith(f"give another token {HOW}")
    assert forged[:20] not in line


async def test_a_token_that_may_not_do_this_is_refused_in_one_line(dispatchd: CommandLine) -> None:
    environ = {"DISPATCHD_TOKEN": token("ann", "viewer")}
    assert refused(await dispatchd("submit", "a.b", environ=environ)) == (
        "dispatchd submit: JobService.SubmitJobs needs one of the roles admin, operator, submitter; this token has "
        f"viewer: use another token {HOW}"
    )


async def test_mistakes_about_tokens_are_told_before_anything_is_sent(tmp_path: Path) -> None:
    dispatchd = CommandLine({"DISPATCHD_ADDRESS": "127.0.0.1:1"})
    file = tmp_path / "token"
    file.write_text("x")
    both = await dispatchd("queues", environ={"DISPATCHD_TOKEN": "x", "DISPATCHD_TOKEN_FILE": str(file)})
    assert refused(both, 2) == (
        "dispatchd queues: DISPATCHD_TOKEN and DISPATCHD_TOKEN_FILE are both set: unset one of them"
    )
    prefixed = await dispatchd("queues", environ={"DISPATCHD_TOKEN": "Bearer very-secret"})
    assert refused(prefixed, 2) == "dispatchd queues: DISPATCHD_TOKEN: the token begins with 'Bearer': leave that out"
    missing = refused(await dispatchd("queues", "--token-file", str(tmp_path / "missing")), 2)
    assert "--token-file" in missing
    assert "does not exist" in missing
    for variable in ("DISPATCHD_TOKEN_FILE", "DISPATCHD_KEY_FILE"):
        for secret in ("eyJhbGciOi.very-secret", "-----BEGIN PRIVATE KEY-----\nvery-secret", "very-secret" * 1_000):
            line = refused(await dispatchd("queues", environ={variable: secret}), 2)
            assert variable in line
            assert "secret" not in line
    file.write_text("")
    assert f"the token in the file {file} is empty" in refused(await dispatchd("queues", "--token-file", str(file)))


async def test_a_token_without_encryption_is_warned_of_in_a_line_and_sent_all_the_same(tmp_path: Path) -> None:
    command = [*PROGRAM, "queues", "--server", "192.0.2.1:1", "--call-timeout", "100ms"]
    code, text = await run(command, tmp_path, {"DISPATCHD_TOKEN": "very-secret"})
    warning, failure = text.splitlines()
    assert code == 3
    assert warning == (
        "dispatchd queues: the token goes to 192.0.2.1:1 as plain text, and whoever is on the way can read and use it: "
        "use TLS"
    )
    assert failure.startswith("dispatchd queues: no answer from 192.0.2.1:1")
    _, text = await run(command, tmp_path, {})
    assert len(text.splitlines()) == 1


# TLS.


@pytest.mark.parametrize("how", ["options", "variables"])
async def test_commands_encrypt_and_show_a_certificate_and_a_token(
    database_url: str, redis_address: str, authority: DevAuthority, tmp_path: Path, how: str
) -> None:
    certificate, key = authority.client("ann")
    (tmp_path / "token").write_text(token("ann", "submitter"))
    given = {
        "token-file": tmp_path / "token",
        "ca-file": authority.certificate_file,
        "cert-file": certificate,
        "key-file": key,
    }
    options = [text for name, file in given.items() for text in (f"--{name}", str(file))]
    environ = {f"DISPATCHD_{name.upper().replace('-', '_')}": str(file) for name, file in given.items()}
    ours = credentials(authority, authority.client("probe"))
    environment = AUTH | server_environment(authority)
    async with control_plane_on(database_url, redis_address, ours, **environment) as plane:
        dispatchd = CommandLine({"DISPATCHD_ADDRESS": address_of(plane)})
        if how == "options":
            result = await dispatchd("submit", "a.b", *options)
        else:
            result = await dispatchd("submit", "a.b", environ=environ)
        assert result.exit_code == 0, result.output


async def test_without_the_right_encryption_the_command_says_what_to_try_and_nothing_else(
    database_url: str, redis_address: str, authority: DevAuthority, tmp_path: Path
) -> None:
    environ = server_environment(authority, clients=False)
    async with control_plane_on(database_url, redis_address, credentials(authority), **environ) as plane:
        command = [*PROGRAM, "queues", "--server", address_of(plane), "--call-timeout", "500ms"]
        for options, says in (
            ([], "give --ca-file or --tls if it encrypts"),
            (["--ca-file", str(DevAuthority(tmp_path / "theirs").certificate_file)], "CERTIFICATE_VERIFY_FAILED"),
        ):
            code, text = await run(command + options, tmp_path, {})
            assert (code, len(text.splitlines())) == (3, 1), text
            assert says in text


async def test_files_that_cannot_be_used_are_named(tmp_path: Path, authority: DevAuthority) -> None:
    dispatchd = CommandLine({"DISPATCHD_ADDRESS": "127.0.0.1:1"})
    certificate, key = authority.client("ann")
    alone = refused(await dispatchd("queues", "--cert-file", str(certificate)), 2)
    assert alone == "dispatchd queues: --cert-file and --key-file belong together: give both, or neither"
    key.write_text("nonsense")
    pair = refused(await dispatchd("queues", "--cert-file", str(certificate), "--key-file", str(key)), 2)
    assert str(key) in pair


# The worker.


async def test_the_worker_shows_its_token_and_certificate_in_place_of_those_in_the_code(
    database_url: str, redis_address: str, authority: DevAuthority, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(TASKS)
    site = Site(database_url, redis_address)
    async with site.gateway(**AUTH) as gateway:
        for given, says in (
            ({}, "asks for a token (worker mailer was refused: the token can't be read"),
            ({"DISPATCHD_TOKEN": token("mailer", "viewer")}, "needs one of the roles"),
            ({"DISPATCHD_TOKEN": token("printer", "worker")}, "this token is for worker 'printer' alone"),
        ):
            code, text = await run(worker_command(gateway.address), tmp_path, given)
            assert code == 1
            last = text.splitlines()[-1]
            assert last.startswith("dispatchd worker: ")
            assert says in last
            assert last.endswith(HOW)
        environ = {"DISPATCHD_TOKEN": token("mailer", "worker")}
        process = await start(worker_command(gateway.address), tmp_path, environ)
        assert process.stderr is not None
        line = await asyncio.wait_for(process.stderr.readline(), 30)
        assert "worker mailer is registered" in line.decode()
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
    wrong = {"DISPATCHD_CA_FILE": str(tmp_path / "shop.py")}
    code, text = await run(worker_command("127.0.0.1:1"), tmp_path, wrong)
    assert (code, str(tmp_path / "shop.py") in text) == (2, True)


def worker_command(gateway: str) -> list[str]:
    return [*PROGRAM, "worker", "shop:worker", "--gateway", gateway, "--worker-id", "mailer"]


async def start(command: list[str], folder: Path, environ: dict[str, str]) -> asyncio.subprocess.Process:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DISPATCHD_", "GRPC_"))}
    return await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.PIPE, cwd=folder, env=ours | environ
    )


async def run(command: list[str], folder: Path, environ: dict[str, str]) -> tuple[int | None, str]:
    """Exit code and what it wrote."""
    process = await start(command, folder, environ)
    _, text = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, text.decode()
