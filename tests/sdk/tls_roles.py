"""Roles with TLS in the test's event loop, and the certificates of those who connect to them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from dispatchd import Tls
from dispatchd.entrypoints.dev_certificates import DevAuthority
from dispatchd.entrypoints.settings import Role
from gateway.roles import RunningRole, Site
from tls_for_tests import credentials, server_environment


class TlsRole(RunningRole):
    """A role of a site that serves who shows a client certificate of the authority."""

    def __init__(self, site: Site, role: Role, authority: DevAuthority, **environ: str) -> None:
        super().__init__(role, site.environ | server_environment(authority) | environ)
        self._credentials = credentials(authority, authority.client("probe"))

    async def _answers(self) -> bool:
        async with grpc.aio.secure_channel(self.address, self._credentials) as channel:
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                answer: bytes = await check(b"", timeout=1.0)
            except grpc.aio.AioRpcError:
                return False
        return answer == b"\x08\x01"


class ClientFiles:
    """The files of one client, in which its certificate is replaced."""

    def __init__(self, authority: DevAuthority, folder: Path) -> None:
        self._authority = authority
        folder.mkdir()
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self.tls = Tls(ca_file=authority.certificate_file, certificate_file=self.certificate, key_file=self.key)

    def issue(self, name: str) -> None:
        """Write a certificate with this name, as whoever rotates them does."""
        certificate, key = self._authority.client(name)
        self.certificate.write_bytes(certificate.read_bytes())
        self.key.write_bytes(key.read_bytes())


class Shown:
    """Which certificates were shown with which calls, as the audit log of this process's roles has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lines: list[tuple[str, tuple[str, ...]]] = []
        monkeypatch.setattr("dispatchd.telemetry.logs.audit", self._note)

    def with_(self, method: str) -> list[str]:
        """The names in the certificates, call by call, or stream by stream as they were opened."""
        return [name for found, names in self._lines if found == method for name in names]

    def _note(self, event: str, *, method: str, certificate: Sequence[str], **_: object) -> None:
        if event != "stream closed":
            self._lines.append((method, tuple(certificate)))
