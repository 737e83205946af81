"""A generated folder on disk: how it differs from what it should be, and how it becomes that.

A file that begins with the generated header is ours: it may be replaced and removed. A file without it is somebody's
own: it is never overwritten and never removed, and unless a glob of `preserve` names it, `write` refuses to begin.
`infra render`, `infra render --check` and the Pulumi resource Tree all work through this one file.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from dispatchd_infra.contents import mistakes_in
from dispatchd_infra.emit import HEADER_START, Folder

_UNFINISHED = ".unfinished"
"""What the name of a file ends in until it is whole; a killed process may leave one."""


class FolderError(Exception):
    """A folder can't be written as it is; the text has a line for each reason, with the file."""


class Kind(StrEnum):
    """How a file differs, and so what `write` does with it."""

    MISSING = "missing"
    """`write` writes it."""
    EDITED = "edited"
    """It is generated, but holds something else; `write` restores it."""
    LEFT_OVER = "left over"
    """It is generated, but belongs here no longer; `write` removes it."""
    STRAY = "stray"
    """It is not generated, so that `write` refuses the folder."""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One file that is not as it should be; the path is relative to the repository."""

    path: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}"


def differences(root: Path, folder: Folder) -> list[Difference]:
    """What is different on disk, sorted by path; nothing is changed. Raises FolderError if the folder may not be so."""
    place = _place(root, folder)
    found = set(_found(place, folder.preserve))
    different = [Difference(f"{folder.path}/{name}", Kind.MISSING) for name in folder.files if name not in found]
    for name in found:
        kind = _difference(place / name, folder.files.get(name))
        if kind is not None:
            different.append(Difference(f"{folder.path}/{name}", kind))
    return sorted(different)


def plan(root: Path, folder: Folder) -> list[Difference]:
    """What `write` would change; nothing is changed. Raises FolderError where `write` would refuse."""
    different = differences(root, folder)
    strays = [each for each in different if each.kind is Kind.STRAY]
    if strays:
        raise FolderError(
            "\n".join(
                f"{each.path}: this file was not generated, but {folder.path} holds only generated files;"
                " move it elsewhere or remove it"
                for each in strays
            )
        )
    _check_writable(root, different)
    return different


def write(root: Path, folder: Folder) -> list[Difference]:
    """Makes the folder what it should be and returns what was different. Files that are right aren't touched.

    Each file appears whole or not at all. Raises FolderError, before anything is written, if there are stray files.
    """
    different = plan(root, folder)
    try:
        for each in different:
            if each.kind is Kind.LEFT_OVER:
                (root / each.path).unlink()
        _remove_empty_folders(root / folder.path)
        for each in different:
            if each.kind in (Kind.MISSING, Kind.EDITED):
                _replace(root / each.path, folder.files[str(PurePosixPath(each.path).relative_to(folder.path))])
    except OSError as exc:
        raise FolderError(f"{exc.filename or folder.path}: this can't be written: {exc.strerror}") from exc
    return different


def outside(root: Path, place: str, owned: Collection[str]) -> list[Difference]:
    """The files below a place that lie in none of the owned folders, so that nobody would ever remove them."""
    return sorted(
        Difference(f"{place}/{name}", Kind.STRAY)
        for name in _found(root / place, ())
        if not any(PurePosixPath(place, name).is_relative_to(folder) for folder in owned)
    )


def read(root: Path, folder: Folder) -> dict[str, str] | None:
    """The generated files that are there, or None if the folder is gone."""
    place = _inside(root, folder.path)
    if not place.is_dir():
        return None
    found = sorted(name for name in _found(place, folder.preserve) if _is_generated(place / name))
    return {name: (place / name).read_bytes().decode(errors="replace") for name in found}


def remove(root: Path, folder: Folder) -> None:
    """Removes what was generated; preserved files and those without the header stay, and folders that hold one."""
    place = _inside(root, folder.path)
    for name in list(_found(place, folder.preserve)):
        if _is_generated(place / name):
            (place / name).unlink()
    _remove_empty_folders(place)


def _place(root: Path, folder: Folder) -> Path:
    mistakes = mistakes_in(folder)
    if mistakes:
        raise FolderError("\n".join(mistakes))
    place = _inside(root, folder.path)
    _check_folders(root, folder.path)
    for name in folder.files:
        _inside(root, str(PurePosixPath(folder.path, name).parent))
    return place


def _inside(root: Path, path: str) -> Path:
    """The place of a folder, which must really lie below the root: no symbolic link leads out of it."""
    if not root.is_dir():
        raise FolderError(f"{root}: there is no such folder to write {path} into")
    place = root / path
    if not place.resolve().is_relative_to(root.resolve()):
        raise FolderError(f"{path}: a symbolic link leads out of the repository")
    return place


def _check_folders(root: Path, path: str) -> None:
    """Raises FolderError if the way to a folder leads over a link, which git would commit, or over a file."""
    place = root
    for part in PurePosixPath(path).parts:
        place /= part
        if place.is_symlink():
            raise FolderError(f"{place.relative_to(root)}: this is a symbolic link; put a real folder in its place")
        if place.exists() and not place.is_dir():
            raise FolderError(f"{place.relative_to(root)}: a folder is needed where this file is; move it elsewhere")


def _check_writable(root: Path, different: list[Difference]) -> None:
    """Raises FolderError where a file can't be written, so that this is known before the first one is."""
    for each in different:
        parent = (root / each.path).parent
        while not parent.is_dir():
            parent = parent.parent
        if not os.access(parent, os.W_OK | os.X_OK):
            raise FolderError(f"{each.path}: {parent} is read-only; give yourself the right to write there")


def _found(place: Path, preserve: tuple[str, ...]) -> Iterator[str]:
    """Every file below the folder that no glob preserves, by its path there. Links are files, and aren't followed."""
    for folder, names, files in os.walk(place):
        links = [name for name in names if (Path(folder) / name).is_symlink()]
        for file in files + links:
            name = (Path(folder) / file).relative_to(place).as_posix()
            if not any(fnmatchcase(name, glob) for glob in preserve):
                yield name


def _difference(file: Path, wanted: str | None) -> Kind | None:
    if wanted is not None and _is_plain(file) and file.read_bytes() == wanted.encode():
        return None
    if not _is_generated(file):
        return Kind.STRAY
    return Kind.LEFT_OVER if wanted is None else Kind.EDITED


def _is_plain(file: Path) -> bool:
    """Whether this is neither a link nor a pipe or a device, of which reading might never end."""
    return file.is_file() and not file.is_symlink()


def _is_generated(file: Path) -> bool:
    if not _is_plain(file):
        return False
    if file.name.endswith(_UNFINISHED):
        return True
    with file.open("rb") as opened:
        return opened.read(len(HEADER_START)) == HEADER_START.encode()


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}{_UNFINISHED}")
    unfinished.write_bytes(text.encode())
    unfinished.replace(file)


def _remove_empty_folders(place: Path) -> None:
    for folder, _, _ in os.walk(place, topdown=False):
        if not any(Path(folder).iterdir()):
            Path(folder).rmdir()
