"""The settings of authentication, TLS and the audit log, and what production asks of them."""

from dataclasses import dataclass, field
from pathlib import Path

from dispatchd.adapters.tokens import UnusableKey, VerifyingKey, public_keys, shared_secret
from dispatchd.entrypoints.database_url import DatabaseUrl
from dispatchd.entrypoints.environment import EnvironmentReader

DEVELOPMENT_ENVIRONMENTS = ("development", "dev", "development-kind", "local", "compose", "kubernetes", "test")

_MIB = 1024 * 1024
_SECRET, _PEM = "AUTH_JWT_SHARED_SECRET", "AUTH_JWT_PUBLIC_KEY_PEM"
_WEAK_WORDS = ("secret", "password", "changeme", "change-me", "example", "insecure", "dispatchd", "12345678", "qwerty")
_FEWEST_CHARACTERS = 10
"""Different ones in a shared secret. 32 random hexadecimal digits have fewer once in thousands of times."""

# Each switch with the names that mean nothing while it is off.
_DEPENDENTS = {
    "AUTH_ENABLED": ("AUTH_JWT_ISSUER", "AUTH_JWT_AUDIENCE", _SECRET, f"{_SECRET}_FILE", _PEM, f"{_PEM}_FILE"),
    "TLS_ENABLED": ("TLS_CERT_FILE", "TLS_KEY_FILE"),
    "TLS_REQUIRE_CLIENT_CERT": ("TLS_CLIENT_CA_FILE", "TLS_WORKER_CERT_MUST_MATCH"),
    "TRACING_ENABLED": ("OTLP_ENDPOINT", "OTLP_INSECURE", "TRACE_SAMPLE_RATE"),
    "AUDIT_LOG_ENABLED": ("AUDIT_LOG_FILE", "AUDIT_LOG_FILE_BYTES", "AUDIT_LOG_FILES_KEPT"),
}
_NOT_BUILT = ("TRACING_ENABLED",)


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Whose tokens are taken."""

    issuer: str
    audience: str
    keys: tuple[VerifyingKey, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The files of the gRPC server's certificate. With a `client_authority` clients need a certificate too;
    `worker_must_match` asks that it names the worker's id."""

    certificate: Path
    key: Path
    client_authority: Path | None
    worker_must_match: bool


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Where audit lines go: to the other logs, or to a file that is rotated at `file_bytes`."""

    enabled: bool
    file: Path | None
    file_bytes: int
    files_kept: int


def read_auth(read: EnvironmentReader) -> AuthSettings | None:
    """None while AUTH_ENABLED is off."""
    if not read.boolean("AUTH_ENABLED", False):
        return None
    return AuthSettings(
        issuer=read.text("AUTH_JWT_ISSUER", "dispatchd", 500),
        audience=read.text("AUTH_JWT_AUDIENCE", "dispatchd-clients", 500),
        keys=_keys(read),
    )


def _keys(read: EnvironmentReader) -> tuple[VerifyingKey, ...]:
    secret, pem = read.secret_or_file(_SECRET), read.secret_or_file(_PEM)
    if secret is not None and pem is not None:
        read.refuse_unshown(_SECRET, f"{_PEM} is set too", "keep one of them: the kind of key decides the algorithm.")
        return ()
    if secret is None and pem is None:
        if not read.has_problem_with(_SECRET, _PEM):
            read.refuse_unshown(
                "AUTH_ENABLED",
                "there is no key to verify tokens with",
                f"set {_SECRET}_FILE, or {_PEM}_FILE for the tokens of an identity provider.",
            )
        return ()
    try:
        return (shared_secret(secret),) if secret is not None else tuple(public_keys(pem or ""))
    except UnusableKey as exc:
        advice = "write at least 32 random bytes" if secret is not None else "write one or several public keys in PEM"
        read.refuse_unshown(_SECRET if secret is not None else _PEM, f"this key can't be used: {exc}", f"{advice}.")
        return ()


def read_tls(read: EnvironmentReader) -> TlsSettings | None:
    """None while TLS_ENABLED is off."""
    requires_client = read.boolean("TLS_REQUIRE_CLIENT_CERT", False)
    worker_must_match = read.boolean("TLS_WORKER_CERT_MUST_MATCH", False)
    if not read.boolean("TLS_ENABLED", False):
        if requires_client:
            read.refuse("TLS_REQUIRE_CLIENT_CERT", "it needs TLS_ENABLED; turn that on, or this off.")
        return None
    certificate = read.readable_file("TLS_CERT_FILE")
    key = read.readable_file("TLS_KEY_FILE", of_a_secret=True)
    for name, path in (("TLS_CERT_FILE", certificate), ("TLS_KEY_FILE", key)):
        if path is None and not read.has_problem_with(name):
            read.refuse_unshown(name, "is not set", "TLS_ENABLED needs the certificate and its key, as PEM files.")
    authority = read.readable_file("TLS_CLIENT_CA_FILE") if requires_client else None
    if requires_client and authority is None and not read.has_problem_with("TLS_CLIENT_CA_FILE"):
        read.refuse_unshown("TLS_CLIENT_CA_FILE", "is not set", "TLS_REQUIRE_CLIENT_CERT needs it, as a PEM file.")
    if certificate is None or key is None:
        return None
    return TlsSettings(certificate, key, authority, worker_must_match)


def read_audit(read: EnvironmentReader) -> AuditSettings:
    file = read.text("AUDIT_LOG_FILE", "", 4096)
    return AuditSettings(
        enabled=read.boolean("AUDIT_LOG_ENABLED", True),
        file=Path(file) if file else None,
        file_bytes=read.integer("AUDIT_LOG_FILE_BYTES", 100 * _MIB, 64 * 1024, 10_240 * _MIB),
        files_kept=read.integer("AUDIT_LOG_FILES_KEPT", 5, 1, 1_000),
    )


def read_useless(read: EnvironmentReader) -> tuple[str, ...]:
    """Refuses what this release can't do; warnings for settings that have no effect without their switch."""
    warnings = []
    for switch, dependents in _DEPENDENTS.items():
        if read.boolean(switch, switch == "AUDIT_LOG_ENABLED"):
            if switch in _NOT_BUILT:
                read.refuse(switch, "this release has not built it yet; unset it or write false.")
            continue
        useless = [name for name in dependents if read.is_set(name)]
        if useless:
            warnings.append(f"{switch} is not on, so these have no effect: {', '.join(useless)}.")
    return tuple(warnings)


def guard_production(read: EnvironmentReader, app_env: str, database_url: DatabaseUrl | None) -> None:
    """Outside development everything that protects an installation has to be on. A URL that can't be used is None: it
    has its message already."""
    if app_env in DEVELOPMENT_ENVIRONMENTS:
        return
    for switch, default in (
        ("AUTH_ENABLED", False),
        ("TLS_ENABLED", False),
        ("TLS_REQUIRE_CLIENT_CERT", False),
        ("AUDIT_LOG_ENABLED", True),
    ):
        if not read.boolean(switch, default):
            read.refuse_unshown(
                switch,
                "is off",
                f"APP_ENV={app_env} is no development environment, so it has to be on "
                f"(development environments are {', '.join(DEVELOPMENT_ENVIRONMENTS)}).",
            )
    if (secret := read.secret_or_file(_SECRET)) is not None and _is_weak(secret):
        read.refuse_unshown(
            _SECRET, "it can be guessed", "write random bytes, for example those of: openssl rand -base64 48"
        )
    if database_url is not None and not database_url.is_private(read.secret):
        read.refuse_unshown(
            "DATABASE_URL",
            "its connection to another machine is not encrypted",
            "add ?sslmode=verify-full&sslrootcert=FILE to it.",
        )


def _is_weak(secret: str) -> bool:
    return len(set(secret)) < _FEWEST_CHARACTERS or any(word in secret.lower() for word in _WEAK_WORDS)
