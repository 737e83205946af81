"""Named queries: every `-- name:` block of the .sql files here, with named parameters made positional at import."""

import re
from dataclasses import dataclass
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


@dataclass(frozen=True, slots=True)
class Query:
    """One statement. `parameters` are the names in the order of $1, $2, …"""

    name: str
    sql: str
    parameters: tuple[str, ...]

    def arguments(self, values: dict[str, object]) -> list[object]:
        """The values in the statement's order; KeyError names one that is missing."""
        return [values[name] for name in self.parameters]


def _read(file_name: str) -> dict[str, Query]:
    text = files(__package__).joinpath(file_name).read_text("utf-8")
    _, *parts = _NAME.split(text)
    return {name: _positional(name, body.strip()) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _positional(name: str, body: str) -> Query:
    parameters: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in parameters:
            parameters.append(match[1])
        return f"${parameters.index(match[1]) + 1}"

    statement = "\n".join(line for line in body.splitlines() if not line.lstrip().startswith("--"))
    return Query(name, f"-- {name}\n{_PARAMETER.sub(number, statement).rstrip(';')}", tuple(parameters))


SUBMIT = _read("submit.sql")
CLAIM = _read("claim.sql")
SETTLE = _read("settle.sql")
SESSIONS = _read("sessions.sql")
RECOVER = _read("recover.sql")
READ = _read("read.sql")
REGION = _read("region.sql")
RETENTION = _read("retention.sql")
