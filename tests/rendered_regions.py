"""What `gitops/` gives to the pods of the production regions: their settings, and the commands of the hook."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

_GITOPS: Final = Path(__file__).parents[1] / "gitops"
_BASE: Final = _GITOPS / "base"

Settings = dict[str, str]


def regions() -> tuple[str, str]:
    """The names of both regions: first the primary, as it is committed, then the other."""
    names = {overlay.name: settings(overlay.name, "deployment-control-plane") for overlay in _overlays()}
    assert all(found["REGION"] == name for name, found in names.items())
    [primary] = {found["PRIMARY_REGION"] for found in names.values()}
    [other] = names.keys() - {primary}
    return primary, other


def epoch() -> int:
    """The committed one."""
    [found] = {settings(overlay.name, "job-migrate")["REGION_EPOCH"] for overlay in _overlays()}
    return int(found)


def settings(region: str, workload: str) -> Settings:
    """The ConfigMaps that the first container of a workload reads as its environment, in their order."""
    made = _config_maps(_GITOPS / "overlays" / region)
    found: Settings = {}
    for source in _pod(workload)["containers"][0]["envFrom"]:
        found |= made[source["configMapRef"]["name"]]
    return found


def hook() -> Sequence[Sequence[str]]:
    """The commands of a deployment, in their order."""
    pod = _pod("job-migrate")
    return [container["args"] for container in (*pod["initContainers"], *pod["containers"])]


def _overlays() -> list[Path]:
    return sorted((_GITOPS / "overlays").glob("prod-region-*"))


def _pod(workload: str) -> Any:
    return _read(_BASE / f"{workload}.yaml")["spec"]["template"]["spec"]


def _config_maps(folder: Path) -> dict[str, Settings]:
    """Those that a kustomization makes from literals, by name; its own come after those of what it includes."""
    kustomization = _read(folder / "kustomization.yaml")
    found: dict[str, Settings] = {}
    for entry in (*kustomization.get("resources", ()), *kustomization.get("components", ())):
        if (folder / entry).is_dir():
            for name, literals in _config_maps((folder / entry).resolve()).items():
                found.setdefault(name, {}).update(literals)
    for generator in kustomization.get("configMapGenerator", ()):
        literals = dict(literal.split("=", 1) for literal in generator.get("literals", ()))
        found.setdefault(generator["name"], {}).update(literals)
    return found


def _read(file: Path) -> Any:
    return yaml.safe_load(file.read_text("utf-8"))
