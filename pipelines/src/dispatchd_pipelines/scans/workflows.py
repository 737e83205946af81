"""Looks at the workflows of GitHub Actions: zizmor for what an attacker could use, actionlint for mistakes."""

import json
from collections.abc import Iterator
from pathlib import Path

from dispatchd_pipelines.scans import go_modules, sarif
from dispatchd_pipelines.scans.finding import Finding, ScanFailed
from dispatchd_pipelines.scans.programs import refuse_lists, run

GITHUB = Path(".github")
FOLDER = GITHUB / "workflows"


def scan(root: Path) -> list[Finding]:
    """What either of them has to say. Neither asks anybody in the network."""
    return [*openings(root), *mistakes(root)]


def openings(root: Path) -> list[Finding]:
    """What an attacker could use."""
    command = ["zizmor", "--offline", "--no-config", "--no-exit-codes", "--strict-collection", "--format=sarif"]
    return [*_excused_in_place(root), *sarif.read(run([*command, str(GITHUB)], root, answers=[0]).stdout)]


def mistakes(root: Path) -> list[Finding]:
    """What GitHub would refuse, or take for something else. Builds actionlint first, unless that is done."""
    refuse_lists(root, *(str(GITHUB / f"actionlint.{ending}") for ending in ("yaml", "yml")))
    # An empty -shellcheck and -pyflakes: what happens to be installed on a machine must not decide.
    options = ["-shellcheck=", "-pyflakes=", "-format={{json .}}"]
    command = go_modules.tool("actionlint", *options, *(str(root / file) for file in _files(root)))
    said = run(command, root / go_modules.TOOLS, answers=[0, 1], environment=go_modules.environment()).stdout
    return [
        Finding(
            f"actionlint/{each['kind']}",
            str((root / FOLDER / Path(each["filepath"]).name).relative_to(root)),
            each["message"],
            each["line"],
        )
        for each in json.loads(said)
    ]


def _files(root: Path) -> list[str]:
    files = _yaml(root, FOLDER)
    if not files:
        raise ScanFailed(f"there is no workflow in {FOLDER}")
    return files


def _yaml(root: Path, folder: Path) -> list[str]:
    """Of both endings: GitHub takes either."""
    return sorted(str(path.relative_to(root)) for path in (root / folder).rglob("*.y*ml"))


def _excused_in_place(root: Path) -> Iterator[Finding]:
    for file in _yaml(root, GITHUB):
        for number, line in enumerate((root / file).read_text("utf-8").splitlines(), 1):
            if "zizmor: ignore" in line:
                message = "findings are excused in pipelines/exceptions.toml alone"
                yield Finding("excused-in-place", file, message, number)
