"""`dispatchd token` and `dispatchd certs dev`: what they make works, and what they refuse is told in a sentence."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography import x509

from command_line import CommandLine
from control_planes import control_plane_on
from dispatchd.entrypoints.dev_certificates import DevAuthority
from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.roles import Site
from gateway.worker_stream import worker
from tls_for_tests import credentials
from tokens_for_tests import AUTH, SECRET

SIGNING = CommandLine(AUTH | {"AUTH_JWT_SHARED_SECRET_FILE": ""})
PLAIN = CommandLine(dict.fromkeys(("AUTH_JWT_SHARED_SECRET", "AUTH_JWT_SHARED_SECRET_FILE"), ""))


@pytest.fixture
def site(database_url: str, redis_address: str) -> Site:
    return Site(database_url, redis_address)


def claims_of(token: str) -> dict[str, object]:
    claims: dict[str, object] = jwt.decode(token, SECRET, algorithms=["HS256"], audience="dispatchd-clients")
    return claims


async def test_a_token_has_the_subject_the_roles_and_the_lifetime() -> None:
    before = int(datetime.now(UTC).timestamp())
    made = await SIGNING("token", "ann", "--role", "submitter", "--role", "viewer", "--for", "8h")
    assert (made.exit_code, made.stderr) == (0, "")
    claims = claims_of(made.stdout.removesuffix("\n"))
    assert (claims["sub"], claims["iss"], claims["roles"]) == ("ann", "dispatchd", ["submitter", "viewer"])
    assert timedelta(hours=8) <= timedelta(seconds=int(str(claims["exp"])) - before) < timedelta(hours=8, minutes=1)
    assert "worker_id" not in claims


async def test_a_token_is_signed_with_the_secret_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    made = await PLAIN(
        "token", "w1", "--role", "worker", environ={"AUTH_JWT_SHARED_SECRET_FILE": str(tmp_path / "secret")}
    )
    assert claims_of(made.stdout.strip())["sub"] == "w1"


@pytest.mark.parametrize("arguments", [["--worker-id", "w1"], ["w1", "--worker-id", "w1"], ["w1"]])
async def test_a_workers_token_is_for_its_id_alone(site: Site, arguments: list[str]) -> None:
    made = await SIGNING("token", "--role", "worker", *arguments)
    assert (made.exit_code, made.stderr) == (0, "")
    shown = (("authorization", f"Bearer {made.stdout.strip()}"),)
    async with site.gateway(**AUTH) as gateway:
        async with worker(gateway.address, "w1", metadata=shown) as stream:
            assert (await stream.register()).worker_id == "w1"
        async with worker(gateway.address, "w2", metadata=shown) as stream:
            await stream.send(registration=pb.WorkerRegistration(worker_id="w2", capabilities=["email"]))
            assert (await stream.ended())[0] is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing option '--role'"),
        (["--role", "viewer"], "SUBJECT is missing"),
        (["", "--role", "viewer"], "SUBJECT: write 1 to 200 printable characters"),
        (["a\nb", "--role", "viewer"], "SUBJECT: write 1 to 200 printable characters"),
        (["w" * 201, "--role", "viewer"], "SUBJECT: write 1 to 200 printable characters"),
        (["--role", "worker", "--worker-id", ""], "SUBJECT: write 1 to 200 printable characters"),
        (["w1", "--role", "worker", "--worker-id", "w2"], "SUBJECT 'w1' and --worker-id 'w2' differ"),
        (["w1", "--role", "worker", "--role", "viewer", "--worker-id", "w2"], "differ"),
        (["ann", "--role", "viewer", "--worker-id", "w1"], "--worker-id: it is for the role worker"),
        (["--role", "worker", "--role", "service", "--worker-id", "w1"], "with the role service the bearer may"),
        (["ann", "--role", "viewer", "--for", "0s"], "at least a second"),
        (["ann", "--role", "king"], "'king' is not one of"),
        (["ann"], "Missing option '--role'"),
    ],
)
async def test_a_token_that_makes_no_sense_is_refused(arguments: list[str], says: str) -> None:
    refused = await SIGNING("token", *arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert says in refused.stderr


async def test_without_a_secret_the_command_says_where_to_get_one() -> None:
    refused = await PLAIN("token", "ann", "--role", "viewer")
    assert refused.exit_code == 2
    assert "there is no secret to sign it with" in refused.stderr
    assert "openssl rand" in refused.stderr
    short = await PLAIN("token", "ann", "--role", "viewer", environ={"AUTH_JWT_SHARED_SECRET": "too-short"})
    assert "at least 32 random bytes" in short.stderr
    assert "too-short" not in short.stderr


def names_in(file: Path) -> set[str]:
    extension = x509.load_pem_x509_certificate(file.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return {str(name.value) for name in extension.value}


async def test_certificates_fit_each_other_and_keys_are_their_owners(tmp_path: Path) -> None:
    folder = tmp_path / "my certs"
    made = await PLAIN("certs", "dev", "--folder", str(folder), "--client", "mailer-1", "--client", "ann@shop")
    assert made.exit_code == 0, made.output
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.pem"
        for name in ("ca", "ca-key", "server", "server-key", "mailer-1", "mailer-1-key", "ann@shop", "ann@shop-key")
    }
    for key in folder.glob("*-key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert names_in(folder / "server.pem") == {"localhost", "127.0.0.1", "::1"}
    assert names_in(folder / "mailer-1.pem") == {"mailer-1"}
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "mailer-1.pem", folder / "mailer-1-key.pem")


async def test_the_printed_settings_work_as_they_are(database_url: str, redis_address: str, tmp_path: Path) -> None:
    made = await PLAIN("certs", "dev", "--folder", str(tmp_path / "certs"))
    roles, commands = (dict(pair.split("=") for pair in line.split()[3:]) for line in made.stdout.splitlines()[-2:])
    authority = DevAuthority(tmp_path / "certs")
    ours = credentials(authority, authority.client("x"))
    async with control_plane_on(database_url, redis_address, ours, **roles) as plane:
        address = {"DISPATCHD_ADDRESS": f"localhost:{plane.port}"}
        assert (await PLAIN("queues", environ=commands | address)).exit_code == 0


async def test_a_second_time_certificates_are_renewed_and_the_authority_stays(tmp_path: Path) -> None:
    await PLAIN("certs", "dev", "--folder", str(tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert (await PLAIN("certs", "dev", "--folder", str(tmp_path))).exit_code == 0
    same = {path.name for path in tmp_path.iterdir() if before[path.name] == path.read_bytes()}
    assert same == {"ca.pem", "ca-key.pem"}


@pytest.mark.parametrize("name", ["ca", "server", "ca-key", "mailer-key", "a/b", "../a", ".hidden", "", "x" * 201])
async def test_a_name_that_would_overwrite_or_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    refused = await PLAIN("certs", "dev", "--folder", str(tmp_path / "new"), "--client", name)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("host", ["bad host", "größe.example", "localhost:8080,x", "http://a"])
async def test_what_is_no_host_is_refused(tmp_path: Path, host: str) -> None:
    refused = await PLAIN("certs", "dev", "--folder", str(tmp_path), "--host", host)
    assert refused.exit_code == 2
    assert "write a host name or an IP address" in refused.stderr


async def test_an_authority_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    await PLAIN("certs", "dev", "--folder", str(tmp_path))
    (tmp_path / "ca.pem").write_text("nonsense")
    broken = await PLAIN("certs", "dev", "--folder", str(tmp_path))
    assert (broken.exit_code, "remove both" in broken.stderr) == (1, True)
    (tmp_path / "ca-key.pem").unlink()
    alone = await PLAIN("certs", "dev", "--folder", str(tmp_path))
    assert (alone.exit_code, "without ca-key.pem" in alone.stderr) == (2, True)
    (tmp_path / "file").write_text("")
    inside = await PLAIN("certs", "dev", "--folder", str(tmp_path / "file" / "certs"))
    assert (inside.exit_code, str(tmp_path / "file") in inside.stderr) == (1, True)
