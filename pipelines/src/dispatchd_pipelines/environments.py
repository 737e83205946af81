"""The container in which a step runs, by its role: the same environments that `make setup` and its like make here."""

from typing import assert_never

import dagger
from dagger import dag

from dispatchd_pipelines.pins import UV, Pins
from dispatchd_pipelines.step import FOLDERS, ImageRole, Step

SOURCE = "/src"


class Environments:
    """The containers of one run, from the images that it uses and the source that it checks."""

    def __init__(self, pins: Pins, source: dagger.Directory) -> None:
        self.pins = pins
        self.source = source
        self._of: dict[ImageRole, dagger.Container] = {}
        self.python = python(pins)

    def prepared(self, step: Step) -> dagger.Container:
        """The container before the command of a step. It holds what the step says it reads, so that nothing else makes
        its result stale."""
        container = self.of(step.image).with_directory(SOURCE, self.source.filter(include=list(step.inputs)))
        container = container.with_workdir(f"{SOURCE}/{step.workdir}".removesuffix("/."))
        for name, value in step.environment.items():
            container = container.with_env_variable(name, value)
        for output in step.outputs:
            container = container.with_directory(f"{SOURCE}/{output.rpartition('/')[0]}", dag.directory())
        return container

    def of(self, role: ImageRole) -> dagger.Container:
        """A container that provides the executables of a role, and depends on the source's lock files alone."""
        if role not in self._of:
            self._of[role] = self._made(role)
        return self._of[role]

    def _made(self, role: ImageRole) -> dagger.Container:
        project: tuple[str, ...]
        match role:
            case ImageRole.PYTHON:
                project = ("pyproject.toml", "uv.lock", "README.md", "LICENSE", "app/dispatchd/__init__.py")
                return self._with(role, *project).with_exec(["uv", "sync", "--quiet", "--locked"])
            case ImageRole.INFRA:
                project = ("infra/pyproject.toml", "infra/uv.lock", "infra/src/dispatchd_infra/__init__.py")
                return self._with(role, *project).with_exec(["uv", "sync", "--quiet", "--locked", "--project", "infra"])
            case ImageRole.PIPELINES:
                lock = "pipelines/requirements.lock"
                project = (lock, "pipelines/pyproject.toml", "pipelines/src/dispatchd_pipelines/__init__.py")
                itself = ["uv", "pip", "install", "--quiet", "--no-deps", "--editable", "pipelines"]
                return self._with_all_others(self._with(role, *project).with_exec(_locked(lock)).with_exec(itself))
            case ImageRole.SCAN:
                lock = "pipelines/scanners/requirements.lock"
                return self._with(role, lock).with_exec(_locked(lock))
            case _:
                assert_never(role)

    def _with(self, role: ImageRole, *files: str) -> dagger.Container:
        """Python with an environment for this role that is empty yet, and these files."""
        folder = f"{SOURCE}/{FOLDERS[role]}"
        return (
            self.python.with_directory(SOURCE, self.source.filter(include=list(files)))
            .with_env_variable("UV_PROJECT_ENVIRONMENT", folder)
            .with_env_variable("VIRTUAL_ENV", folder)
            .with_exec(["uv", "venv", "--quiet", folder])
            .with_env_variable("PATH", f"{folder}/bin:${{PATH}}", expand=True)
        )

    def _with_all_others(self, container: dagger.Container) -> dagger.Container:
        """The tests of pipelines/ execute steps of every role."""
        for role in ImageRole:
            if role is not ImageRole.PIPELINES:
                folder = f"{SOURCE}/{FOLDERS[role]}"
                container = container.with_directory(folder, self.of(role).directory(folder))
        return container


def python(pins: Pins) -> dagger.Container:
    """Python with uv, git and make."""
    return (
        dag.container()
        .from_(pins.python)
        .with_mounted_cache("/var/cache/apt", dag.cache_volume("dispatchd-apt"), sharing=dagger.CacheSharingMode.LOCKED)
        .with_exec(["apt-get", "update", "--quiet"])
        .with_exec(["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", "git", "make", "procps"])
        .with_mounted_cache("/root/.cache/pip", dag.cache_volume("dispatchd-pip"))
        .with_exec(["python", "-m", "pip", "install", "--quiet", "--root-user-action=ignore", f"uv=={UV}"])
        .with_mounted_cache("/root/.cache/uv", dag.cache_volume("dispatchd-uv"))
        .with_env_variable("UV_LINK_MODE", "copy")
        .with_env_variable("UV_PYTHON_DOWNLOADS", "never")
        .with_workdir(SOURCE)
    )


def go(pins: Pins) -> dagger.Container:
    """Go, with the modules and builds of earlier runs."""
    return (
        dag.container()
        .from_(pins.go)
        .with_mounted_cache("/go/pkg/mod", dag.cache_volume("dispatchd-go-modules"))
        .with_mounted_cache("/root/.cache/go-build", dag.cache_volume("dispatchd-go-build"))
        .with_workdir(SOURCE)
    )


def _locked(lock: str) -> list[str]:
    return ["uv", "pip", "sync", "--quiet", "--require-hashes", lock]
