"""What a container finds when it starts: its variables, and the files that its pod mounts, below a folder of the test.

Nothing is assumed that is not rendered: a ConfigMap, a Secret or a key that no object brings is a KeyError.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.objects import Object, Objects, of_kind

Contents = Mapping[str, Mapping[str, str]]
"""The keys of each Secret, or of each ConfigMap, and what they hold."""


@dataclass(frozen=True, slots=True)
class Start:
    """The environment of one container. Paths in it lead to the files below `root`, as mounted ones would."""

    environ: dict[str, str]
    files: dict[str, Path]
    """Each mounted file, by its path in the container."""


def start(container: Object, pod: Object, config_maps: Contents, secrets: Contents, root: Path) -> Start:
    """Writes the mounted files, and collects the variables in the order in which kubelet does."""
    files = _mounted(container, pod, config_maps, secrets, root)
    environ: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        environ |= config_maps[source["configMapRef"]["name"]]
    for variable in container.get("env", ()):
        environ[variable["name"]] = _value(variable, config_maps, secrets)
    folders = sorted({str(Path(path).parent) for path in files}, key=len, reverse=True)
    return Start({name: _moved(value, folders, root) for name, value in environ.items()}, files)


def config_maps_of(objects: Objects) -> dict[str, dict[str, str]]:
    return {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}


def _value(variable: Object, config_maps: Contents, secrets: Contents) -> str:
    if "value" in variable:
        return str(variable["value"])
    source = variable["valueFrom"]
    if "secretKeyRef" in source:
        return secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
    return config_maps[source["configMapKeyRef"]["name"]][source["configMapKeyRef"]["key"]]


def _mounted(container: Object, pod: Object, config_maps: Contents, secrets: Contents, root: Path) -> dict[str, Path]:
    volumes = {each["name"]: each for each in pod.get("volumes", ())}
    files = {}
    for mount in container.get("volumeMounts", ()):
        volume = volumes[mount["name"]]
        if "emptyDir" in volume:
            continue
        source = volume.get("secret") or volume["configMap"]
        content = secrets[source["secretName"]] if "secret" in volume else config_maps[source["name"]]
        items = source.get("items") or [{"key": key, "path": key} for key in content]
        for item in items:
            path = f"{mount['mountPath']}/{item['path']}"
            files[path] = root / path.lstrip("/")
            files[path].parent.mkdir(parents=True, exist_ok=True)
            files[path].write_text(content[item["key"]])
    return files


def _moved(value: str, folders: list[str], root: Path) -> str:
    """The value with the paths of mounted folders as they are in the test."""
    if not folders:
        return value
    return re.sub(f"({'|'.join(map(re.escape, folders))})(?=/)", lambda found: f"{root}{found[0]}", value)
