"""The work itself: does a file still have the hash that its distribution lists?

The workers of the demo run it as everybody would: `dispatchd worker dispatchd.demo.tasks:worker`.
"""

import base64
import hashlib
from pathlib import Path

from dispatchd import Fail, Worker
from dispatchd.demo.records import ListedFile

DIFFERS = "Differs"
MISSING = "Missing"
UNREADABLE = "Unreadable"

worker = Worker(max_concurrency=16)


@worker.task("audit.file", max_attempts=5)
def check_file(listed: ListedFile) -> int:
    """Returns the size of the file in bytes.

    Raises Fail, so that the job becomes a dead letter at once, if the file is missing, can't be read or differs:
    another attempt would find the same.
    """
    name = f"{listed.distribution}: {listed.path}"
    try:
        found, size_bytes = _digest(listed.file)
    except (FileNotFoundError, NotADirectoryError):
        raise Fail(f"{name} is missing", error_type=MISSING) from None
    except (PermissionError, IsADirectoryError) as exc:
        raise Fail(f"{name} can't be read: {exc.strerror}", error_type=UNREADABLE) from exc
    if found != listed.sha256:
        raise Fail(f"{name} differs: its SHA-256 is {found}, listed is {listed.sha256}", error_type=DIFFERS)
    return size_bytes


def _digest(file: Path) -> tuple[str, int]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("="), opened.tell()
