"""What the Dockerfile promises, read from its text, without a daemon. `make image-check` builds and uses the images."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from images import check
from images.build import ROLES
from images.docker import Docker
from images.dockerfile import Dockerfile, read

REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = read((REPOSITORY / "Dockerfile").read_text(encoding="utf-8"))
IGNORED = [
    line
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
each_role = pytest.mark.parametrize("role", ROLES)


def test_service_picks_one_of_the_three_roles_and_no_other_stage_can_be_the_result() -> None:
    assert DOCKERFILE.text.splitlines()[-1] == "FROM ${SERVICE}"
    assert DOCKERFILE.arguments["SERVICE"] in ROLES
    assert set(DOCKERFILE.stages) == {"build", "runtime", *ROLES, ""}


def test_both_bases_are_one_image_with_a_digest_that_was_seen() -> None:
    image, _, digest = DOCKERFILE.arguments["BASE"].partition("@")
    rows = (REPOSITORY / "docs" / "versions.md").read_text(encoding="utf-8")
    seen = re.search(r"\| base of the images[^|]*, (\S+) \| (\S+), (sha256:[0-9a-f]{8})…", rows)

    assert seen is not None
    assert image == f"{seen[1]}:{seen[2]}"
    assert re.fullmatch(rf"{seen[3]}[0-9a-f]{{56}}", digest)
    assert {DOCKERFILE.only(stage, "FROM").partition(" ")[0] for stage in ("build", "runtime")} == {"${BASE}"}


def test_the_frontend_of_debian_understands_it() -> None:
    assert not DOCKERFILE.text.startswith("# syntax=")
    assert "--link" not in DOCKERFILE.text
    assert "<<" not in DOCKERFILE.text


@each_role
def test_a_role_is_started_without_a_shell(role: str) -> None:
    assert json.loads(DOCKERFILE.only("runtime", "ENTRYPOINT")) == ["dispatchd"]
    assert json.loads(DOCKERFILE.only(role, "CMD")) == [role]
    assert DOCKERFILE.only(role, "FROM").partition(" ")[0] == "runtime"


@each_role
def test_a_role_exposes_the_ports_that_its_pods_have_and_checks_its_own_health(role: str) -> None:
    [container] = _pod(role)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    assert sorted(map(int, DOCKERFILE.only(role, "EXPOSE").split())) == sorted(ports.values())
    assert DOCKERFILE.only(role, "ENV") == f"METRICS_PORT={ports['http']}"
    _, _, command = DOCKERFILE.only(role, "HEALTHCHECK").partition("CMD ")
    assert json.loads(command)[:2] == ["python", "-c"]
    assert container["readinessProbe"]["httpGet"]["path"] in command


def test_the_user_is_the_one_of_the_pods() -> None:
    context = _pod("control-plane")["securityContext"]

    assert DOCKERFILE.only("runtime", "USER") == f"{context['runAsUser']}:{context['runAsGroup']}" == check.USER


def test_what_others_wrote_is_installed_from_the_lock_before_our_code_is_copied() -> None:
    build = [f"{each.name} {each.rest}" for each in DOCKERFILE.stages["build"]]
    [lock] = [number for number, line in enumerate(build) if line.startswith("COPY") and "uv.lock" in line]
    [dependencies] = [number for number, line in enumerate(build) if "--no-install-project" in line]
    [code] = [number for number, line in enumerate(build) if line == "COPY app app"]

    assert lock < dependencies < code
    assert all("--locked" in line and "--no-dev" in line for line in build if "uv sync" in line)


def test_it_is_built_with_the_uv_of_the_makefile() -> None:
    [version] = re.findall(
        r"^UV_VERSION := (\S+)$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert f" uv=={version}" in DOCKERFILE.of("build", "RUN")[0]


def test_a_build_sees_exactly_what_it_copies() -> None:
    copied = {
        word for line in DOCKERFILE.of("build", "COPY") for word in line.split()[:-1] if not word.startswith("--")
    }

    assert IGNORED[0] == "*"
    assert {line.removeprefix("!") for line in IGNORED if line.startswith("!")} == copied
    assert all((REPOSITORY / path).exists() for path in copied)


def test_a_build_sees_no_secret_no_history_and_no_environment() -> None:
    for path in (".git/config", ".venv/bin/python", ".dispatchd/postgres/password", "infra/common.yaml", ".env"):
        assert not any(fnmatch(path.partition("/")[0], line.removeprefix("!")) for line in IGNORED[1:]), path


def test_a_dockerfile_is_taken_apart_as_it_is_written() -> None:
    found: Dockerfile = read("ARG A=1\nFROM x AS one\nRUN a \\\n    && b\n# FROM y AS two\nFROM one\n")

    assert found.arguments == {"A": "1"}
    assert found.of("one", "RUN") == ["a && b"]
    assert found.only("", "FROM") == "one"


def _config(**changes: object) -> dict[str, object]:
    right = {
        "User": "65532:65532",
        "Entrypoint": ["dispatchd"],
        "Cmd": ["scheduler"],
        "ExposedPorts": {"9101/tcp": {}},
        "Labels": {"org.opencontainers.image.revision": "abc"},
        "Healthcheck": {"Test": ["CMD", "true"]},
    }
    return {**right, **changes}


def test_an_image_that_is_as_it_should_be_passes() -> None:
    check.check_description("scheduler", _config(), {"REVISION": "abc"})


@pytest.mark.parametrize(
    "changes",
    [
        {"User": "root"},
        {"User": ""},
        {"Entrypoint": ["sh", "-c", "dispatchd"]},
        {"Cmd": ["control-plane"]},
        {"ExposedPorts": {}},
        {"Labels": {}},
        {"Healthcheck": None},
    ],
)
def test_an_image_that_is_not_is_refused_with_what_is_wrong(changes: dict[str, object]) -> None:
    with pytest.raises(check.CheckFailed, match="dispatchd-scheduler:local says"):
        check.check_description("scheduler", _config(**changes), {"REVISION": "abc"})


def test_without_a_daemon_nothing_was_checked_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "Docker", lambda: Docker("no-client-of-this-name"))

    assert check.main() == 75
    assert capsys.readouterr().out.startswith("image-check: not run: no Docker daemon answers")


def _pod(role: str) -> dict[str, Any]:
    text = (REPOSITORY / "gitops" / "base" / f"deployment-{role}.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["spec"]["template"]["spec"]
    return found
