"""What a step is: one command as data, which both the Dagger module and the native runner execute."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class ImageRole(StrEnum):
    """Which environment a command needs: a container in the module, a folder of executables on this machine."""

    PYTHON = "python"  # the application with its tests
    INFRA = "infra"
    PIPELINES = "pipelines"
    SCAN = "scan"


class Needs(StrEnum):
    """What a command needs beyond its environment. Where that is missing, the step is "not run", and never passed."""

    NOTHING = "nothing"
    DAEMON = "a Docker daemon"
    NETWORK_DATABASE = "a database in the network"
    SERVICES = "an empty Postgres and an empty Redis, named by DATABASE_URL and REDIS_ADDRESS"
    PULUMI = "the tools of `make infra-tools TIER=gitops`"
    API_SERVER = "the tools of `make infra-tools`"


EXECUTABLES: Mapping[ImageRole, frozenset[str]] = MappingProxyType(
    {
        ImageRole.PYTHON: frozenset({"python", "pytest", "ruff", "mypy", "lint-imports", "buf", "uv"}),
        ImageRole.INFRA: frozenset({"python", "pytest", "mypy", "infra", "kubectl"}),
        ImageRole.PIPELINES: frozenset({"python", "pytest", "mypy"}),
        ImageRole.SCAN: frozenset({"python"}),
    }
)
"""What each environment provides. The first word of every command is one of these."""


FOLDERS: Mapping[ImageRole, str] = MappingProxyType(
    {
        ImageRole.PYTHON: ".venv",
        ImageRole.INFRA: "infra/.venv",
        ImageRole.PIPELINES: "pipelines/.venv",
        ImageRole.SCAN: "pipelines/scanners/.venv",
    }
)
"""Where each environment is, on this machine and in a container: some tests execute what is in one of the others."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command: never `make`, and never another step."""

    name: str
    argv: tuple[str, ...]
    inputs: tuple[str, ...]
    """Patterns of tracked files that the command reads: a path, `folder/**`, or `**/*.py`."""
    image: ImageRole
    environment: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "."
    outputs: tuple[str, ...] = ()
    """Files and folders that the command leaves."""
    needs: Needs = Needs.NOTHING
    history: bool = False
    """It reads the whole history in .git as well, and calls git for that."""
    alone: bool = False
    """It keeps all cores busy or measures time, so that the native runner starts nothing beside it."""


class UnknownStep(Exception):
    """There is no step with one of these names."""

    def __init__(self, names: tuple[str, ...], choices: tuple[str, ...]) -> None:
        super().__init__(f"no step is called {', '.join(names)}; the steps are: {', '.join(choices)}")
        self.names = names
        self.choices = choices
