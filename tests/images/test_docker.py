"""What is asked of Docker's client, with a client in its place that notes it down."""

from pathlib import Path

import pytest

from images import check
from images.docker import Docker, DockerFailed

CLIENT = """#!/bin/sh
echo "$*" >>"{folder}/asked"
case "$1" in
inspect) test -e "{folder}/$2" && echo "[{{}}]" ;;
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
    with pytest.raises(DockerFailed):
        check.check(docker, "base")  # this client builds nothing, so that there is no image to look at
    asked = [line.split()[0] for line in (tmp_path / "asked").read_text().splitlines()]
    assert asked[:3] == ["inspect", "pull", "build"]
    docker.fetch("base")
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "inspect base"


def test_without_a_base_nothing_is_built(docker: Docker, tmp_path: Path) -> None:
    with pytest.raises(DockerFailed, match="docker pull --quiet"):
        check.check(docker, "unknown")
    assert "build" not in (tmp_path / "asked").read_text()
