"""`python -m dispatchd_pipelines.releasing` with `prepare`, `notes` or `unedited`; see docs/release.md."""

import argparse
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dispatchd_pipelines.releasing.notes import read_notes
from dispatchd_pipelines.releasing.refused import Refused

ROOT = Path(__file__).resolve().parents[4]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="dispatchd_pipelines.releasing", description="Make a release, or tell of it.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the top of the repository (default: where this is)")
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare", help="commit a release; `make release VERSION=0.1.0` calls this")
    preparing.add_argument("version", help="MAJOR.MINOR.PATCH")
    telling = commands.add_parser("notes", help="print the notes of a release; needs only the standard library")
    telling.add_argument("--tag", required=True, help="v and the version, such as v0.1.0")
    telling.add_argument("--images", type=Path, help="the images.json of the release, to list the images too")
    commands.add_parser("unedited", help="check that nobody but a release has written docs/release/snapshot/")
    options = parser.parse_args(arguments)
    try:
        if options.command == "notes":
            sys.stdout.write(read_notes(options.root, options.tag, options.images))
        elif options.command == "unedited":
            _check_unedited(options.root)
        else:
            _prepare(options.root, options.version)
    except Refused as refused:
        for line in str(refused).splitlines():
            say(f"{options.command}: {line}")
        return 1
    except KeyboardInterrupt:
        say(f"{options.command}: interrupted")
        return 128 + signal.SIGINT
    return 0


def _check_unedited(root: Path) -> None:
    # This needs protobuf.
    from dispatchd_pipelines.releasing.unedited import check_unedited

    check_unedited(root)


def _prepare(root: Path, version: str) -> None:
    # These import dispatchd itself, which is not there where only notes are printed.
    from dispatchd_pipelines.releasing.prepare import Offer, prepare
    from dispatchd_pipelines.releasing.surface.contract import contract_image
    from dispatchd_pipelines.releasing.surface.tree import surface_of

    def read_offer() -> Offer:
        image = contract_image(root)
        return Offer(surface_of(root, image), image)

    prepare(root, version, datetime.now(UTC).date(), read_offer, say)


def say(line: str) -> None:
    """On standard error: standard output is for the notes."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
