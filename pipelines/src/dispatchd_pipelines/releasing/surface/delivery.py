"""The names of the images, and the folders below `gitops/` with the kinds of their objects."""

import re
from collections import defaultdict
from pathlib import Path

from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.surface import Names

_IMAGE = re.compile(r"^ *image: \S*/(dispatchd-[a-z-]+)$", re.MULTILINE)
_USER = re.compile(r"^ *runAsUser: ([0-9]+)$", re.MULTILINE)
_KIND = re.compile(r"^kind: (\w+)$", re.MULTILINE)


def image_names(root: Path) -> Names:
    """The images that the Deployments of `gitops/base` run, whatever registry stands in front of their names."""
    names: dict[str, str] = {}
    for path in sorted((root / "gitops" / "base").glob("deployment-*.yaml")):
        text = path.read_text("utf-8")
        users = ", ".join(sorted(set(_USER.findall(text))))
        names |= dict.fromkeys(_IMAGE.findall(text), f"runs as user {users}")
    return names


def gitops_names(root: Path) -> Names:
    """Each folder that has files, and the kinds of object in it."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for path in sorted((root / "gitops").rglob("*.yaml")):
        folder = path.relative_to(root).parent.as_posix()
        found = _KIND.findall(path.read_text("utf-8"))
        if not found:
            raise Refused(f"{path.relative_to(root)}: it has no kind")
        kinds[folder] |= set(found)
    return {folder: ", ".join(sorted(found)) for folder, found in sorted(kinds.items())}
