"""Generates the Python stubs of the contract: `python proto/generate.py [--check] [OUTPUT_ROOT]` (default: app)."""

import argparse
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = "dispatchd/v1/dispatchd.proto"
PACKAGE = Path(CONTRACT).parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Generate the Python stubs of the contract.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; name each stub that is not fresh, and fail"
    )
    parser.add_argument("output_root", nargs="?", type=Path, default=ROOT / "app")
    options = parser.parse_args()
    if not options.check:
        generate(options.output_root)
        return
    found = stale(options.output_root)
    if found:
        sys.exit(f"not what the contract gives: {', '.join(found)}; generate the stubs anew with `make proto`")


def generate(output_root: Path) -> None:
    """Writes the message classes, the service stubs and the type stubs of both below `output_root`."""
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = [
        "protoc",
        f"--proto_path={ROOT / 'proto'}",
        f"--proto_path={well_known}",
        f"--python_out={output_root}",
        f"--pyi_out={output_root}",
        f"--grpc_python_out={output_root}",
        f"--mypy_grpc_out={output_root}",
        CONTRACT,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed: see above")


def stale(output_root: Path) -> list[str]:
    """The names of the stubs below `output_root` that differ from fresh ones, are missing, or are too many."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = _contents(Path(folder) / PACKAGE)
    there = _contents(output_root / PACKAGE)
    return sorted(name for name in fresh.keys() | there.keys() if fresh.get(name) != there.get(name))


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "__init__.py"}


if __name__ == "__main__":
    main()
