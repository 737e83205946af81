"""What installed distributions say about their files: the RECORD in each `.dist-info` folder.

A RECORD is a CSV file with a line for each file: its path relative to the site folder, a hash as
`sha256=<digest in base64url without padding>`, and its size. Some lines have no hash: RECORD itself, compiled modules.
The format is that of https://packaging.python.org/specifications/recording-installed-packages/.
"""

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SHA256 = "sha256="


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that should be there, and the hash that it should have."""

    distribution: str
    """Name and version, such as `rich-14.0.0`."""
    path: str
    """As the RECORD writes it."""
    file: Path
    sha256: str
    """The digest as the RECORD writes it: base64url without padding."""

    @property
    def idempotency_key(self) -> str:
        """The same for the same file and hash, and short enough for any path."""
        return hashlib.sha256(f"{self.file}\0{self.sha256}".encode()).hexdigest()


def read_sites(sites: Iterable[Path]) -> list[ListedFile]:
    """Every file with a SHA-256 in a RECORD of these site folders; what two RECORDs list alike comes once."""
    listed: dict[tuple[Path, str], ListedFile] = {}
    for site in sites:
        for record in sorted(site.glob("*.dist-info/RECORD")):
            for file in _read_record(site, record):
                listed.setdefault((file.file, file.sha256), file)
    return list(listed.values())


def _read_record(site: Path, record: Path) -> Iterator[ListedFile]:
    distribution = record.parent.name.removesuffix(".dist-info")
    # What is not UTF-8 names no file that exists, and is reported as missing.
    with record.open(encoding="utf-8", errors="replace", newline="") as lines:
        for row in csv.reader(lines):
            if len(row) < 2 or not row[1].startswith(_SHA256):
                continue
            path, digest = row[0], row[1].removeprefix(_SHA256).rstrip("=")
            yield ListedFile(distribution, path, Path(os.path.normpath(site / path)), digest)
