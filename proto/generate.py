"""Generates the Python stubs of the contract: `python proto/generate.py [OUTPUT_ROOT]` (default: app)."""

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = "dispatchd/v1/dispatchd.proto"


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


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "app")
