"""An installation, the cases that are sent to it, and what was wrong with how they ended."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuzz import honest
from fuzz.aftermath import look
from fuzz.cases import Case, Cases
from fuzz.counts import Counts
from fuzz.judge import what_is_wrong
from fuzz.live_ids import LiveIds
from fuzz.sender import Outcome, Sender, channels_to
from fuzz.site import FuzzSite, running_site

LANES = 32
_WARM_SHARE = 0.2
_MOST_COMPLAINTS = 20
_TELL_EVERY_S = 10.0
_SHOWN_HEX = 2_000
Tell = Callable[[str], None]


@dataclass(slots=True)
class Report:
    """What was sent, and what was wrong; nothing is if there are no complaints."""

    auth: bool
    counts: Counts
    complaints: list[str] = field(default_factory=list)
    seconds: float = 0.0
    honest_jobs: int = 0
    log_lines: int = 0
    memory_mib: dict[str, dict[str, float]] = field(default_factory=dict)


async def fuzz(
    folder: Path, seed: int, messages: int, tell: Tell, only: Mapping[str, Sequence[int]] | None = None
) -> list[Report]:
    """Half of the messages to an installation without authentication, then half to one with it; or `only` some cases,
    by "off" and "on"."""
    reports = []
    for name, auth in (("off", False), ("on", True)):
        if only is not None and name not in only:
            continue
        numbers = None if only is None else only[name]
        report = await campaign(folder / name, seed, messages // 2, tell, auth=auth, only=numbers)
        reports.append(report)
        for line in report.counts.table():
            tell(line)
        tell(f"  {report.seconds:.1f} s; memory in MiB: {report.memory_mib}")
        tell(f"  {report.honest_jobs} jobs of a bystander; {len(report.complaints)} complaints")
    return reports


async def campaign(
    folder: Path, seed: int, messages: int, tell: Tell, *, auth: bool, only: Iterable[int] | None = None
) -> Report:
    """Sends cases until there were so many messages, or `only` these cases one after the other."""
    cases = Cases(seed, auth=auth)
    report = Report(auth, Counts(auth=auth))
    began = time.monotonic()
    async with running_site(folder, auth=auth) as site:
        sending = _Sending(site, report, tell, f"seed {seed}, authentication {'on' if auth else 'off'}")
        async with honest.bystander(site) as bystander:
            if only is None:
                await sending.send(iter(cases), messages)
            else:
                await sending.send(map(cases.case, only), None)
        report.honest_jobs = bystander.done
        report.complaints += bystander.complaints
        report.complaints += await look(site)
        report.memory_mib = site.memory.as_json()
    if only is None:
        report.complaints += report.counts.too_little()
        report.complaints += [] if report.honest_jobs else ["the bystander did nothing"]
    report.complaints += site.logs.complaints
    report.log_lines = site.logs.lines
    report.seconds = time.monotonic() - began
    return report


class _Sending:
    def __init__(self, site: FuzzSite, report: Report, tell: Tell, where: str) -> None:
        self._site = site
        self._report = report
        self._tell = tell
        self._where = where
        self._told_at = time.monotonic()

    async def send(self, cases: Iterator[Case], most: int | None) -> None:
        """Sends on several lanes at once; a few named cases on one."""
        ids = LiveIds()
        async with channels_to(self._site.addresses) as channels, asyncio.TaskGroup() as lanes:
            sender = Sender(channels, ids)
            for number in range(1 if most is None else LANES):
                lanes.create_task(self._lane(sender, cases, most), name=f"lane {number}")
        sent, complaints = self._report.counts.messages, self._report.complaints
        if most is not None and sent < most and not complaints:
            complaints.append(f"only {sent} of {most} messages were sent")

    async def _lane(self, sender: Sender, cases: Iterator[Case], most: int | None) -> None:
        counts, memory = self._report.counts, self._site.memory
        for case in cases:
            if (most is not None and counts.messages >= most) or len(self._report.complaints) >= _MOST_COMPLAINTS:
                return
            outcome = await sender.send(case)
            counts.note(case, outcome)
            wrong = what_is_wrong(case, outcome, auth=self._site.auth)
            if wrong:
                self._report.complaints.append(f"{self._where}, case {case.number}: {wrong}\n{_shown(case, outcome)}")
            if not memory.warm and (most is None or counts.messages >= most * _WARM_SHARE):
                memory.now_warm()
            if time.monotonic() - self._told_at > _TELL_EVERY_S:
                self._told_at = time.monotonic()
                self._tell(f"  {counts.messages} messages, {len(self._report.complaints)} complaints")


def _shown(case: Case, outcome: Outcome) -> str:
    """What was sent, such that it can be sent again."""
    credential = case.credential
    lines = [
        f"  {case.kind} messages to {case.method.path} of the {case.method.role}",
        f"  token: {credential.shown} {credential.role or ''}; headers: {str(case.headers)[:_SHOWN_HEX]}",
        f"  deadline: {case.timeout_s}; leaves: {case.leaves}; acks: {dict(outcome.acks)}",
    ]
    for message in outcome.sent:
        text = message.hex()
        lines.append(f"  sent: {text[:_SHOWN_HEX]}{f'… ({len(message)} bytes)' if len(text) > _SHOWN_HEX else ''}")
    return "\n".join(lines)
