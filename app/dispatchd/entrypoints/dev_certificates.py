"""Certificates for one machine or a test: an authority of our own, and what it has signed. Not for production."""

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=397)
_BACKDATED = timedelta(minutes=5)
"""For machines whose clock is a little behind."""

_CLIENT = re.compile(r"[A-Za-z0-9_:@-][A-Za-z0-9._:@-]{0,199}", re.ASCII)
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
_LONGEST_HOST = 253
_SERVER = "server"
_AUTHORITY = "ca"


class UnusableName(ValueError):
    """A name that can't stand in a certificate, or whose files would be outside of the folder or in place of others."""


def check_client(name: str) -> None:
    """Raises UnusableName unless this can be the name of a client, and of its files."""
    if _CLIENT.fullmatch(name) is None:
        raise UnusableName(f"{name!r}: write 1 to 200 letters, digits and . _ - : @, and no dot in front")
    if name in (_AUTHORITY, _SERVER) or name.endswith("-key"):
        raise UnusableName(f"{name!r}: its files would take the place of others; choose another name")


def check_host(host: str) -> None:
    """Raises UnusableName unless this is a host name, one with a wildcard, or an IP address."""
    if len(host) > _LONGEST_HOST or not (_is_address(host) or _HOST.fullmatch(host)):
        raise UnusableName(f"{host!r}: write a host name or an IP address, without a port")


class DevAuthority:
    """The authority in a folder (`ca.pem`, `ca-key.pem`), made if it is not there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate_file = folder / f"{_AUTHORITY}.pem"
        self._key_file = folder / f"{_AUTHORITY}-key.pem"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.certificate_file.exists():
            self._make()
        self._certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
        key = load_pem_private_key(self._key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{self._key_file} is no key that was made here")
        self._key = key

    def server(self, hosts: Sequence[str]) -> tuple[Path, Path]:
        """Certificate and key of a server that is reached by these host names and addresses. Raises UnusableName."""
        for host in hosts:
            check_host(host)
        return self._issue(_SERVER, hosts, ExtendedKeyUsageOID.SERVER_AUTH, LIFETIME)

    def client(self, client: str, lifetime: timedelta = LIFETIME) -> tuple[Path, Path]:
        """Certificate and key of a client or worker with this name. Raises UnusableName."""
        check_client(client)
        return self._issue(client, [client], ExtendedKeyUsageOID.CLIENT_AUTH, lifetime)

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("dispatchd development authority")
        certificate = (
            _builder(name, name, key.public_key(), AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write_key(self._key_file, key)
        self.certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def _issue(
        self, name: str, alternative_names: Sequence[str], purpose: x509.ObjectIdentifier, lifetime: timedelta
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(name), self._certificate.subject, key.public_key(), lifetime)
            .add_extension(x509.SubjectAlternativeName([_general_name(each) for each in alternative_names]), False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        _write_key(key_file, key)
        certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        return certificate_file, key_file


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + min(lifetime, timedelta(0)) - _BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    # At most 64 characters (RFC 5280); what counts are the alternative names.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _general_name(name: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(name)) if _is_address(name) else x509.DNSName(name)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Readable by its owner alone from the first byte on."""
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
