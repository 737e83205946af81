"""DATABASE_URL, taken apart as the driver does it: where the database is, and who can read what is said to it."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""As libpq knows them; only the last three never fall back to plain text."""
_ENCRYPTED = SSL_MODES[3:]
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_HOST = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]+)(:(?P<port>[0-9]{1,5}))?", re.ASCII)


class UnusableUrl(ValueError):
    """The text says what is wrong, and shows neither user nor password."""


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """What is looked at of it. Without hosts the driver asks the environment, and then its default folders."""

    hosts: tuple[str, ...]
    options: Mapping[str, str]

    def is_private(self, variable: Callable[[str], str | None]) -> bool:
        """Whether nobody between can read what is said to the database; `variable` looks into the environment."""
        service = self.options.get("service") or variable("PGSERVICE")
        mode = self.options.get("sslmode") or (None if service else variable("PGSSLMODE"))
        if mode in _ENCRYPTED:
            return True
        if not self.hosts and service:
            return False
        hosts = self.hosts or (variable("PGHOST") or "localhost").split(",")
        return all(_is_local(host) for host in hosts)


def parse_database_url(url: str) -> DatabaseUrl:
    """Raises UnusableUrl."""
    try:
        parts = urlsplit(url)
        options = {name: values[-1] for name, values in _options(parts.query).items()}
    except ValueError:
        raise UnusableUrl("read a value that can't be taken apart") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise UnusableUrl("read a value that does not start with postgresql://")
    before, at, after = parts.netloc.partition("@")
    named = after if at else before
    hosts = [_split_host(each) for each in named.split(",")] if named else []
    if not hosts and "host" in options:
        hosts = [_split_host(each) for each in options["host"].split(",")]
    _check_ports(hosts, options)
    _check_options(options)
    return DatabaseUrl(tuple(host for host, _ in hosts), options)


def _options(query: str) -> dict[str, list[str]]:
    return parse_qs(query, strict_parsing=True) if query else {}


def _split_host(spec: str) -> tuple[str, str | None]:
    if spec.startswith("/"):
        return spec, None
    match = _HOST.fullmatch(spec)
    if match is None:
        raise UnusableUrl("read a value with a host that can't be taken apart")
    return unquote(match["host"]).strip("[]"), match["port"]


def _check_ports(hosts: "list[tuple[str, str | None]]", options: Mapping[str, str]) -> None:
    listed = options["port"].split(",") if "port" in options else []
    for port in (*listed, *(port for _, port in hosts if port is not None)):
        if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 0 < int(port) < 2**16:
            raise UnusableUrl("read a value with a port that is none")
    if len(listed) > 1 and len(listed) != len(hosts):
        raise UnusableUrl("read a value with another number of ports than hosts")


def _check_options(options: Mapping[str, str]) -> None:
    mode = options.get("sslmode")
    if mode is not None and mode not in SSL_MODES:
        raise UnusableUrl(f"its sslmode is none of {', '.join(SSL_MODES)}")
    for name in _FILES:
        if name in options:
            try:
                with Path(options[name]).open("rb"):
                    pass
            except (OSError, ValueError) as exc:
                reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else "this is no file name"
                raise UnusableUrl(f"its {name} {options[name]} can't be read ({reason})") from None


def _is_local(host: str) -> bool:
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
