"""The surface of the last release, as files that only `make release` writes: `docs/release/snapshot/`.

The contract is stored as a descriptor image, which `buf breaking --against` takes too; every other area is a text with
a line for each name. Before the first release there is no such folder.
"""

from collections.abc import Mapping
from pathlib import Path

from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.surface import CONTRACT, GITOPS, IMAGES, PYTHON, SETTINGS, Names, Surface
from dispatchd_pipelines.releasing.surface.contract import contract_names
from dispatchd_pipelines.releasing.version import Version

FOLDER = "docs/release/snapshot"
CONTRACT_IMAGE = f"{FOLDER}/contract.binpb"

_TITLES = {
    PYTHON: "names of the Python package",
    SETTINGS: "environment variables of the roles",
    IMAGES: "images",
    GITOPS: "folders of gitops/",
}
"""Every area but the contract."""
_HEADER = "# The {title} of dispatchd {version}. `make release` alone writes this file.\n"


def rendered(surface: Surface, image: bytes, version: Version) -> Mapping[str, bytes]:
    """The files of a release, by their paths from the top of the repository."""
    texts = {
        f"{FOLDER}/{area}.txt": _HEADER.format(title=title, version=version) + _lines(surface[area])
        for area, title in _TITLES.items()
    }
    return {CONTRACT_IMAGE: image, **{path: text.encode() for path, text in texts.items()}}


def read_snapshot(root: Path) -> Surface | None:
    """None before the first release."""
    folder = root / FOLDER
    # git leaves a folder behind whose files are gone.
    if not any(folder.glob("*")):
        return None
    try:
        surface = {area: _names(folder / f"{area}.txt") for area in _TITLES}
        return {**surface, CONTRACT: contract_names((root / CONTRACT_IMAGE).read_bytes())}
    except FileNotFoundError as missing:
        raise Refused(
            f"{FOLDER} lacks {Path(missing.filename).name}: take it from the tag of the last release"
        ) from None


def _lines(names: Names) -> str:
    return "".join(f"{name}: {text}\n" for name, text in sorted(names.items()))


def _names(path: Path) -> Names:
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    pairs = [line.partition(": ") for line in lines]
    if wrong := [line for line, (_, colon, _) in zip(lines, pairs, strict=True) if not colon]:
        raise Refused(f"{path.name}: {wrong[0]!r} is no line of a snapshot")
    return {name: text for name, _, text in pairs}
