"""Settings that can't be used are refused with the file and the key, before anything is written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from dispatchd_infra.cli import main
from dispatchd_infra.settings import (
    CONFIG_KEY,
    ENVIRONMENTS,
    SettingsError,
    Stack,
    environment_from,
    read_common,
    read_environment,
    stack_file,
)

COMMITTED = Path(__file__).parents[1]


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    """The folder `infra/` of a repository that has only settings."""
    folder = tmp_path / "infra"
    (folder / "gitops").mkdir(parents=True)
    shutil.copy(COMMITTED / "common.yaml", folder)
    for stack in Stack:
        shutil.copy(stack_file(COMMITTED, stack), folder / "gitops")
    return folder


def _change(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes what a file with YAML says; of a stack's file only the settings of its environment."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(content["config"][CONFIG_KEY] if "config" in content else content)
    file.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_the_committed_settings_are_taken(stack: Stack) -> None:
    assert read_common(COMMITTED).namespaces.dispatchd
    assert read_environment(COMMITTED, stack).region


def _without(*path: str) -> Callable[[dict[str, Any]], object]:
    *parents, key = path

    def remove(settings: dict[str, Any]) -> None:
        for parent in parents:
            settings = settings[parent]
        del settings[key]

    return remove


def _with(value: Any, *path: str) -> Callable[[dict[str, Any]], object]:
    *parents, key = path

    def put(settings: dict[str, Any]) -> None:
        for parent in parents:
            settings = settings[parent]
        settings[key] = value

    return put


CA = ("secret_store", "ca_certificates")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (_without("region"), "region"),
        (_without("roles", "scheduler"), "roles.scheduler"),
        (_without("roles", "scheduler", "memory"), "roles.scheduler.memory"),
        (_without("auth"), "auth"),
        (_without("secret_store"), "secret_store"),
        (_without("certificate_issuer"), "certificate_issuer"),
        (_without("database", "backups"), "database.backups"),
        (_with(0, "roles", "scheduler", "replicas"), "roles.scheduler.replicas"),
        (_with(1, "roles", "scheduler", "replicas"), "roles.scheduler.replicas"),
        (_with("2", "roles", "scheduler", "replicas"), "roles.scheduler.replicas"),
        (_with(True, "roles", "scheduler", "replicas"), "roles.scheduler.replicas"),
        (_with(0, "roles", "control_plane", "min_replicas"), "roles.control_plane.min_replicas"),
        (_with(1, "roles", "worker_gateway", "min_replicas"), "roles.worker_gateway.min_replicas"),
        (_with(1, "roles", "control_plane", "max_replicas"), "roles.control_plane"),
        (_with("512MB", "roles", "scheduler", "memory"), "roles.scheduler.memory"),
        (_with(0.5, "roles", "scheduler", "cpu"), "roles.scheduler.cpu"),
        (_with("10 GB", "database", "storage"), "database.storage"),
        (_with("backups/", "database", "backups", "destination"), "database.backups.destination"),
        (_with("http://s3.example", "database", "backups", "endpoint"), "database.backups.endpoint"),
        (_with("Region A", "region"), "region"),
        (_with("", "domain"), "domain"),
        (_with("https://dispatchd.example", "client_domain"), "client_domain"),
        (_with("30", "lease_duration"), "lease_duration"),
        (_with("verbose", "log_level"), "log_level"),
        (_with("prod", "app_env"), "app_env"),
        (_with("development-kind", "app_env"), "app_env"),
        (_with("10.0.0.0/8", "client_cidrs"), "client_cidrs"),
        (_with(["10.0.0.1/8"], "client_cidrs"), "client_cidrs"),
        (_with(["0.0.0.0/0"], "client_cidrs"), "client_cidrs"),
        (_with(["::/0"], "client_cidrs"), "client_cidrs"),
        (_with("region-b", "peer_region"), "peer_region"),
        (_with(1, "database", "instances"), "database.instances"),
        (_with("\t", "auth", "audience"), "auth.audience"),
        (_with('"https://login"', "auth", "issuer"), "auth.issuer"),
        (_with("https://vault\x01", "secret_store", "server"), "secret_store.server"),
        (_with("a: b", "secret_store", "path"), "secret_store.path"),
        (_with("/pki", "secret_store", "pki_path"), "secret_store.pki_path"),
        (_with("", "secret_store", "mount_path"), "secret_store.mount_path"),
        (_with("a/b", "secret_store", "role"), "secret_store.role"),
        (_with("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n", *CA), "secret_store.ca_certificates"),
        (_with("MIIB", *CA), "secret_store.ca_certificates"),
        (_with("false", "allow_mutations"), "allow_mutations"),
    ],
)
def test_an_unusable_setting_of_an_environment_is_refused_with_file_and_key(
    infra: Path, change: Callable[[dict[str, Any]], object], key: str
) -> None:
    _change(stack_file(infra, Stack.STAGING), change)

    with pytest.raises(SettingsError) as refused:
        read_environment(infra, Stack.STAGING)

    assert "infra/gitops/Pulumi.staging.yaml: " in str(refused.value)
    assert key in str(refused.value)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (_without("repository"), "repository"),
        (_with("git@github.com:dispatchd/dispatchd.git", "repository", "url"), "repository.url"),
        (_with("https://user:token@github.com/a/b.git", "repository", "url"), "repository.url"),
        (_without("addons", "keda"), "addons.keda"),
        (_with("1.x", "addons", "keda", "version"), "addons.keda.version"),
        (_with("x" * 64, "addons", "keda", "chart"), "addons.keda.chart"),
        (_with("http://charts.example", "addons", "keda", "repository"), "addons.keda.repository"),
        (_with("dispatchd", "addons", "keda", "namespace"), "addons.keda.namespace"),
        (_with("argocd", "addons", "prometheus", "namespace"), "addons.prometheus.namespace"),
        (_with("plugins", "addons", "barman_cloud", "namespace"), "addons.barman_cloud.namespace"),
        (_with(" ", "postgres", "name"), "postgres.name"),
        (_with("a: b", "valkey", "tag"), "valkey.tag"),
        (_with("ghcr.io", "registry"), "registry"),
        (_with("sha256:abc", "postgres", "digest"), "postgres.digest"),
        (_with("Dispatchd", "namespaces", "dispatchd"), "namespaces.dispatchd"),
        (_with("argocd", "namespaces", "dispatchd"), "namespaces"),
        (_with("", "repository", "main"), "repository.main"),
        (_with("--all", "repository", "production"), "repository.production"),
        (_with("main", "repository", "production"), "repository"),
    ],
)
def test_an_unusable_setting_of_all_stacks_is_refused_with_file_and_key(
    infra: Path, change: Callable[[dict[str, Any]], object], key: str
) -> None:
    _change(infra / "common.yaml", change)

    with pytest.raises(SettingsError) as refused:
        read_common(infra)

    assert "infra/common.yaml: " in str(refused.value)
    assert key in str(refused.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("config: [", "no YAML"),
        pytest.param("config: " + "[" * 5000, "no YAML", id="deep"),
        ("- a", "mapping"),
        ("config: {}", CONFIG_KEY),
        ("config:", CONFIG_KEY),
        ("config: [a]", "config: write a mapping"),
        ("config: text", "config: write a mapping"),
        ("config: {}\nconfig: {}", "the key config stands there twice"),
        (f"config: {{'{CONFIG_KEY}': {{secure: AAAB}}}}", "in clear"),
        (f"config: {{'{CONFIG_KEY}': 3}}", CONFIG_KEY),
        (b"\xff\xfe", "no YAML"),
    ],
)
def test_a_stack_file_of_another_shape_is_refused_by_name(infra: Path, content: str | bytes, reason: str) -> None:
    stack_file(infra, Stack.STAGING).write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(SettingsError) as refused:
        read_environment(infra, Stack.STAGING)

    assert "infra/gitops/Pulumi.staging.yaml: " in str(refused.value)
    assert reason in str(refused.value)


def test_a_stack_without_a_file_is_refused_by_name(infra: Path) -> None:
    stack_file(infra, Stack.STAGING).unlink()

    with pytest.raises(SettingsError, match=r"infra/gitops/Pulumi\.staging\.yaml: this file can't be read"):
        read_environment(infra, Stack.STAGING)


def test_every_mistake_of_a_file_is_named_at_once(infra: Path) -> None:
    _change(stack_file(infra, Stack.STAGING), _without("region"))
    _change(stack_file(infra, Stack.STAGING), _with("none", "roles", "scheduler", "memory"))

    with pytest.raises(SettingsError) as refused:
        read_environment(infra, Stack.STAGING)

    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("own", "peer"), [("prod-region-b", "prod-region-a"), ("prod-region-a", "prod-region-a"), ("prod-region-a", None)]
)
def test_a_production_stack_with_the_regions_of_another_is_refused(infra: Path, own: str, peer: str | None) -> None:
    stack = Stack.PROD_REGION_A
    content = yaml.safe_load(stack_file(infra, stack).read_text(encoding="utf-8"))["config"][CONFIG_KEY]
    content |= {"region": own, "peer_region": peer}

    with pytest.raises(SettingsError, match="needs region prod-region-a and peer_region prod-region-b"):
        environment_from(content, stack, "Pulumi.prod-region-a.yaml")


@pytest.mark.parametrize("stack", [each for each in Stack if each is not Stack.BASE])
def test_render_refuses_unusable_settings_and_writes_nothing(infra: Path, stack: Stack) -> None:
    _change(stack_file(infra, stack), _with(0, "roles", "scheduler", "replicas"))

    done = CliRunner().invoke(main, ["--infra", str(infra), "render"])

    assert done.exit_code == 1
    assert f"Error: infra/gitops/Pulumi.{stack}.yaml: {CONFIG_KEY}: roles.scheduler.replicas: " in done.output
    assert not (infra.parent / "gitops").exists()


def test_render_refuses_an_unknown_stack_and_lists_the_known_ones(infra: Path) -> None:
    done = CliRunner().invoke(main, ["--infra", str(infra), "render", "--stack", "production"])

    assert done.exit_code == 2
    assert all(repr(str(stack)) in done.output for stack in Stack)
    assert not (infra.parent / "gitops").exists()
