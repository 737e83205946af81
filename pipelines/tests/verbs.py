"""Which steps the verbs of make run, asked of make itself."""

import re
import subprocess

from tree import ROOT

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def over_steps() -> list[str]:
    """The verbs that run steps."""
    return re.findall(r"^([a-z0-9-]+):[^\n]*\n\t@\$\(NATIVE\)", MAKEFILE, re.M)


def steps_of(verb: str, *settings: str) -> list[str]:
    """The names of the steps that this verb runs, in their order."""
    shown = subprocess.run(["make", "-n", verb, *settings], cwd=ROOT, capture_output=True, text=True, check=True)
    [command] = [line for line in shown.stdout.splitlines() if "dispatchd_pipelines.native" in line]
    return command.partition(" dispatchd_pipelines.native ci")[2].split()
