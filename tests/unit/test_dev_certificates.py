"""The development authority keeps to its folder, whoever calls it."""

from pathlib import Path

import pytest

from dispatchd.entrypoints.dev_certificates import DevAuthority, UnusableName

OUTSIDE = ["../up", "/tmp/elsewhere", "a/b", "..", ".hidden", "", "a\0b", "a\n", "größe", "x" * 201]
OTHERS = ["ca", "server", "ca-key", "server-key"]


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority(tmp_path / "certs")


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [*OUTSIDE, *OTHERS])
def test_a_client_whose_files_would_be_elsewhere_or_others_is_refused(
    authority: DevAuthority, tmp_path: Path, name: str
) -> None:
    authority.server(["localhost"])
    before = files_below(tmp_path)
    with pytest.raises(UnusableName):
        authority.client(name)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("host", ["", "a b", "a\0b", "localhost:8080", "http://a", "größe", "a..b", "*", "h" * 254])
def test_what_is_no_host_gets_no_certificate(authority: DevAuthority, tmp_path: Path, host: str) -> None:
    before = files_below(tmp_path)
    with pytest.raises(UnusableName):
        authority.server(["localhost", host])
    assert files_below(tmp_path) == before


def test_names_that_are_meant_are_taken(authority: DevAuthority) -> None:
    for name in ("mailer-1", "ann@shop", "host:1", "a.b"):
        certificate, key = authority.client(name)
        assert (certificate.parent, key.parent) == (authority.folder, authority.folder)
    authority.server(["localhost", "*.example.com", "10.0.0.1", "::1", "db_1.internal"])
