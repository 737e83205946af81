"""Hostile messages to real processes: `python -m fuzz.run`, with `tests` and the repository on the path.

    --messages 100000   half to an installation without authentication, half to one with it
    --seed N            draws the same messages again; without it a new seed is drawn and printed
    --only off:17       sends these cases of a seed alone, `on:` or `off:` by the installation, with commas

Exit code 1 if anything was wrong. A run of at least 100,000 messages in which all was well writes
`evidence/faults/fuzz.json`, if the tree is the commit that is checked out.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fuzz.campaign import fuzz
from fuzz.evidence import EVIDENCE, describe, is_clean, summarize, write

_SEEDS = 1_000_000
MESSAGES = 100_000


def tell(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _only(text: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for part in text.split(","):
        name, _, number = part.partition(":")
        if name not in ("on", "off"):
            raise argparse.ArgumentTypeError("write off:17, or on:17")
        found.setdefault(name, []).append(int(number))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Sends hostile messages to real processes and looks what becomes of it."
    )
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", type=_only, help="cases such as off:17,on:4")
    parser.add_argument("--folder", type=Path, help="where the installations are; by default a new one")
    arguments = parser.parse_args()
    seed = random.randrange(_SEEDS) if arguments.seed is None else arguments.seed
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="dispatchd-fuzz-"))
    tell(f"{arguments.messages} messages, seed {seed}; logs in {folder}")
    sys.exit(asyncio.run(run(folder, seed, arguments.messages, arguments.only)))


async def run(folder: Path, seed: int, messages: int, only: Mapping[str, Sequence[int]] | None) -> int:
    """Prints what comes of it, writes the summary, and returns the exit code. The folder stays if anything is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    circumstances = await describe(folder)
    reports = await fuzz(folder, seed, messages, tell, only)
    complaints = [complaint for report in reports for complaint in report.complaints]
    for complaint in complaints:
        tell(f"! {complaint}")
    tell(f"{'NOT all was well' if complaints else 'all was well'}, seed {seed}")
    if complaints:
        return 1
    summary = summarize(seed, circumstances, reports)
    if only is None and messages >= MESSAGES and is_clean(summary):
        write(summary, EVIDENCE)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    main()
