"""Authorities, and a Postgres that speaks TLS, for the files that ask for them."""

from collections.abc import Iterator

import pytest

from databases import make_template
from dispatchd.entrypoints.dev_certificates import DevAuthority
from tls_servers import TlsPostgres


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> DevAuthority:
    return DevAuthority(tmp_path_factory.mktemp("ours") / "authority")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> DevAuthority:
    """Somebody else's authority."""
    return DevAuthority(tmp_path_factory.mktemp("theirs") / "authority")


@pytest.fixture(scope="module")
def tls_postgres(tmp_path_factory: pytest.TempPathFactory, authority: DevAuthority) -> Iterator[TlsPostgres]:
    with TlsPostgres(tmp_path_factory.mktemp("postgres"), authority) as postgres:
        make_template(postgres)
        yield postgres
