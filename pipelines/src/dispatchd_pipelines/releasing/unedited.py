"""Whether `docs/release/snapshot/` is what the last release wrote: a step of its own, because it needs the history."""

from pathlib import Path

from dispatchd_pipelines.releasing.changelog import Changelog
from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.repository import Repository
from dispatchd_pipelines.releasing.snapshot import FOLDER
from dispatchd_pipelines.releasing.version import Version


def check_unedited(root: Path) -> None:
    """Raises Refused, with a line for each file that is not as the last release in CHANGELOG.md has left it."""
    last = Changelog.parse((root / "CHANGELOG.md").read_text("utf-8")).last_release
    if edited := edits(root, last):
        raise Refused("\n".join(edited))


def edits(root: Path, last: Version | None) -> list[str]:
    """What is wrong with the snapshot as a record of this release; None before the first one."""
    files = sorted((root / FOLDER).glob("*"))
    if last is None:
        return [f"{FOLDER}/{file.name}: nothing has been released: remove it" for file in files]
    if not files:
        return [f"{FOLDER}: there is no snapshot of {last}: take it from its tag"]
    texts = [file for file in files if file.suffix == ".txt"]
    wrong = [file.name for file in texts if f" {last}. " not in file.read_text("utf-8").partition("\n")[0]]
    repository = Repository(root)
    # Between the commit of a release and its tag there is nothing to compare with.
    if repository.git("tag", "--list", last.tag):
        changed = repository.git("diff", "--name-only", last.tag, "--", FOLDER).splitlines()
        wrong += [Path(file).name for file in changed]
    return [f"{FOLDER}/{name}: it is not that of {last}: only `make release` writes it" for name in sorted(set(wrong))]
