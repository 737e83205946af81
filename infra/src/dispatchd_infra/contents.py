"""What a generated folder may hold: safe paths, our header, YAML that parses, each object once, no Secret's data."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

import yaml

from dispatchd_infra.emit import HEADER_START, Folder

PATCH = ".patch.yaml"
"""What the name of a patch ends in. A patch names the object that it changes, so it is no second one."""


def mistakes_in(folder: Folder) -> list[str]:
    """A line for each mistake, with the file and what to change; empty if the folder may be written."""
    mistakes = _path_mistakes("the folder's path", folder.path)
    places: dict[tuple[str, str, str], str] = {}
    for name, text in sorted(folder.files.items()):
        file = f"{folder.path}/{name}"
        mistakes += _path_mistakes(file, name)
        if any(fnmatchcase(name, glob) for glob in folder.preserve):
            mistakes.append(f"{file}: this file is to be written and to be preserved; it can have only one owner")
        if not text.startswith(HEADER_START):
            mistakes.append(f"{file}: the file doesn't begin with the header that says it is generated")
        if not name.endswith((".yaml", ".yml")):
            continue
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as exc:
            mistakes.append(f"{file}: this is not one document of YAML: {' '.join(str(exc).split())}")
            continue
        for each in _objects(value):
            mistakes += _secret_mistakes(file, each)
            identity = _identity(each)
            if identity is None or name.endswith(PATCH):
                continue
            if identity in places:
                kind, namespace, called = identity
                where = f" in namespace {namespace}" if namespace else ""
                mistakes.append(f"{file}: {kind} {called}{where} is already in {places[identity]}; keep one of them")
            else:
                places[identity] = file
    return mistakes


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader, the one written in C where there is one: it is ten times as fast."""


def _path_mistakes(what: str, path: str) -> list[str]:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or str(pure) != path or path == ".":
        return [f"{what}: {path!r} is not a plain path relative to its folder, such as `base/deployment.yaml`"]
    return []


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """The object of a document, or those of a List."""
    if not isinstance(value, dict):
        return
    if str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list):
        for each in value["items"]:
            yield from _objects(each)
    else:
        yield value


def _identity(value: dict[str, Any]) -> tuple[str, str, str] | None:
    metadata = value.get("metadata")
    if not isinstance(value.get("kind"), str) or not isinstance(metadata, dict) or "name" not in metadata:
        return None
    return value["kind"], str(metadata.get("namespace", "")), str(metadata["name"])


def _secret_mistakes(file: str, value: dict[str, Any]) -> list[str]:
    if value.get("kind") == "Secret" and (value.get("data") or value.get("stringData")):
        return [f"{file}: a Secret with data may not be in git; let an ExternalSecret fetch it"]
    if value.get("kind") in ("Kustomization", "Component") and value.get("secretGenerator"):
        return [f"{file}: secretGenerator would put a Secret's data in git; let an ExternalSecret fetch it"]
    return []
