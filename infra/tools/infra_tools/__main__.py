"""`python -m infra_tools [--tier gitops]` builds what is not there; `--where` only says where everything is."""

import argparse
import sys

from infra_tools.build import BuildFailed, build
from infra_tools.catalogue import GITOPS_TIER, TOOLS, Tool, located
from infra_tools.golang import GoMissing, find_go


def main() -> int:
    parser = argparse.ArgumentParser(prog="infra_tools", description="Builds the tools that the tests of infra/ need.")
    parser.add_argument(
        "--tier",
        choices=("gitops", "cluster"),
        default="cluster",
        help="build for the tests without a cluster, or (the default) for all",
    )
    parser.add_argument("--where", action="store_true", help="build nothing; exit 1 if a tool is missing")
    options = parser.parse_args()
    wanted = GITOPS_TIER if options.tier == "gitops" else TOOLS

    missing = {} if options.where else _build(tuple(tool for tool in wanted if located(tool) is None))
    complete = True
    for tool in wanted:
        path = located(tool)
        complete = complete and path is not None
        print(f"{tool.name:<26} {tool.version:<8} {path or 'MISSING: ' + missing.get(tool.name, 'not built')}")
    return 0 if complete else 1


def _build(tools: tuple[Tool, ...]) -> dict[str, str]:
    """Builds these; returns why, for each that could not be built."""
    failed: dict[str, str] = {}
    if not tools:
        return failed
    try:
        go = find_go()
    except GoMissing as exc:
        return {tool.name: str(exc) for tool in tools}
    for tool in tools:
        try:
            took = build(tool, go)
        except BuildFailed as exc:
            failed[tool.name] = f"Go could not build it:\n{exc}"
            print(f"{tool.name}: FAILED", flush=True)
        else:
            print(f"{tool.name}: there after {took.total_seconds():.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
