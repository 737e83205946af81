"""Which function of the module runs which steps. Each step of the table belongs to exactly one part.

The rules are total, so that a step which is new in the table is run by `ci` without a word here.
"""

from enum import StrEnum
from typing import assert_never

from dispatchd_pipelines.report import Outcome, Result
from dispatchd_pipelines.step import ImageRole, Needs, Step
from dispatchd_pipelines.steps import STEPS


class Part(StrEnum):
    LINT = "lint"
    PROTO = "proto"
    TEST = "test"
    RENDER = "render"
    BUILD = "build"
    SCAN = "scan"
    INTEGRATION = "integration"


ALL_FAULTS = "singles-all"
SOME_FAULTS = "singles"
"""Of these two steps the first includes the second, so that one of them runs at a time."""


def is_scan(step: Step) -> bool:
    """Whether it looks for findings, with a report of them. What only tests the scanners does not."""
    return step.name.startswith("scan-")


def part_of(step: Step) -> Part:
    """The part that a step belongs to."""
    if step.needs is Needs.SERVICES:
        return Part.INTEGRATION
    if step.image is ImageRole.SCAN or is_scan(step):
        return Part.SCAN
    if step.name.startswith("proto-"):
        return Part.PROTO
    if step.name.startswith(("render-", "k8s-", "argocd-")):
        return Part.RENDER
    if step.outputs:
        return Part.BUILD
    return Part.TEST if step.alone or "pytest" in step.argv else Part.LINT


def steps_of(*parts: Part, all_faults: bool = False) -> list[Step]:
    """The steps of these parts, in the order of the table."""
    left_out = SOME_FAULTS if all_faults else ALL_FAULTS
    return [step for step in STEPS if part_of(step) in parts and step.name != left_out]


def why_not_run(step: Step) -> str:
    """Why the module can't run a step, in a few words; empty if it can."""
    match step.needs:
        case Needs.NOTHING | Needs.NETWORK_DATABASE | Needs.SERVICES:
            return ""
        case Needs.DAEMON:
            return f"needs {step.needs}; the module builds and tries the images itself"
        case Needs.PULUMI | Needs.API_SERVER:
            return f"needs {step.needs}"
        case _:
            assert_never(step.needs)


def not_run(steps: list[Step]) -> list[Result]:
    """What the report says of the steps that the module can't run."""
    return [Result(step.name, Outcome.NOT_RUN, reason=why_not_run(step)) for step in steps if why_not_run(step)]
