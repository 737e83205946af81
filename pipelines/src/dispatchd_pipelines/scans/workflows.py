"""Looks at the workflows of GitHub Actions: zizmor for what an attacker could use, actionlint for mistakes."""

import json
from collections.abc import Iterator
from pathlib import Path

from dispatchd_pipelines.scans import go_modules, sarif
from dispatchd_pipelines.scans.finding import Finding, ScanFailed
from dispatchd_pipelines.scans.programs import run

FOLDER = Path(".github/workflows")


def scan(root: Path) -> list[Finding]:
    """What either of them has to say. Neither asks anybody in the network."""
    files = sorted(str(path.relative_to(root)) for path in (root / FOLDER).glob("*.yml"))
    if not files:
        raise ScanFailed(f"there is no workflow in {FOLDER}")
    return [*_zizmor(root), *_actionlint(root, files), *_excused_in_place(root, files)]


def _zizmor(root: Path) -> list[Finding]:
    command = ["zizmor", "--offline", "--no-config", "--no-exit-codes", "--strict-collection", "--format=sarif"]
    return sarif.read(run([*command, ".github"], root, answers=[0]).stdout)


def _actionlint(root: Path, files: list[str]) -> list[Finding]:
    # An empty -shellcheck and -pyflakes: what happens to be installed on a machine must not decide.
    options = ["-shellcheck=", "-pyflakes=", "-format={{json .}}"]
    command = go_modules.tool("actionlint", *options, *(str(root / file) for file in files))
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


def _excused_in_place(root: Path, files: list[str]) -> Iterator[Finding]:
    for file in files:
        for number, line in enumerate((root / file).read_text("utf-8").splitlines(), 1):
            if "zizmor: ignore" in line:
                message = "findings are excused in pipelines/exceptions.toml alone"
                yield Finding("excused-in-place", file, message, number)
