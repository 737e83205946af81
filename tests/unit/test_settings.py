"""The environment is read in one place, and every mistake is reported at once without showing a secret."""

from datetime import timedelta
from pathlib import Path

import pytest

from dispatchd.entrypoints.durations import format_duration, parse_duration
from dispatchd.entrypoints.settings import (
    Role,
    Settings,
    SettingsError,
    load_database_settings,
    load_settings,
)

REQUIRED = {"DATABASE_URL": "postgresql://ann:s3cret@db:5432/jobs", "REDIS_ADDRESS": "cache:6379"}


def load(role: Role = Role.CONTROL_PLANE, /, **changes: str) -> Settings:
    return load_settings(role, REQUIRED | changes)


def problems_of(**changes: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(**changes)
    return caught.value.problems


def problem_of(**changes: str) -> str:
    [problem] = problems_of(**changes)
    return problem


def test_defaults_are_those_of_the_contract() -> None:
    settings = load(HOSTNAME="node-7")
    assert settings.app_env == "development"
    assert (settings.region, settings.primary_region, settings.allow_mutations) == ("local", "local", True)
    assert settings.region_epoch is None
    assert (settings.grpc_port, settings.metrics_port, settings.log_level) == (8080, 9100, "info")
    assert settings.shutdown_timeout == timedelta(seconds=10)
    assert settings.instance_id == "node-7"
    assert settings.scheduler_poll_interval == timedelta(seconds=2)
    assert settings.lease_duration == timedelta(seconds=30)
    assert settings.worker_heartbeat_ttl == timedelta(seconds=45)
    assert settings.scheduler_leader_key == "dispatchd:scheduler:leader:local"
    assert settings.ready_queue_prefix == "dispatchd:ready:local"
    assert settings.max_execution_time == timedelta(hours=24)
    assert settings.retention == timedelta(hours=168)
    assert settings.dead_letter_retention == timedelta(hours=720)
    assert (settings.auth, settings.tls) == (None, None)
    assert settings.audit.enabled
    assert settings.audit.file is None
    assert (settings.submit_queue_items, settings.submit_queue_bytes) == (10_000, 67_108_864)
    assert (settings.result_queue_items, settings.result_queue_bytes) == (10_000, 67_108_864)
    assert (settings.waiters, settings.sessions, settings.database_connections) == (10_000, 10_000, 10)
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("role", "port"), [(Role.CONTROL_PLANE, 9100), (Role.SCHEDULER, 9101), (Role.WORKER_GATEWAY, 9102)]
)
def test_each_role_has_its_own_metrics_port(role: Role, port: int) -> None:
    assert load(role).metrics_port == port


def test_an_empty_value_counts_as_unset() -> None:
    assert load(LEASE_DURATION="", APP_ENV="", GRPC_PORT="", REGION_EPOCH="").lease_duration == timedelta(seconds=30)


def test_without_a_host_name_every_process_gets_an_id_of_its_own() -> None:
    assert load().instance_id != load().instance_id


def test_the_region_is_appended_to_configured_keys() -> None:
    settings = load(REGION="eu-1", SCHEDULER_LEADER_KEY="lead", READY_QUEUE_PREFIX="ready")
    assert settings.scheduler_leader_key == "lead:eu-1"
    assert settings.ready_queue_prefix == "ready:eu-1"


def test_a_region_that_is_not_the_primary_may_not_write() -> None:
    assert not load(REGION="eu-1", PRIMARY_REGION="us-1").allow_mutations
    assert not load(ALLOW_MUTATIONS="false").allow_mutations


def test_redis_address_with_and_without_tls(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("certificate")
    plain = load(REDIS_PASSWORD="hush", REDIS_DB="3").redis
    assert (plain.host, plain.port, plain.tls, plain.password, plain.db) == ("cache", 6379, False, "hush", 3)
    secure = load(REDIS_ADDRESS="rediss://[::1]:6380", REDIS_TLS_CA_FILE=str(authority)).redis
    assert (secure.host, secure.port, secure.tls, secure.tls_ca_file) == ("::1", 6380, True, authority)


def test_every_mistake_is_listed_at_once() -> None:
    mistakes = {
        "APP_ENV": "my laptop",
        "AUTH_ENABLED": "true",
        "DATABASE_URL": "mysql://db",
        "REDIS_ADDRESS": "cache",
        "GRPC_PORT": "http",
        "METRICS_PORT": "70000",
        "LEASE_DURATION": "30 seconds",
        "WORKER_HEARTBEAT_TTL": "0s",
        "REGION": "eu 1",
        "REGION_EPOCH": "first",
        "LOG_LEVEL": "loud",
        "ALLOW_MUTATIONS": "perhaps",
        "SUBMIT_QUEUE_BYTES": "1",
    }
    problems = problems_of(**mistakes)
    assert {problem.split(":")[0] for problem in problems} == set(mistakes)
    assert (
        'LEASE_DURATION: read "30 seconds"; write a duration such as 500ms, 30s or 1m30s, from 1s to 24h.' in problems
    )


def test_missing_addresses_are_named() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(Role.SCHEDULER, {})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["DATABASE_URL", "REDIS_ADDRESS"]
    assert str(caught.value).startswith("The environment has 2 mistakes:\n- DATABASE_URL: is not set; write ")


@pytest.mark.parametrize(
    "changes",
    [
        {"DATABASE_URL": "mysql://ann:s3cret@db/jobs"},
        {"DATABASE_URL": "postgresql://ann:s3cret@db:s3cret/jobs"},
        {"REDIS_ADDRESS": "rediss://:s3cret@cache:6379"},
        {"LEASE_DURATION": "never", "REDIS_PASSWORD": "s3cret", "AUTH_JWT_SHARED_SECRET": "s3cret"},
        {"AUTH_ENABLED": "true", "AUTH_JWT_SHARED_SECRET_FILE": "s3cret"},
        {"AUTH_ENABLED": "true", "AUTH_JWT_SHARED_SECRET_FILE": "s3cret" * 1_000},
        {"TLS_ENABLED": "true", "TLS_KEY_FILE": "-----BEGIN PRIVATE KEY-----\ns3cret"},
    ],
)
def test_no_message_shows_a_secret(changes: dict[str, str]) -> None:
    assert all("s3cret" not in problem for problem in problems_of(**changes))


def test_settings_can_be_printed_without_their_secrets() -> None:
    settings = load(REDIS_PASSWORD="hush")
    assert "hush" not in repr(settings)
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize("address", ["cache", "cache:", ":6379", "cache:none", "redis://cache:6379", "cache:6379/1"])
def test_an_unusable_redis_address_is_refused(address: str) -> None:
    assert problem_of(REDIS_ADDRESS=address).endswith("write HOST:PORT, or rediss://HOST:PORT for TLS.")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://db/jobs?sslmode", "can't be taken apart"),
        ("postgresql://[::1/jobs", "can't be taken apart"),
        ("postgresql://one,,two/jobs", "a host that can't be taken apart"),
        ("postgresql://one:5432,two:none/jobs", "a host that can't be taken apart"),
        ("postgresql://one:5432,two:65536/jobs", "a port that is none"),
        ("postgresql://db/jobs?port=none", "a port that is none"),
        ("postgresql://one,two/jobs?port=1,2,3", "another number of ports than hosts"),
        ("postgresql://db/jobs?sslmode=verify_full", "its sslmode is none of disable, allow, prefer, require, verify-"),
        (
            "postgresql://db/jobs?sslrootcert=/none.pem",
            "sslrootcert /none.pem can't be read (No such file or directory)",
        ),
        ("postgresql://db/jobs?sslcert=/none.pem", "its sslcert /none.pem can't be read"),
        ("postgresql://db/jobs?sslkey=/none.pem", "its sslkey /none.pem can't be read"),
    ],
)
def test_an_unusable_database_url_is_refused(url: str, why: str) -> None:
    problem = problem_of(DATABASE_URL=url)
    assert why in problem
    assert "not shown here" in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:s3cret@one:5432,two:5433/jobs?target_session_attrs=read-write",
        "postgres://[::1]:5432,[::2]/jobs",
        "postgresql://one,two/jobs?port=5433",
        "postgresql://one,two/jobs?port=5433,5434",
        "postgresql:///jobs?host=/run/postgresql,two:5433",
    ],
)
def test_a_database_may_have_several_hosts(url: str) -> None:
    assert load(DATABASE_URL=url).database_url == url


def test_a_certificate_authority_without_tls_is_refused(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("certificate")
    assert "it needs TLS" in problem_of(REDIS_TLS_CA_FILE=str(authority))
    missing = problem_of(REDIS_ADDRESS="rediss://cache:6379", REDIS_TLS_CA_FILE=str(tmp_path / "none.pem"))
    assert "No such file or directory" in missing


def test_two_services_on_one_port_are_refused() -> None:
    assert "the gRPC port is 9000 too" in problem_of(GRPC_PORT="9000", METRICS_PORT="9000")
    assert load(Role.SCHEDULER, GRPC_PORT="9000", METRICS_PORT="9000").metrics_port == 9000


def test_a_switch_that_is_not_built_refuses_to_start() -> None:
    assert "has not built it yet" in problem_of(TRACING_ENABLED="true")
    assert load(TRACING_ENABLED="false").warnings == ()


def test_commands_on_the_database_need_only_the_database() -> None:
    settings = load_database_settings({"DATABASE_URL": "postgres://db/jobs", "REGION": "eu-1", "REGION_EPOCH": "7"})
    assert (settings.region, settings.primary_region, settings.region_epoch) == ("eu-1", "eu-1", 7)
    with pytest.raises(SettingsError):
        load_database_settings({"DATABASE_URL": "postgres://db/jobs", "REGION_EPOCH": "0"})


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("2s", timedelta(seconds=2)),
        ("500ms", timedelta(milliseconds=500)),
        ("1m30s", timedelta(seconds=90)),
        ("24h", timedelta(hours=24)),
        ("1h2m3s4ms", timedelta(hours=1, minutes=2, seconds=3, milliseconds=4)),
        ("1.5s", timedelta(milliseconds=1500)),
        ("0s", timedelta()),
    ],
)
def test_durations_are_read_and_written(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1s1m", "1 s", "1d", "٣s", "1e3s", "9" * 400 + "h"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
