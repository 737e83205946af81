"""Which steps the verbs of make run, asked of make itself."""

import os
import re
import subprocess

from tree import ROOT

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def over_steps() -> list[str]:
    """The verbs that run steps."""
    return re.findall(r"^([a-z0-9-]+):[^\n]*\n\t@\$\(NATIVE\)", MAKEFILE, re.M)


def steps_of(verb: str, *settings: str) -> list[str]:
    """The names of the steps that this verb runs, in their order."""
    # What an outer make was told, such as FAULTS=all, is not told to this one.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "FAULTS", "MESSAGES")}
    command = ["make", "-n", verb, *settings]
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    [line] = [line for line in shown.stdout.splitlines() if "dispatchd_pipelines.native" in line]
    return line.partition(" dispatchd_pipelines.native ci")[2].split()
