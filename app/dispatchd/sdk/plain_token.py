"""A warning for tokens that cross a network as plain text."""

from __future__ import annotations

import ipaddress
import logging

from dispatchd.sdk.channel import CallMetadata
from dispatchd.sdk.token import AUTHORIZATION, Token

logger = logging.getLogger("dispatchd.token")


def warn_of_plain_token(target: str, token: Token | None, headers: CallMetadata, *, is_encrypted: bool) -> None:
    """Log a warning if whoever stands between this machine and the target can read the token."""
    has_token = token is not None or any(name == AUTHORIZATION for name, _ in headers)
    if has_token and not is_encrypted and leaves_this_machine(target):
        logger.warning(
            "the token goes to %s as plain text, and whoever is on the way can read and use it: use TLS",
            target,
        )


def leaves_this_machine(target: str) -> bool:
    """Say whether calls to a gRPC target cross a network: a name that only a resolver knows does, too."""
    scheme, _, rest = target.partition(":")
    match scheme.lower():
        case "unix" | "unix-abstract":
            return False
        case "ipv4" | "ipv6":
            return not all(_is_loopback(address) for address in rest.lstrip("/").split(","))
        case "dns":
            return not _is_loopback(rest.rpartition("/")[2])
        case _:
            return not _is_loopback(target)


def _is_loopback(address: str) -> bool:
    host = address.removeprefix("[").partition("]")[0] if address.startswith("[") else address
    if host == address and address.count(":") == 1:
        host = address.partition(":")[0]
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
