"""TLS of the gRPC server: certificates are read again when their files change, without a restart.

::

    handshake ──▶ have the files changed? ──no──▶ the pair in use
                        │ yes
                        ▼
                  a pair that fits? ──no──▶ warn, keep the pair in use
                        └─yes──▶ use it from this handshake on

gRPC allows TLS 1.2 and 1.3 only. Files that belong together are best replaced together (a symbolic link to a folder,
as Kubernetes does); in between the old pair goes on.
"""

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import grpc

ServerCredentials: TypeAlias = grpc.ServerCredentials
_log = logging.getLogger(__name__)


class UnusableCertificate(Exception):
    """Certificate, key or authority can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the server's certificate chain, its key, and the authority of client certificates are (all PEM)."""

    certificate: Path
    key: Path
    client_authority: Path | None = None


class _Pem(NamedTuple):
    certificate: bytes
    key: bytes
    client_authority: bytes | None


def server_credentials(files: TlsFiles, *, require_client_certificate: bool) -> grpc.ServerCredentials:
    """Credentials that follow their files. Raises UnusableCertificate if they don't fit now."""
    reloader = _Reloader(files)
    return grpc.dynamic_ssl_server_credentials(
        _configuration(reloader.pem),
        reloader.changed,  # type: ignore[arg-type]  # it may return None, says gRPC's documentation
        require_client_authentication=require_client_certificate,
    )


class _Reloader:
    """Called by gRPC's own threads, one handshake each."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self.pem = _read(files)
        self._trouble = ""

    def changed(self) -> "grpc.ServerCertificateConfiguration | None":
        """The new configuration, or None while nothing has changed. gRPC keeps the last one that it was given."""
        with self._lock:
            try:
                if _load(self._files) == self.pem:
                    return None
                pem = _read(self._files)
            except (OSError, UnusableCertificate) as exc:
                # Once for each kind of trouble: whoever connects decides how often this is asked.
                if str(exc) != self._trouble:
                    _log.warning("the new TLS certificate can't be used, the old one stays: %s", exc)
                self._trouble = str(exc)
                return None
            self.pem, self._trouble = pem, ""
            _log.info("TLS certificate reloaded", extra={"file": str(self._files.certificate)})
            return _configuration(pem)


def _read(files: TlsFiles) -> _Pem:
    try:
        pem = _load(files)
    except OSError as exc:
        raise UnusableCertificate(str(exc)) from exc
    _check(files)
    if _load(files) != pem:
        raise UnusableCertificate(f"{files.certificate} and what belongs to it are being replaced")
    return pem


def _load(files: TlsFiles) -> _Pem:
    authority = files.client_authority
    return _Pem(
        files.certificate.read_bytes(), files.key.read_bytes(), None if authority is None else authority.read_bytes()
    )


def _check(files: TlsFiles) -> None:
    """Lets OpenSSL load them: gRPC itself would only fail at each handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as exc:
        raise UnusableCertificate(
            f"{files.certificate} and {files.key} are no certificate with its key: {exc}"
        ) from exc
    if files.client_authority is not None:
        try:
            context.load_verify_locations(files.client_authority)
        except (ssl.SSLError, OSError) as exc:
            raise UnusableCertificate(f"{files.client_authority} has no certificate: {exc}") from exc


def _no_password() -> str:
    raise ValueError("the key is protected by a password: write it without one")


def _configuration(pem: _Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.client_authority)
