"""The environment that makes a role write a profile."""

from pathlib import Path

ROLE = "DISPATCHD_PROFILE_ROLE"
FILE = "DISPATCHD_PROFILE_FILE"


def profiling_environment(role: str, file: Path) -> dict[str, str]:
    """For all roles of an installation; only `role` is profiled, and writes `file` when it ends."""
    startup = Path(__file__).with_name("startup")
    return {"PYTHONPATH": str(startup), ROLE: role, FILE: str(file.absolute())}
