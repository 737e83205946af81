"""Faults on real processes: `python -m faults.run singles|pairs|random`, with `tests` and the repository on the path.

    singles            every fault once (`--only NAME,NAME`: these alone)
    pairs              every two faults that are marked for it, at once, for as long as it takes or `--minutes`
    random --minutes N rounds of up to three faults at once; the seed of each round is printed, and
                       `random --seed SEED --minutes 0` makes that round again

Exit code 1 if a rule was broken, a target missed, or something was remarked upon; the ledgers of that round are kept.
A whole run in which all was well writes `evidence/faults/<kind>.json`, unless it has `--no-evidence`: then a target may
be missed by as much as a busy machine takes longer.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from faults.clock_faults import clock_library
from faults.fault import Fault
from faults.faults import DISK, FAULTS
from faults.rounds import RoundReport, run_round
from faults.schedule import Round, pairs, random_rounds, singles
from faults.site import running_site
from faults.summary import EVIDENCE, describe, summarize, write

_SEEDS = 1_000_000


def tell(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def available(*, has_small_disk: bool) -> Mapping[str, Fault]:
    """The faults that can be had on this machine."""
    missing = set() if has_small_disk else {DISK}
    if clock_library() is None:
        missing |= {name for name in FAULTS if "_clock_of_" in name}
    return {name: fault for name, fault in FAULTS.items() if name not in missing}


async def run(
    kind: str, *, seed: int, minutes: float | None, only: str | None, folder: Path, keep: bool, is_evidence: bool
) -> int:
    """Runs rounds until they end or the time is over; returns the exit code."""
    async with running_site(folder / "look") as site:
        has_small_disk = site.disk.is_small
        circumstances = await describe(site)
    shutil.rmtree(folder / "look", ignore_errors=True)
    faults = available(has_small_disk=has_small_disk)
    names = [name for name in faults if only is None or name in only.split(",")]
    left_out = sorted(FAULTS.keys() - faults.keys())
    tell(f"{kind}, seed {seed}, {len(names)} faults; ledgers in {folder}")
    if left_out:
        tell(f"left out, because this machine can't do them: {', '.join(left_out)}")
    rounds: Iterator[Round] = {
        "singles": singles(names, seed),
        "pairs": pairs(faults, seed),
        "random": random_rounds(faults, seed),
    }[kind]
    if kind == "random" and not minutes:
        rounds = islice(rounds, 1)
    ends = time.monotonic() + (minutes or 1e9) * 60
    reports: list[RoundReport] = []
    is_whole = is_evidence and only is None
    for number, chosen in enumerate(rounds, start=1):
        if time.monotonic() > ends:
            is_whole = is_whole and kind == "random"
            break
        tell(f"round {number}, seed {chosen.seed}: {len(chosen.steps)} steps")
        place = folder / f"round-{number}"
        report = await run_round(place, chosen, faults, tell)
        reports.append(report)
        _tell_report(report, place)
        if report.is_clean and not keep:
            shutil.rmtree(place, ignore_errors=True)
    is_clean = all(report.is_clean if is_evidence else report.is_clean_for_a_busy_machine for report in reports)
    summary = summarize(kind, seed, circumstances, names, left_out, reports)
    tell(f"{'all was well' if is_clean else 'NOT all was well'} in {len(reports)} rounds, seed {seed}")
    write(summary, folder / f"{kind}.json")
    if is_clean and is_whole and not left_out:
        write(summary, EVIDENCE / f"{kind}.json")
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if is_clean else 1


def _tell_report(report: RoundReport, place: Path) -> None:
    for sentence in (*report.violations, *report.remarks):
        tell(f"  ! {sentence}")
    for missed in report.missed:
        tell(f"  ! missed: {missed}")
    unseen = [rule for rule, count in report.coverage.items() if not count]
    tell(f"  {'clean' if report.is_clean else f'NOT CLEAN, kept in {place}'}: {dict(report.counts)}")
    tell(f"  seen: {dict(report.coverage)}{'; NOTHING SEEN BY ' + ', '.join(unseen) if unseen else ''}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes faults on an installation under load and checks every promise.")
    parser.add_argument("kind", choices=["singles", "pairs", "random"])
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", help="names of single faults, with commas")
    parser.add_argument("--folder", type=Path, help="where ledgers go; by default a new one for temporary files")
    parser.add_argument("--keep", action="store_true", help="keep the ledgers of clean rounds too")
    parser.add_argument("--no-evidence", action="store_true", help="write no summary, and be patient with this machine")
    arguments = parser.parse_args()
    if arguments.kind == "random" and arguments.minutes is None:
        parser.error("random needs --minutes")
    seed = random.randrange(_SEEDS) if arguments.seed is None else arguments.seed
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="dispatchd-faults-"))
    work = run(
        arguments.kind,
        seed=seed,
        minutes=arguments.minutes,
        only=arguments.only,
        folder=folder,
        keep=arguments.keep,
        is_evidence=not arguments.no_evidence,
    )
    sys.exit(asyncio.run(work))


if __name__ == "__main__":
    main()
