"""Authentication, TLS, the audit log, and what production asks of them: checked at start, no secret is ever shown."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dispatchd.entrypoints.security_settings import DEVELOPMENT_ENVIRONMENTS
from dispatchd.entrypoints.settings import Role, Settings, SettingsError, load_settings

REQUIRED = {"DATABASE_URL": "postgresql://ann:s3cret@localhost:5432/jobs", "REDIS_ADDRESS": "cache:6379"}
SECRET = "3q2+7wAAhjKl9XzYtVbNmEwRtYuIoPaS"
PEM = (
    ed25519.Ed25519PrivateKey.generate()
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Files of every kind; only their being readable is looked at here."""
    for name in ("cert", "key", "ca", "secret", "pem"):
        (tmp_path / name).write_text({"secret": SECRET + "\n", "pem": PEM}.get(name, name))
    return {name: str(tmp_path / name) for name in ("cert", "key", "ca", "secret", "pem")}


@pytest.fixture
def everything(files: dict[str, str]) -> dict[str, str]:
    """An environment that production takes."""
    return {
        "APP_ENV": "production",
        "AUTH_ENABLED": "true",
        "AUTH_JWT_SHARED_SECRET_FILE": files["secret"],
        "TLS_ENABLED": "true",
        "TLS_CERT_FILE": files["cert"],
        "TLS_KEY_FILE": files["key"],
        "TLS_REQUIRE_CLIENT_CERT": "true",
        "TLS_CLIENT_CA_FILE": files["ca"],
    }


def load(**changes: str) -> Settings:
    return load_settings(Role.CONTROL_PLANE, REQUIRED | changes)


def problems_of(**changes: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(**changes)
    text = str(caught.value)
    assert SECRET not in text
    assert "s3cret" not in text
    return caught.value.problems


def names_at_fault(**changes: str) -> set[str]:
    return {problem.partition(":")[0] for problem in problems_of(**changes)}


def test_everything_that_production_wants_is_read(everything: dict[str, str], files: dict[str, str]) -> None:
    settings = load(**everything, TLS_WORKER_CERT_MUST_MATCH="true", AUDIT_LOG_FILE="/var/log/audit.log")
    assert settings.auth is not None
    assert (settings.auth.issuer, settings.auth.audience) == ("dispatchd", "dispatchd-clients")
    assert [(key.key, key.algorithms) for key in settings.auth.keys] == [(SECRET, ("HS256",))]
    assert settings.tls is not None
    assert [str(path) for path in (settings.tls.certificate, settings.tls.key, settings.tls.client_authority)] == [
        files["cert"],
        files["key"],
        files["ca"],
    ]
    assert settings.tls.worker_must_match
    assert (str(settings.audit.file), settings.audit.files_kept) == ("/var/log/audit.log", 5)
    assert SECRET not in repr(settings)
    assert settings.warnings == ()


@pytest.mark.parametrize("role", Role)
def test_production_names_everything_that_is_missing(role: Role) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(role, REQUIRED | {"APP_ENV": "production", "AUDIT_LOG_ENABLED": "no"})
    assert {problem.partition(":")[0] for problem in caught.value.problems} == {
        "AUTH_ENABLED",
        "TLS_ENABLED",
        "TLS_REQUIRE_CLIENT_CERT",
        "AUDIT_LOG_ENABLED",
    }


@pytest.mark.parametrize("switch", ["AUTH_ENABLED", "TLS_ENABLED", "TLS_REQUIRE_CLIENT_CERT", "AUDIT_LOG_ENABLED"])
def test_production_does_without_none_of_them(everything: dict[str, str], switch: str) -> None:
    assert switch in names_at_fault(**(everything | {switch: "false"}))


@pytest.mark.parametrize("app_env", DEVELOPMENT_ENVIRONMENTS)
def test_development_does_without_all_of_them(app_env: str) -> None:
    assert load(APP_ENV=app_env, AUDIT_LOG_ENABLED="false").app_env == app_env


@pytest.mark.parametrize(
    "secret",
    ["a" * 40, "0123" * 10, "this-is-my-Secret-key-for-production-use", "CHANGEME-CHANGEME-CHANGEME-CHANGEME-1"],
)
def test_production_refuses_a_secret_that_can_be_guessed(everything: dict[str, str], secret: str) -> None:
    changed = {name: value for name, value in everything.items() if not name.startswith("AUTH_JWT")}
    assert load(**(changed | {"APP_ENV": "dev", "AUTH_JWT_SHARED_SECRET": secret})).auth
    assert names_at_fault(**(changed | {"AUTH_JWT_SHARED_SECRET": secret})) == {"AUTH_JWT_SHARED_SECRET"}


@pytest.mark.parametrize(
    ("url", "variables", "fits"),
    [
        ("postgresql://u:p@db:5432/jobs", {}, False),
        ("postgresql://u:p@db:5432/jobs?sslmode=disable", {}, False),
        ("postgresql://u:p@db:5432/jobs?sslmode=allow", {}, False),
        ("postgresql://u:p@db:5432/jobs?sslmode=prefer", {}, False),
        ("postgresql://u:p@db:5432/jobs?sslmode=require", {}, True),
        ("postgresql://u:p@db:5432/jobs?sslmode=verify-ca&sslrootcert={ca}", {}, True),
        ("postgresql://u:p@db:5432/jobs?sslmode=verify-full&sslrootcert={ca}", {}, True),
        ("postgresql://u:p@db:5432/jobs?sslmode=verify-full&sslmode=prefer", {}, False),
        ("postgresql://u:p@db:5432/jobs", {"PGSSLMODE": "verify-full"}, True),
        ("postgresql://u:p@db:5432/jobs", {"PGSSLMODE": "prefer"}, False),
        ("postgresql://u:p@db:5432/jobs?sslmode=prefer", {"PGSSLMODE": "verify-full"}, False),
        ("postgresql://u:p@db:5432/jobs?service=s", {"PGSSLMODE": "verify-full"}, False),
        ("postgresql://u:p@127.0.0.1:5432/jobs", {}, True),
        ("postgresql://u:p@127.8.9.1/jobs", {}, True),
        ("postgresql://u:p@127.0.0.1.example.com/jobs", {}, False),
        ("postgresql://u:p@[::1]:5432/jobs", {}, True),
        ("postgresql://u:p@[::1]/jobs?sslmode=disable", {}, True),
        ("postgresql://u:p@[fd00::1]:5432/jobs", {}, False),
        ("postgresql://u:p@localhost/jobs", {}, True),
        ("postgresql://u:p@localhost.example.com/jobs", {}, False),
        ("postgresql://u:p@/jobs?host=/run/postgresql", {}, True),
        ("postgresql://u:p@%2Frun%2Fpostgresql/jobs", {}, True),
        ("postgresql://u:p@/jobs?host=db", {}, False),
        ("postgresql://u:p@/jobs?host=/run/postgresql,db", {}, False),
        ("postgresql://u:p@db/jobs?host=localhost", {}, False),
        ("postgresql://u:p@x@localhost/jobs", {}, False),
        ("postgresql://u:p@[::1]:5432,db:5432/jobs", {}, False),
        ("postgresql://u:p@[::1]:5432,127.0.0.1:5433/jobs", {}, True),
        ("postgresql://u:p@one:5432,two:5433/jobs", {}, False),
        ("postgresql://u:p@one:5432,two:5433/jobs?sslmode=require", {}, True),
        ("postgresql:///jobs", {}, True),
        ("postgresql:///jobs", {"PGHOST": "db"}, False),
        ("postgresql:///jobs", {"PGHOST": "/run/postgresql"}, True),
        ("postgresql:///jobs", {"PGSERVICE": "s"}, False),
    ],
)
def test_production_wants_an_encrypted_way_to_another_machines_database(
    everything: dict[str, str], files: dict[str, str], url: str, variables: dict[str, str], fits: bool
) -> None:
    url = url.replace("{ca}", files["ca"])
    environment = everything | {"DATABASE_URL": url} | variables
    if fits:
        assert load(**environment).database_url == url
    else:
        assert names_at_fault(**environment) == {"DATABASE_URL"}
        assert load(**(environment | {"APP_ENV": "dev"})).database_url == url


@pytest.mark.parametrize(
    ("changes", "at_fault"),
    [
        ({"AUTH_ENABLED": "true"}, {"AUTH_ENABLED"}),
        ({"AUTH_ENABLED": "true", "AUTH_JWT_SHARED_SECRET": "short"}, {"AUTH_JWT_SHARED_SECRET"}),
        ({"AUTH_ENABLED": "true", "AUTH_JWT_PUBLIC_KEY_PEM": "no key"}, {"AUTH_JWT_PUBLIC_KEY_PEM"}),
        (
            {"AUTH_ENABLED": "true", "AUTH_JWT_PUBLIC_KEY_PEM": PEM, "AUTH_JWT_SHARED_SECRET": SECRET},
            {"AUTH_JWT_SHARED_SECRET"},
        ),
        (
            {"AUTH_ENABLED": "true", "AUTH_JWT_SHARED_SECRET_FILE": "/nowhere/at/all"},
            {"AUTH_JWT_SHARED_SECRET_FILE"},
        ),
        ({"TLS_ENABLED": "true"}, {"TLS_CERT_FILE", "TLS_KEY_FILE"}),
        ({"TLS_REQUIRE_CLIENT_CERT": "true"}, {"TLS_REQUIRE_CLIENT_CERT"}),
        ({"AUDIT_LOG_FILE_BYTES": "1"}, {"AUDIT_LOG_FILE_BYTES"}),
    ],
)
def test_what_does_not_fit_together_is_named(changes: dict[str, str], at_fault: set[str]) -> None:
    assert names_at_fault(**changes) == at_fault


def test_a_client_certificate_needs_an_authority(everything: dict[str, str]) -> None:
    del everything["TLS_CLIENT_CA_FILE"]
    assert names_at_fault(**everything) == {"TLS_CLIENT_CA_FILE"}


def test_a_secret_in_two_places_is_refused(files: dict[str, str]) -> None:
    both = {"AUTH_JWT_SHARED_SECRET": SECRET, "AUTH_JWT_SHARED_SECRET_FILE": files["secret"]}
    assert names_at_fault(AUTH_ENABLED="true", **both) == {"AUTH_JWT_SHARED_SECRET_FILE"}


def test_keys_of_an_identity_provider_may_come_from_a_file(files: dict[str, str]) -> None:
    auth = load(AUTH_ENABLED="true", AUTH_JWT_PUBLIC_KEY_PEM_FILE=files["pem"], AUTH_JWT_ISSUER="https://idp").auth
    assert auth is not None
    assert [key.algorithms for key in auth.keys] == [("EdDSA",)]
    assert auth.issuer == "https://idp"


def test_names_that_need_a_switch_give_one_warning_each(files: dict[str, str]) -> None:
    settings = load(
        AUTH_JWT_ISSUER="me",
        AUTH_JWT_SHARED_SECRET="s3cret",
        TLS_CLIENT_CA_FILE=files["ca"],
        OTLP_ENDPOINT="http://collector:4317",
        AUDIT_LOG_ENABLED="false",
        AUDIT_LOG_FILE="/audit",
    )
    assert settings.warnings == (
        "AUTH_ENABLED is not on, so these have no effect: AUTH_JWT_ISSUER, AUTH_JWT_SHARED_SECRET.",
        "TLS_REQUIRE_CLIENT_CERT is not on, so these have no effect: TLS_CLIENT_CA_FILE.",
        "TRACING_ENABLED is not on, so these have no effect: OTLP_ENDPOINT.",
        "AUDIT_LOG_ENABLED is not on, so these have no effect: AUDIT_LOG_FILE.",
    )
