"""Values on the command line that are more than text or a number, and the options that several commands share."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from dispatchd.cli.access import Access, access_options
from dispatchd.entrypoints.durations import parse_duration

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

DEFAULT_ADDRESS = "localhost:8080"
_GRPC_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "xds:")


def duration(text: str) -> timedelta:
    """`500ms`, `30s`, `1m30s`, as in the environment of the roles."""
    try:
        return parse_duration(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is no duration: write for example 500ms, 30s or 1m30s") from exc


def time(text: str) -> datetime:
    """A time with its zone, `2027-01-31T08:00:00Z`, or one from now on, `+10m`."""
    try:
        if text.startswith("+"):
            return datetime.now(UTC) + parse_duration(text[1:])
        parsed = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as exc:
        raise click.BadParameter(f"{text!r} is no time: write for example 2027-01-31T08:00:00Z or +10m") from exc
    if parsed.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone: write {text}Z for UTC, or for example {text}+01:00")
    return parsed


def label(text: str) -> tuple[str, str]:
    """`key=value`; the value may be empty and have further equals signs."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{text!r} has no key before an equals sign: write for example customer=17")
    return key, value


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs in place of text for people.")


def address(text: str) -> str:
    """`HOST:PORT`, with an IPv6 address in brackets; gRPC's own forms (`dns:///…`, `ipv4:…,…`) pass as they are."""
    if text.startswith(_GRPC_SCHEMES):
        return text
    host, colon, port = text.rpartition(":")
    is_host = bool(host) and (":" not in host or (host.startswith("[") and host.endswith("]")))
    if (
        not colon
        or not is_host
        or "/" in host
        or not port.isascii()
        or not port.isdigit()
        or not 1 <= int(port) <= 65535
    ):
        raise click.BadParameter(f"{text!r} is no address: write HOST:PORT, for example localhost:8080")
    return text


@dataclass(frozen=True, slots=True)
class Server:
    """The control-plane that a command talks to."""

    address: str
    call_timeout: timedelta
    access: Access


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives the command `server`: where the control-plane is, and how to talk to it."""

    @functools.wraps(command)
    def with_server(*arguments: Any, server: str, call_timeout: timedelta, access: Access, **others: Any) -> Any:
        return command(*arguments, server=Server(server, call_timeout, access), **others)

    where = click.option(
        "--server",
        envvar="DISPATCHD_ADDRESS",
        type=address,
        default=DEFAULT_ADDRESS,
        show_default=True,
        show_envvar=True,
        metavar="HOST:PORT",
        help="A control-plane.",
    )
    call_timeout = click.option(
        "--call-timeout",
        type=duration,
        default="10s",
        show_default=True,
        help="How long a call may take, with its retries.",
    )
    return where(call_timeout(access_options(with_server)))
