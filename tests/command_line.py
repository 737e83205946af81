"""Runs `dispatchd` commands inside the test's process."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from click.testing import CliRunner, Result

from dispatchd.cli.main import dispatchd

_NOTHING_FROM_OUTSIDE = dict.fromkeys(
    (
        "DATABASE_URL",
        "REGION",
        "PRIMARY_REGION",
        "REGION_EPOCH",
        *(
            f"DISPATCHD_{name}"
            for name in ("ADDRESS", "TOKEN", "TOKEN_FILE", "TLS", "CA_FILE", "CERT_FILE", "KEY_FILE")
        ),
    )
)


class CommandLine:
    """Runs commands with an environment; what they print is in the result."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)

    async def __call__(self, *arguments: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None) -> Result:
        """Runs a command in a thread to its end; an exception that is no exit fails the test."""
        variables = _NOTHING_FROM_OUTSIDE | self._environ | dict(environ or {})

        def run() -> Result:
            return CliRunner().invoke(
                dispatchd,
                arguments,
                input=stdin,
                env=variables,
                prog_name="dispatchd",
                catch_exceptions=False,
            )

        return await asyncio.to_thread(run)

    async def json(self, *arguments: str, exit_code: int = 0, stdin: bytes = b"") -> Any:
        """The document that a command prints with --json."""
        result = await self(*arguments, "--json", stdin=stdin)
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)
