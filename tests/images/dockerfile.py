"""A Dockerfile as instructions by stage: as much of the format as the one of this repository uses."""

import re
from collections import defaultdict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, with its continued lines joined."""

    name: str
    rest: str


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """`arguments` stand before the first stage; the last stage has no name and is called ""."""

    text: str
    arguments: dict[str, str]
    stages: dict[str, list[Instruction]]

    def of(self, stage: str, name: str) -> list[str]:
        """What stands behind each instruction of this name in a stage."""
        return [each.rest for each in self.stages[stage] if each.name == name]

    def only(self, stage: str, name: str) -> str:
        """What stands behind the one instruction of this name in a stage."""
        [found] = self.of(stage, name)
        return found


def read(text: str) -> Dockerfile:
    """Takes a Dockerfile apart."""
    without_comments = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n\s*", "", without_comments).splitlines()
    arguments: dict[str, str] = {}
    stages: dict[str, list[Instruction]] = defaultdict(list)
    stage = None
    for line in filter(None, lines):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            _, _, stage = rest.partition(" AS ")
        if stage is None:
            key, _, value = rest.partition("=")
            arguments[key] = value
        else:
            stages[stage].append(Instruction(name, rest.strip()))
    return Dockerfile(text, arguments, dict(stages))
