"""Each role takes the settings that it would find in its container, and refuses them when any protection is missing."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from dispatchd.cli.main import dispatchd
from dispatchd.entrypoints.settings import (
    Role,
    SettingsError,
    load_database_settings,
    load_settings,
)
from infra.container_start import Start, config_maps_of, start
from infra.objects import ENVIRONMENTS, OUTSIDE_DEVELOPMENT, Object, Objects, container, migrate_containers
from infra.sample_secrets import Secrets

PROTECTION = (
    "AUTH_ENABLED",
    "AUTH_JWT_PUBLIC_KEY_PEM_FILE",
    "DATABASE_URL",
    "TLS_CERT_FILE",
    "TLS_CLIENT_CA_FILE",
    "TLS_ENABLED",
    "TLS_KEY_FILE",
    "TLS_REQUIRE_CLIENT_CERT",
)
"""What no role outside development starts without."""


class Starter:
    """Starts containers of rendered pods, as far as their settings are concerned."""

    def __init__(self, overlays: dict[str, Objects], secrets: dict[str, Secrets], root: Path) -> None:
        self._overlays, self._secrets, self._root = overlays, secrets, root

    def role(self, environment: str, role: Role) -> Start:
        own, pod = container(self._overlays[environment], role)
        return self._start(environment, own, pod)

    def migrate(self, environment: str) -> list[Start]:
        """The containers of the Job, in their order."""
        containers, pod = migrate_containers(self._overlays[environment])
        return [self._start(environment, each, pod) for each in containers]

    def _start(self, environment: str, own: Object, pod: Object) -> Start:
        config_maps = config_maps_of(self._overlays[environment])
        return start(own, pod, config_maps, self._secrets[environment], self._root / environment / own["name"])


@pytest.fixture
def starter(overlays: dict[str, Objects], secrets: dict[str, Secrets], tmp_path: Path) -> Starter:
    return Starter(overlays, secrets, tmp_path)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_role_takes_its_rendered_settings(
    environment: str, role: Role, overlays: dict[str, Objects], starter: Starter
) -> None:
    settings = load_settings(role, starter.role(environment, role).environ)
    ports = {port["name"]: port["containerPort"] for port in container(overlays[environment], role)[0]["ports"]}

    assert settings.warnings == ()
    assert ports["http"] == settings.metrics_port
    assert role is Role.SCHEDULER or ports["grpc"] == settings.grpc_port
    assert settings.region_epoch is not None
    assert settings.region == environment


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("environment", OUTSIDE_DEVELOPMENT)
def test_what_the_settings_loader_would_replace_by_a_default_is_rendered(
    environment: str, role: Role, starter: Starter
) -> None:
    found = starter.role(environment, role)

    settings = load_settings(role, found.environ)

    assert settings.auth is not None
    assert settings.auth.issuer == found.environ["AUTH_JWT_ISSUER"]
    assert settings.auth.audience == found.environ["AUTH_JWT_AUDIENCE"]
    assert settings.redis.tls
    assert settings.redis.password
    assert settings.redis.tls_ca_file in found.files.values()
    assert settings.audit.enabled
    assert "sslmode=verify-full" in settings.database_url
    assert "sslrootcert=" in settings.database_url


@pytest.mark.parametrize("variable", PROTECTION)
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("environment", OUTSIDE_DEVELOPMENT)
def test_a_role_refuses_its_settings_without_any_one_protection(
    environment: str, role: Role, variable: str, starter: Starter
) -> None:
    found = starter.role(environment, role)
    load_settings(role, found.environ)
    del found.environ[variable]

    with pytest.raises(SettingsError):
        load_settings(role, found.environ)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("environment", OUTSIDE_DEVELOPMENT)
def test_a_role_refuses_to_start_without_any_one_of_its_mounted_files(
    environment: str, role: Role, starter: Starter
) -> None:
    found = starter.role(environment, role)
    load_settings(role, found.environ)
    assert found.files

    for file in found.files.values():
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(SettingsError):
            load_settings(role, found.environ)
        file.write_bytes(content)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("environment", OUTSIDE_DEVELOPMENT)
def test_a_role_refuses_a_database_whose_connection_is_not_encrypted(
    environment: str, role: Role, starter: Starter
) -> None:
    found = starter.role(environment, role)
    load_settings(role, found.environ)
    found.environ["DATABASE_URL"] = found.environ["DATABASE_URL"].partition("?")[0]

    with pytest.raises(SettingsError, match="DATABASE_URL: its connection to another machine is not encrypted"):
        load_settings(role, found.environ)


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_ADDRESS"])
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_role_refuses_to_start_without_an_address(
    environment: str, role: Role, variable: str, starter: Starter
) -> None:
    found = starter.role(environment, role)
    load_settings(role, found.environ)
    del found.environ[variable]

    with pytest.raises(SettingsError, match=f"{variable}: is not set"):
        load_settings(role, found.environ)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_migrate_and_region_take_their_rendered_settings_and_need_the_database(
    environment: str, starter: Starter
) -> None:
    for found in starter.migrate(environment):
        settings = load_database_settings(found.environ)
        assert settings.region == environment
        assert settings.region_epoch is not None

        del found.environ["DATABASE_URL"]
        with pytest.raises(SettingsError, match="DATABASE_URL: is not set"):
            load_database_settings(found.environ)


@pytest.mark.parametrize("environment", OUTSIDE_DEVELOPMENT)
def test_migrate_and_region_need_the_authority_of_the_database(environment: str, starter: Starter) -> None:
    for found in starter.migrate(environment):
        [file] = found.files.values()
        file.unlink()
        with pytest.raises(SettingsError, match="DATABASE_URL: its sslrootcert"):
            load_database_settings(found.environ)


def test_both_regions_name_the_same_primary_and_epoch_and_one_of_them_may_mutate(starter: Starter) -> None:
    loaded = [
        load_settings(Role.SCHEDULER, starter.role(environment, Role.SCHEDULER).environ)
        for environment in ("prod-region-a", "prod-region-b")
    ]

    assert len({(settings.primary_region, settings.region_epoch) for settings in loaded}) == 1
    assert sorted(settings.allow_mutations for settings in loaded) == [False, True]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_containers_start_commands_that_exist(environment: str, overlays: dict[str, Objects]) -> None:
    objects = overlays[environment]
    roles = [container(objects, role)[0] for role in Role]
    before = migrate_containers(objects)[0]

    assert [each["args"] for each in roles] == [[str(role)] for role in Role]
    assert [each["args"] for each in before] == [["migrate"], ["region", "apply"]]
    for each in (*roles, *before):
        asked = CliRunner().invoke(dispatchd, [*each["args"], "--help"])
        assert asked.exit_code == 0, (each["args"], asked.output)
        assert asked.output.startswith(f"Usage: dispatchd {' '.join(each['args'])}")
