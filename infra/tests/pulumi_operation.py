"""One operation of the real Pulumi on a stack of gitops/.

The Automation API runs `__main__.py` in this process and the command line beside it, because the part of Pulumi that
would start Python (its language host) can't be built from its Go module. Everything else is as for `pulumi up`.

    python pulumi_operation.py FOLDER STACK up|preview|destroy|cancel [--expect-no-changes]

does it in a process of its own, as `pulumi up` does, and ends with what it left behind. FOLDER is that of a
ScratchRepository. What changed is printed as JSON, as in {"create": 2}. An error is printed, and the exit code is 1.
"""

import json
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pulumi import automation


class _Stack(automation.Stack):
    """A stack that is not asked for its outputs after every `up`: it has none, and asking takes a second."""

    def outputs(self) -> automation.OutputMap:
        return {}


def operate(folder: Path, name: str, operation: str, *options: str) -> dict[str, int]:
    """Does the operation, without questions, and returns how many resources changed in which way.

    Raises automation.CommandError.
    """
    program = folder / "repository" / "infra" / "gitops"
    stack = _Stack.create_or_select(
        name,
        automation.LocalWorkspace(
            work_dir=str(program),
            program=lambda: _discard(runpy.run_path(str(program / "__main__.py"), run_name="__main__")),
            env_vars={
                "PULUMI_HOME": str(folder / "home"),
                "PULUMI_CONFIG_PASSPHRASE": "",
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            },
            pulumi_command=automation.PulumiCommand(str(folder / "pulumi")),
        ),
    )
    changes: Mapping[Any, int] | None = None
    match operation:
        case "up":
            changes = stack.up().summary.resource_changes
        case "preview":
            changes = stack.preview(expect_no_changes="--expect-no-changes" in options).change_summary
        case "destroy":
            changes = stack.destroy().summary.resource_changes
        case "cancel":
            stack.cancel()
        case _:
            raise ValueError(operation)
    return {str(kind): count for kind, count in (changes or {}).items()}


def _discard(_: object) -> None:
    """A program's names are no outputs."""


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(operate(Path(sys.argv[1]), *sys.argv[2:])))
    except automation.CommandError as exc:
        sys.exit(str(exc))
