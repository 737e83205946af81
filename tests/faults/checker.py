"""The checker: it reads the ledgers of a folder and the database, nothing else, and names every broken promise.

From the command line, with `tests` on the path: `python -m faults.checker FOLDER DATABASE_URL`. It exits with 1 if
anything is wrong.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from faults.database_facts import DatabaseFacts, read_facts
from faults.execution_rules import (
    accepted_results_agree,
    leases_exclude_each_other,
    leases_last,
    seen_executions_exist,
    successes_were_seen,
)
from faults.history import History
from faults.job_rules import (
    acked_jobs_end,
    attempts_are_counted,
    attempts_stay_within_budget,
    ended_jobs_stay_ended,
    one_key_is_one_job,
)
from faults.ledger import Ledger, read_ledgers
from faults.priority_rule import priority_is_kept
from faults.violation import Violation

Rule = Callable[[History, DatabaseFacts], Iterator[Violation]]

RULES: Sequence[Rule] = (
    acked_jobs_end,
    accepted_results_agree,
    leases_exclude_each_other,
    leases_last,
    attempts_stay_within_budget,
    attempts_are_counted,
    ended_jobs_stay_ended,
    one_key_is_one_job,
    seen_executions_exist,
    successes_were_seen,
    priority_is_kept,
)


def check(ledgers: Iterable[Ledger], database: DatabaseFacts) -> Sequence[Violation]:
    """Every violation of every rule, rule by rule; empty if all promises were kept."""
    history = History(ledgers)
    return [violation for rule in RULES for violation in rule(history, database)]


async def check_folder(folder: Path, database_url: str) -> Sequence[Violation]:
    """The same for the ledgers of a folder and the database as it is now. Raises LedgerDamaged."""
    database = await read_facts(database_url)
    return check(read_ledgers(folder), database)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares ledgers with the database.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("database_url")
    arguments = parser.parse_args()
    violations = asyncio.run(check_folder(arguments.folder, arguments.database_url))
    for violation in violations:
        sys.stdout.write(f"{violation}\n")
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
