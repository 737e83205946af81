"""The files of a region switch, below `gitops/regions/`: what is in them, and reading it back.

`active/` tells the roles of both regions which one is the primary, and under which epoch: one commit moves both. It
also names the primary database in an annotation, so that git can't merge two promotions of different databases.
`database/<region>/` holds that region's Postgres cluster. Its state stands in annotations of the component, so that it
can be read back; the objects follow from the state and the settings. `infra promote-region` alone writes them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from dispatchd_infra import emit, kustomize
from dispatchd_infra.emit import Folder
from dispatchd_infra.manifests import configuration
from dispatchd_infra.objects import Object
from dispatchd_infra.region_state import Bootstrap, DatabaseRole, Regions, RegionState, StateRefused, peer_of
from dispatchd_infra.settings import PRODUCTION, SettingsError, Stack, checked

PLACE = "gitops/regions"
ACTIVE = f"{PLACE}/active"
PRIMARY_REGION = "PRIMARY_REGION"
REGION_EPOCH = "REGION_EPOCH"

Reader = Callable[[str], str | None]
"""Gives the text of a file by its path from the top of the repository, or None if it is not there."""

DatabaseObjects = Callable[[RegionState, RegionState], Sequence[Object]]
"""Makes the objects of a region's database from its state and that of the other region."""

_HEADER = f"{emit.HEADER_START} promote-region, which alone changes this file.\n"
_ANNOTATION = "dispatchd.regions/"
_PRIMARY = Annotated[str, Field(pattern=rf"^{PRIMARY_REGION}=")]
_EPOCH = Annotated[str, Field(pattern=rf"^{REGION_EPOCH}=[1-9][0-9]{{0,9}}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Generator(_Model):
    name: Literal["dispatchd-region"]
    literals: tuple[_PRIMARY, _EPOCH]


class _Active(_Model):
    generators: Annotated[tuple[_Generator], Field(alias="configMapGenerator")]


class _Annotations(_Model):
    role: Annotated[DatabaseRole, Field(alias=f"{_ANNOTATION}role")]
    bootstrap: Annotated[Bootstrap, Field(alias=f"{_ANNOTATION}bootstrap")]
    archive: Annotated[int, Field(alias=f"{_ANNOTATION}archive")]
    token: Annotated[str | None, Field(alias=f"{_ANNOTATION}promotion-token")] = None


class _Metadata(_Model):
    annotations: _Annotations


class _Database(_Model):
    metadata: _Metadata


def database_place(stack: Stack) -> str:
    """The folder with the database of one region."""
    return f"{PLACE}/database/{stack}"


PLACES = (ACTIVE, *map(database_place, PRODUCTION))
"""All folders of regions."""


def folders(regions: Regions, objects: DatabaseObjects) -> list[Folder]:
    """All files of both regions."""
    return [
        Folder(ACTIVE, {kustomize.FILE: _text(_active(regions))}),
        *(_database_folder(regions.of(stack), regions.of(peer_of(stack)), objects) for stack in PRODUCTION),
    ]


def files_in(root: Path) -> Reader:
    """Reads the files as they are on disk."""

    def read_file(path: str) -> str | None:
        file = root / path
        try:
            return file.read_text("utf-8") if file.is_file() else None
        except UnicodeDecodeError as exc:
            raise SettingsError(f"{path}: this is no text in UTF-8: {exc}") from exc

    return read_file


def is_begun(reader: Reader) -> bool:
    """Whether there are files of regions at all."""
    return any(reader(f"{place}/{kustomize.FILE}") is not None for place in PLACES)


def read(reader: Reader) -> Regions:
    """The state that the files hold. Raises SettingsError or StateRefused, with the file."""
    active = checked(_Active, _yaml(reader, ACTIVE), f"{ACTIVE}/{kustomize.FILE}")
    primary, epoch = (literal.partition("=")[2] for literal in active.generators[0].literals)
    if primary not in PRODUCTION:
        raise SettingsError(
            f"{ACTIVE}/{kustomize.FILE}: {PRIMARY_REGION}: {primary} is none of {', '.join(PRODUCTION)}"
        )
    try:
        return Regions(Stack(primary), int(epoch), {stack: _state(reader, stack) for stack in PRODUCTION})
    except StateRefused as exc:
        raise StateRefused(f"{PLACE}: {exc}") from exc


def _state(reader: Reader, stack: Stack) -> RegionState:
    place = database_place(stack)
    found = checked(_Database, _yaml(reader, place), f"{place}/{kustomize.FILE}").metadata.annotations
    return RegionState(stack, found.role, found.bootstrap, found.archive, found.token)


def _yaml(reader: Reader, place: str) -> object:
    path = f"{place}/{kustomize.FILE}"
    text = reader(path)
    if text is None:
        raise SettingsError(f"{path}: this file is missing; `infra promote-region --step begin` writes it")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as exc:
        raise SettingsError(f"{path}: this is no YAML: {exc}") from exc


def _active(regions: Regions) -> Object:
    values = configuration.region_settings(regions.primary, regions.epoch)
    primary_database = regions.primary_database
    return {
        **kustomize.component(config_maps=[kustomize.config_map(configuration.REGION, values)]),
        "metadata": {
            "name": "active",
            "annotations": {
                f"{_ANNOTATION}primary-database": "none" if primary_database is None else str(primary_database)
            },
        },
    }


def _database_folder(state: RegionState, peer: RegionState, objects: DatabaseObjects) -> Folder:
    found = {emit.file_name(value): _text(value) for value in objects(state, peer)}
    component = {
        **kustomize.component(resources=sorted(found)),
        "metadata": {"name": str(state.stack), "annotations": _annotations(state)},
    }
    return Folder(database_place(state.stack), {kustomize.FILE: _text(component), **found})


def _annotations(state: RegionState) -> Mapping[str, str]:
    values = {
        "role": str(state.role),
        "bootstrap": str(state.bootstrap),
        "archive": str(state.archive),
        "promotion-token": state.token,
    }
    return {_ANNOTATION + key: value for key, value in values.items() if value is not None}


def _text(value: Object) -> str:
    return _HEADER + emit.body(value)
