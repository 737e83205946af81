"""Page tokens: opaque to clients, checked when they come back.

A token is base64url of: 8 bytes of BLAKE2b over the rest, then the scope (what was listed) and the last key of the
page, separated by NUL. The checksum tells a damaged or foreign token from a good one; it is no secret.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dispatchd.domain.errors import InvalidRequest

_CHECKSUM_BYTES = 8
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[_Item]):
    """Items and the token of the next page, empty on the last."""

    items: Sequence[_Item]
    next_token: str


def write_token(scope: str, *key: str) -> str:
    body = "\0".join((scope, *key)).encode()
    return base64.urlsafe_b64encode(_checksum(body) + body).decode()


def read_token(token: str, scope: str) -> list[str]:
    """The key in a token of this scope; raises InvalidRequest for any other text."""
    problem = InvalidRequest("page_token", "is not the next_page_token of this list: start again without one")
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        checksum, body = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
        found_scope, *key = body.decode().split("\0")
    except (binascii.Error, ValueError) as exc:
        raise problem from exc
    if checksum != _checksum(body) or found_scope != scope:
        raise problem
    return key


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES, person=b"page-token").digest()
