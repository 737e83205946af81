"""TLS of clients and workers: credentials that follow their files.

begin ──► files that fit? ──no──► UnusableCertificate
             │ yes
             ▼
          credentials ◄──────────────────────────────────────┐
             │ a look                                        │
             ▼                                               │
          have the files changed? ──yes──► do they fit? ──yes┘
                                              └─no──► a warning; the last ones go on
"""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import grpc

from dispatchd.sdk.errors import InvalidRequest, UnusableCertificate

FileName: TypeAlias = str | os.PathLike[str]

logger = logging.getLogger("dispatchd.tls")


@dataclass(frozen=True, slots=True)
class Tls:
    """Encrypted connections, to servers whose certificates an authority in `ca_file` has signed.

    Without `ca_file` those of the system count. `certificate_file` and `key_file` are shown to servers that ask for a
    client certificate. All files are PEM; they may be replaced while the program runs.
    """

    ca_file: FileName | None = None
    certificate_file: FileName | None = None
    key_file: FileName | None = None

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise InvalidRequest(
                "certificate_file and key_file belong together: give both, or neither",
                field="key_file" if self.key_file is None else "certificate_file",
            )


class _Pem(NamedTuple):
    authority: bytes | None
    certificate: bytes | None
    key: bytes | None


class FollowedTls:
    """Credentials for new channels. Raises UnusableCertificate if the files can't be used from the beginning."""

    def __init__(self, tls: Tls):
        self._tls = tls
        self._system_authorities = _system_authorities() if tls.ca_file is None else None
        self._pem = _fitting(tls)
        self._trouble: tuple[_Pem | None, str] | None = None
        self.credentials = self._credentials_of(self._pem)

    def look(self) -> None:
        """Replace the credentials if the files have changed and fit. Reads files: call it in a thread."""
        found = None
        try:
            found = _load(self._tls)
            if found == self._pem:
                return
            pem = _fitting(self._tls)
        except UnusableCertificate as error:
            # Said once; the files are tried again at every look all the same, for it may have been a moment's trouble.
            if (found, str(error)) != self._trouble:
                logger.warning("the new TLS files can't be used, and the old ones go on: %s", error)
            self._trouble = found, str(error)
            return
        self._pem, self._trouble = pem, None
        self.credentials = self._credentials_of(pem)
        logger.info("the TLS files have changed; new connections use them")

    def _credentials_of(self, pem: _Pem) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(pem.authority or self._system_authorities, pem.key, pem.certificate)


def _fitting(tls: Tls) -> _Pem:
    """Read the files so that what was checked is what is used."""
    pem = _load(tls)
    _check(tls)
    if _load(tls) != pem:
        raise UnusableCertificate("the TLS files are being replaced at this moment")
    return pem


def _load(tls: Tls) -> _Pem:
    return _Pem(_read(tls.ca_file), _read(tls.certificate_file), _read(tls.key_file))


def _read(file: FileName | None) -> bytes | None:
    if file is None:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as exc:
        raise UnusableCertificate(
            f"the TLS file {os.fspath(file)} can't be read ({exc.strerror}): check its name, and who may read it"
        ) from exc


def _check(tls: Tls) -> None:
    """Let OpenSSL load the files: gRPC itself would only fail at each handshake, and not say why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca_file is not None:
        try:
            context.load_verify_locations(tls.ca_file)
        except (ssl.SSLError, OSError) as exc:
            raise UnusableCertificate(
                f"the TLS file {os.fspath(tls.ca_file)} holds no certificate: it must be the authority's, in PEM"
            ) from exc
    if tls.certificate_file is not None and tls.key_file is not None:
        try:
            context.load_cert_chain(tls.certificate_file, tls.key_file, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as exc:
            raise UnusableCertificate(
                f"the TLS files {os.fspath(tls.certificate_file)} and {os.fspath(tls.key_file)} are no certificate "
                f"with its key ({_reason(exc)}): both must be PEM, belong together, and the key have no password"
            ) from exc


def _no_password() -> str:
    raise ValueError("the key has a password")


def _reason(exc: Exception) -> str:
    return (isinstance(exc, ssl.SSLError) and exc.reason) or str(exc)


def _system_authorities() -> bytes | None:
    """Return those that Python finds, or None for the list that gRPC brings along."""
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode() or None
