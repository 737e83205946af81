"""How a command shows who it is, and how it encrypts: the options and variables that all commands to servers share."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dispatchd.cli.failures import CommandFailed, Mistaken

if TYPE_CHECKING:
    from dispatchd.sdk.errors import DispatchdError
    from dispatchd.sdk.tls import Tls

TOKEN_VARIABLE = "DISPATCHD_TOKEN"
_TOKEN_FILE_VARIABLE = "DISPATCHD_TOKEN_FILE"
_HOW_TO_GIVE_A_TOKEN = f"with --token-file, {_TOKEN_FILE_VARIABLE} or {TOKEN_VARIABLE}"


@dataclass(frozen=True, slots=True)
class Access:
    """What a command was given; None leaves it out, or to the code of a worker."""

    token: str | Path | None = field(repr=False)
    tls: "Tls | None"


def access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives the command `access`. There is no option for a token itself: every user of the machine could see it."""

    @functools.wraps(command)
    def with_access(
        *arguments: Any,
        token_file: Path | None,
        tls: bool,
        ca_file: Path | None,
        cert_file: Path | None,
        key_file: Path | None,
        **others: Any,
    ) -> Any:
        access = Access(_token(token_file), _tls(tls, ca_file, cert_file, key_file))
        return command(*arguments, access=access, **others)

    options = (
        _file(
            "--token-file",
            _TOKEN_FILE_VARIABLE,
            f"A file with a token that says who you are; or set {TOKEN_VARIABLE}.",
            _SecretFile,
        ),
        click.option(
            "--tls",
            is_flag=True,
            envvar="DISPATCHD_TLS",
            show_envvar=True,
            help="Encrypt, and trust the authorities of this system.",
        ),
        _file("--ca-file", "DISPATCHD_CA_FILE", "Encrypt, and trust the authority in this PEM file."),
        _file("--cert-file", "DISPATCHD_CERT_FILE", "Encrypt, and show this client certificate (PEM)."),
        _file("--key-file", "DISPATCHD_KEY_FILE", "The key of that certificate (PEM).", _SecretFile),
    )
    wrapped: Callable[..., Any] = with_access
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def refusal_of(error: "DispatchdError", address: str, access: Access) -> CommandFailed | None:
    """What an error that is about access means for the command; None if it is about something else."""
    from dispatchd.sdk import errors

    match error:
        case errors.Unauthenticated() if access.token is None:
            return CommandFailed(f"{address} asks for a token ({error.message}): give one {_HOW_TO_GIVE_A_TOKEN}")
        case errors.Unauthenticated():
            return CommandFailed(f"no access to {address} ({error.message}): give another token {_HOW_TO_GIVE_A_TOKEN}")
        case errors.PermissionDenied():
            return CommandFailed(f"{error.message}: use another token {_HOW_TO_GIVE_A_TOKEN}")
        case errors.UnusableCertificate():
            return Mistaken(error.message)
        case _:
            return None


class _SecretFile(click.Path):
    """A file with a secret in it. What names no file may be the secret itself, and is not shown."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            exists = Path(value).exists()
        except (OSError, ValueError):
            exists = False
        if not exists:
            self.fail("a file with this name does not exist: write the path of one", param, ctx)
        return super().convert(value, param, ctx)


def _file(
    name: str, variable: str, text: str, kind: type[click.Path] = click.Path
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    path = kind(exists=True, dir_okay=False, path_type=Path)
    return click.option(name, type=path, envvar=variable, show_envvar=True, metavar="FILE", help=text)


def _token(file: Path | None) -> str | Path | None:
    from dispatchd.sdk.errors import InvalidRequest
    from dispatchd.sdk.token import checked_token

    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if file is not None:
        source = click.get_current_context().get_parameter_source("token_file")
        if token and source is click.core.ParameterSource.ENVIRONMENT:
            raise Mistaken(f"{TOKEN_VARIABLE} and {_TOKEN_FILE_VARIABLE} are both set: unset one of them")
        return file
    if not token:
        return None
    try:
        checked_token(token, ())
    except InvalidRequest as exc:
        raise Mistaken(f"{TOKEN_VARIABLE}: the {exc.message}") from exc
    return token


def _tls(tls: bool, ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> "Tls | None":
    if not tls and ca_file is None and cert_file is None and key_file is None:
        return None
    if (cert_file is None) != (key_file is None):
        raise Mistaken("--cert-file and --key-file belong together: give both, or neither")
    from dispatchd.sdk.tls import Tls

    return Tls(ca_file=ca_file, certificate_file=cert_file, key_file=key_file)
