"""compose.yaml as Docker Compose itself reads it, which needs no daemon."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
Project = dict[str, Any]


@pytest.fixture(scope="session")
def read() -> Callable[[Mapping[str, str]], Project]:
    """Reads the file with these variables set, and refuses whatever Compose has to say of it."""

    def read(variables: Mapping[str, str]) -> Project:
        command = [str(Path(sys.executable).with_name("docker-compose")), "config", "--format", "json"]
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment | dict(variables), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        project: Project = json.loads(done.stdout)
        return project

    return read


@pytest.fixture(scope="session")
def project(read: Callable[[Mapping[str, str]], Project]) -> Project:
    """The file as it is, with no variable set."""
    return read({})
