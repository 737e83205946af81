"""Postgres over TLS, as DATABASE_URL says it: who is trusted, who is let in, and that nothing is said in plain text."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from databases import cloned_database
from dispatchd.adapters.postgres.database import Database
from dispatchd.adapters.postgres.migrate import check_schema
from dispatchd.adapters.postgres.queries import Query
from dispatchd.application.ports import DatabaseMisconfigured, DatabaseUnavailable
from dispatchd.entrypoints.dev_certificates import DevAuthority
from stores import sql
from tcp_proxy import proxy_to
from tls_servers import CERTIFIED, TlsPostgres, stripper

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
PROTECTION = Query("protection", "select ssl, client_dn from pg_stat_ssl where pid = pg_backend_pid()", ())
NOT_TRUSTED = r"its certificate is not trusted \(.*certificate"
ANOTHER_NAME = r"its certificate is not trusted \(Hostname mismatch\)"


LONG = timedelta(seconds=30)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, a connection comes to its end."""
    monkeypatch.setattr("dispatchd.adapters.postgres.database.CONNECT_TIMEOUT", LONG)


@pytest.fixture(scope="module")
def url(tls_postgres: TlsPostgres) -> Iterator[str]:
    """A database whose user has a password."""
    with cloned_database(tls_postgres) as address:
        yield address


async def protection(url: str) -> tuple[bool, str | None]:
    """Whether a connection as the roles make it is encrypted, and the name in our certificate."""
    async with Database(url, connections=1, application_name="test", statement_timeout=LONG) as database:
        await check_schema(database)
        async with database.connection() as connection:
            row = await connection.row(PROTECTION)
    assert row is not None
    return row["ssl"], row["client_dn"]


@pytest.mark.parametrize(
    ("mode", "trusts", "host", "refused"),
    [
        ("verify-full", "ours", "127.0.0.1", None),
        ("verify-full", "ours", "localhost", ANOTHER_NAME),
        ("verify-full", "theirs", "127.0.0.1", NOT_TRUSTED),
        ("verify-ca", "ours", "localhost", None),
        ("verify-ca", "theirs", "localhost", NOT_TRUSTED),
        ("require", None, "localhost", None),
        ("require", "ours", "localhost", None),
        ("require", "theirs", "localhost", NOT_TRUSTED),
        ("prefer", None, "localhost", None),
        ("allow", None, "localhost", None),
        ("disable", None, "localhost", r"refuses the user, password or certificate \(SQLSTATE 28000\)"),
    ],
)
async def test_whom_each_sslmode_trusts(
    url: str,
    authority: DevAuthority,
    stranger: DevAuthority,
    mode: str,
    trusts: str | None,
    host: str,
    refused: str | None,
) -> None:
    url = url.replace("127.0.0.1", host) + f"?sslmode={mode}"
    if trusts is not None:
        url += f"&sslrootcert={(authority if trusts == 'ours' else stranger).certificate_file}"
    if refused is None:
        assert await protection(url) == (True, None)
        return
    with pytest.raises(DatabaseUnavailable, match=refused) as caught:
        await protection(url)
    # Clients are told this too.
    assert host not in str(caught.value)


async def test_the_environment_may_say_it_as_well(
    url: str, authority: DevAuthority, stranger: DevAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(authority.certificate_file))
    assert await protection(url) == (True, None)
    monkeypatch.setenv("PGSSLROOTCERT", str(stranger.certificate_file))
    with pytest.raises(DatabaseUnavailable, match=NOT_TRUSTED):
        await protection(url)


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_where_nobody_speaks_tls_nothing_is_said_in_plain_text(
    url: str, authority: DevAuthority, tls_postgres: TlsPostgres, mode: str
) -> None:
    async with stripper(b"N") as between:
        through = url.replace(f":{tls_postgres.port}/", f":{between.port}/")
        with pytest.raises(DatabaseUnavailable, match="TLS was refused or broken off"):
            await protection(f"{through}?sslmode={mode}&sslrootcert={authority.certificate_file}")
    assert between.heard == [SSL_REQUEST]


async def test_somebody_in_between_without_a_certificate_hears_no_password(
    url: str, authority: DevAuthority, tls_postgres: TlsPostgres
) -> None:
    """He takes the request for TLS and then has nothing to show."""
    async with stripper(b"S") as between:
        through = url.replace(f":{tls_postgres.port}/", f":{between.port}/")
        with pytest.raises(DatabaseUnavailable, match="can't be reached"):
            await protection(f"{through}?sslmode=verify-full&sslrootcert={authority.certificate_file}")
    [heard] = between.heard
    assert heard.startswith(SSL_REQUEST + b"\x16\x03")
    assert b"postgres\0" not in heard


async def test_a_client_certificate_lets_its_user_in(
    tls_postgres: TlsPostgres, url: str, authority: DevAuthority
) -> None:
    async with sql(url) as session:
        await session.execute(f"create role {CERTIFIED} login in role pg_read_all_data")
    trusting = f"{tls_postgres.certified_url()}?sslmode=verify-full&sslrootcert={authority.certificate_file}"
    certificate, key = authority.client(CERTIFIED)
    assert await protection(f"{trusting}&sslcert={certificate}&sslkey={key}") == (True, f"/CN={CERTIFIED}")
    other, others_key = authority.client("somebody-else")
    for wrong in ("", f"&sslcert={other}&sslkey={others_key}"):
        with pytest.raises(DatabaseUnavailable, match=r"refuses the user, password or certificate \(SQLSTATE 28"):
            await protection(f"{trusting}{wrong}")


async def test_what_can_never_work_is_told_from_what_may_work_later(
    url: str, authority: DevAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DatabaseMisconfigured, match=r"root certificate file .* does not exist"):
        await protection(f"{url}?sslmode=verify-full")
    with pytest.raises(DatabaseMisconfigured, match='unrecognized configuration parameter "channel_binding"'):
        await protection(f"{url}?sslmode=require&channel_binding=require")
    (tmp_path / "empty.pem").touch()
    with pytest.raises(DatabaseUnavailable, match="TLS failed"):
        await protection(f"{url}?sslmode=verify-full&sslrootcert={tmp_path / 'empty.pem'}")


@pytest.fixture
def several(url: str, authority: DevAuthority) -> Callable[..., str]:
    """The address with other hosts before the one that answers."""

    def make(*ports: int) -> str:
        user, _, place = url.rpartition("@")
        others = "".join(f"127.0.0.1:{port}," for port in ports)
        options = f"sslmode=verify-full&sslrootcert={authority.certificate_file}&target_session_attrs=read-write"
        return f"{user}@{others}{place}?{options}"

    return make


async def test_of_several_hosts_one_that_answers_is_enough(
    several: Callable[..., str], free_port: Callable[[], int]
) -> None:
    assert await protection(several(free_port(), free_port())) == (True, None)


async def test_a_host_that_never_answers_comes_last_the_next_time(
    several: Callable[..., str], tls_postgres: TlsPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatchd.adapters.postgres.database.CONNECT_TIMEOUT", timedelta(seconds=4))
    async with proxy_to(tls_postgres.address) as deaf:
        deaf.go_deaf()
        address = several(deaf.port)
        async with Database(address, connections=1, application_name="test", statement_timeout=LONG) as database:
            with pytest.raises(DatabaseUnavailable):
                await check_schema(database)
            await check_schema(database)
        assert deaf.connections == 1
