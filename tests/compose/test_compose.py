"""compose.yaml is well-formed, gives the roles what they read, starts in order, and keeps to this machine.

`compose-spec.json` is the JSON schema of the Compose specification; docs/versions.md says where it is from.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from dispatchd.entrypoints.settings import Role, SettingsError, load_database_settings, load_settings

REPOSITORY = Path(__file__).parents[2]
SCHEMA = json.loads(Path(__file__).with_name("compose-spec.json").read_text(encoding="utf-8"))
COMMON = yaml.safe_load((REPOSITORY / "infra" / "common.yaml").read_text(encoding="utf-8"))
OURS = (*(role.value for role in Role), "migrate")
Project = dict[str, Any]
Read = Callable[[Mapping[str, str]], Project]


class Noting(Mapping[str, str]):
    """An environment that notes which of its variables are asked for."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def unread(role: Role, variables: Mapping[str, str]) -> set[str]:
    """The variables that a role never asks for, though it is given them."""
    noting = Noting(variables)
    load_settings(role, noting)
    return set(variables) - noting.asked


def whole_file() -> Project:
    """The file as it is written, with its anchors resolved."""
    found: Project = yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))
    return found


def test_the_file_is_what_the_compose_specification_allows() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(whole_file())] == []


def test_the_schema_is_the_one_whose_origin_is_noted() -> None:
    digest = hashlib.sha256(Path(__file__).with_name("compose-spec.json").read_bytes()).hexdigest()
    versions = (REPOSITORY / "docs" / "versions.md").read_text(encoding="utf-8")
    [row] = [line for line in versions.splitlines() if "compose-spec.json" in line]
    assert f"sha256 {digest[:8]}…" in row


@pytest.mark.parametrize(
    "mistake", [{"restrat": "always"}, {"depends_on": {"redis": {"condition": "healthy"}}}, {"ports": "8080:8080"}]
)
def test_the_schema_notices_a_mistake(mistake: dict[str, object]) -> None:
    wrong = whole_file()
    wrong["services"]["scheduler"] |= mistake
    assert list(Draft202012Validator(SCHEMA).iter_errors(wrong))


@pytest.mark.parametrize("role", Role)
def test_a_role_takes_every_setting_that_it_is_given(role: Role, project: Project) -> None:
    variables = project["services"][role]["environment"]
    assert load_settings(role, variables).warnings == ()
    assert unread(role, variables) == set()
    assert unread(role, variables | {"REDIS_ADRESS": "redis:6379"}) == {"REDIS_ADRESS"}


def test_migrate_works_on_the_database_of_the_roles(project: Project) -> None:
    migrate = project["services"]["migrate"]
    assert migrate["command"] == ["migrate"]
    assert migrate["environment"] == project["services"]["control-plane"]["environment"]
    postgres = project["services"]["postgres"]["environment"]
    assert load_database_settings(migrate["environment"]).database_url == (
        f"postgresql://{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}@postgres:5432/{postgres['POSTGRES_DB']}"
    )


def test_ports_are_those_of_the_contract_and_of_this_machine_alone(project: Project) -> None:
    published = {
        name: {(port["host_ip"], port["published"], port["target"]) for port in service.get("ports", [])}
        for name, service in project["services"].items()
    }
    assert published == {
        "control-plane": {("127.0.0.1", "8080", 8080), ("127.0.0.1", "9100", 9100)},
        "scheduler": {("127.0.0.1", "9101", 9101)},
        "worker-gateway": {("127.0.0.1", "8081", 8080), ("127.0.0.1", "9102", 9102)},
        "migrate": set(),
        "postgres": set(),
        "redis": set(),
    }
    for role in Role:
        settings = load_settings(role, project["services"][role]["environment"])
        serves = {settings.metrics_port} if role is Role.SCHEDULER else {settings.metrics_port, settings.grpc_port}
        assert serves == {target for _, _, target in published[role]}


def test_everything_waits_until_what_it_needs_is_well(project: Project) -> None:
    gates = {
        name: {needed: gate["condition"] for needed, gate in service.get("depends_on", {}).items()}
        for name, service in project["services"].items()
    }
    for role in Role:
        assert gates.pop(role) == {"redis": "service_healthy", "migrate": "service_completed_successfully"}
    assert gates == {"migrate": {"postgres": "service_healthy"}, "postgres": {}, "redis": {}}
    assert project["services"]["postgres"]["healthcheck"]["test"][1] == "pg_isready"
    assert project["services"]["redis"]["healthcheck"]["test"][1:] == ["valkey-cli", "ping"]
    assert all("healthcheck" not in project["services"][role] for role in Role), "their images bring one"


def test_nothing_takes_the_whole_machine(project: Project) -> None:
    for name, service in project["services"].items():
        assert 0 < int(service["mem_limit"]) <= 2**30, name
        assert 0 < service["cpus"] <= 2, name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")


def test_every_container_runs_without_rights_over_a_root_that_can_not_be_written_to(project: Project) -> None:
    for name, service in project["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for place in service["tmpfs"]:
            user, _, group = service.get("user", "").partition(":")
            assert place.startswith("/tmp:") or f",uid={user},gid={group}," in place, f"{name}: {place}"


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_servers_run_as_the_users_that_they_have_in_dev_and_may_write_where_they_do_there(
    name: str, project: Project
) -> None:
    manifest = (REPOSITORY / "gitops" / "overlays" / "dev" / f"statefulset-{name}.yaml").read_text(encoding="utf-8")
    pod = yaml.safe_load(manifest)["spec"]["template"]["spec"]
    context, [container] = pod["securityContext"], pod["containers"]
    service = project["services"][name]
    writable = {place.partition(":")[0] for place in service["tmpfs"]}
    writable |= {volume["target"] for volume in service.get("volumes", [])}
    assert service["user"] == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert writable == {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("name", OURS)
def test_our_containers_run_from_images_built_here(name: str, project: Project) -> None:
    service = project["services"][name]
    image = "control-plane" if name == "migrate" else name
    assert service["image"] == f"{COMMON['registry']}/dispatchd-{image}:local"
    assert service["pull_policy"] == "never"


@pytest.mark.parametrize(("name", "entry"), [("postgres", "postgres_dev"), ("redis", "valkey")])
def test_servers_are_the_images_of_dev(name: str, entry: str, project: Project) -> None:
    pinned = COMMON[entry]
    assert project["services"][name]["image"] == f"{pinned['name']}:{pinned['tag']}@{pinned['digest']}"


def test_a_password_of_ones_own_replaces_the_default_everywhere(read: Read) -> None:
    services = read({"POSTGRES_PASSWORD": "other7"})["services"]
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == "other7"
    for name in OURS:
        assert "dispatchd:other7@" in services[name]["environment"]["DATABASE_URL"]


@pytest.mark.parametrize("role", Role)
def test_outside_development_no_role_starts_like_this(role: Role, project: Project) -> None:
    variables = project["services"][role]["environment"] | {"APP_ENV": "production"}
    with pytest.raises(SettingsError, match="AUTH_ENABLED"):
        load_settings(role, variables)
