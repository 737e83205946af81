"""What is asked of Docker's client, with a client in its place that notes it down."""

from pathlib import Path

import pytest
import yaml

from images import build, check
from images.docker import Docker, DockerFailed

CLIENT = """#!/bin/sh
echo "$*" >>"{folder}/asked"
case "$1" in
inspect) test -e "{folder}/$2" && echo "[{{}}]" ;;
build) case "$*" in *BASE=broken*) echo "this base is broken" >&2; exit 1 ;; esac ;;
run) case "$*" in *does-not-start*) exit 125 ;; esac ;;
rm) test "$3" != gone ;;
pull) test "$3" != unknown && touch "{folder}/$3" ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    """A daemon with the images whose names are files of the folder, which can pull all but `unknown`."""
    client = tmp_path / "docker"
    client.write_text(CLIENT.format(folder=tmp_path), encoding="utf-8")
    client.chmod(0o755)
    return Docker(str(client))


def test_a_base_that_is_not_here_is_pulled_so_that_its_layers_can_be_told_from_ours(
    docker: Docker, tmp_path: Path
) -> None:
    with pytest.raises(DockerFailed, match="docker inspect"):
        check.check(docker, "base")  # this client builds nothing, so that there is no image to look at
    asked = [line.split()[0] for line in (tmp_path / "asked").read_text().splitlines()]
    assert asked[:3] == ["inspect", "pull", "build"]
    docker.fetch("base")
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "inspect base"


def test_without_a_base_nothing_is_built(docker: Docker, tmp_path: Path) -> None:
    with pytest.raises(DockerFailed, match="docker pull --quiet"):
        check.check(docker, "unknown")
    assert "build" not in (tmp_path / "asked").read_text()


def test_containers_are_removed_also_those_that_could_not_be_started(docker: Docker, tmp_path: Path) -> None:
    ports = {"control-plane": (1, 2), "does-not-start": (3, 4), "never-begun": (5, 6)}
    with pytest.raises(DockerFailed, match="docker run"), check.running(docker, {}, ports):
        pytest.fail("one was not started")
    asked = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
    removed = [words[2].split("-", 3)[3] for words in asked if words[0] == "rm"]
    assert removed == list(ports)
    docker.remove("gone")


def test_all_three_are_built_under_the_names_that_compose_looks_for(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "Docker", lambda: docker)
    monkeypatch.setenv("IMAGE_BASE", "base of ours")
    assert build.main() == 0
    built = [line for line in (tmp_path / "asked").read_text().splitlines() if line.startswith("build ")]
    assert all("--build-arg BASE=base of ours " in line for line in built)
    services = yaml.safe_load((build.REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    wanted = [f"--build-arg SERVICE={role} " for role in build.ROLES]
    assert [each for each, line in zip(wanted, built, strict=True) if each in line] == wanted
    assert [line.split("--tag ")[1].split()[0] for line in built] == [services[role]["image"] for role in build.ROLES]


def test_a_build_that_fails_is_told_and_fails(
    docker: Docker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "Docker", lambda: docker)
    monkeypatch.setenv("IMAGE_BASE", "broken")
    assert build.main() == 1
    assert capsys.readouterr().out.splitlines()[1] == "images: failed: docker build --quiet: this base is broken"


def test_without_a_daemon_nothing_is_built_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "Docker", lambda: Docker("no-client-of-this-name"))
    assert build.main() == 75
    assert capsys.readouterr().out.startswith("images: not run: no Docker daemon answers")
