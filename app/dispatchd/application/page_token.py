"""Pages: bounded in items and bytes, continued by tokens that are opaque to clients and checked when they come back.

A token is base64url of: 8 bytes of BLAKE2b over the rest, then the scope (what was listed) and the last key of the
page, separated by NUL. The checksum tells a damaged or foreign token from a good one; it is no secret.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dispatchd.domain import limits
from dispatchd.domain.errors import InvalidRequest

_CHECKSUM_BYTES = 8
_Item = TypeVar("_Item")
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Page(Generic[_Item]):
    """Items and the token of the next page, empty on the last."""

    items: Sequence[_Item]
    next_token: str


def page_of(
    found: Sequence[_Item], most: int, size_bytes: Callable[[_Item], int], token_of: Callable[[_Item], str]
) -> Page[_Item]:
    """The first `most` of what was found, or fewer where the answer would grow too large; at least one. `found` has
    one more than `most` where the list goes on."""
    room = limits.ANSWER_BYTES - limits.PAGE_TOKEN_BYTES
    count = 0
    for item in found[:most]:
        room -= size_bytes(item)
        if count and room < 0:
            break
        count += 1
    return Page(found[:count], token_of(found[count - 1]) if count < len(found) else "")


def text_bytes(*texts: str) -> int:
    """What texts take in an answer, with their tags and lengths."""
    return sum(len(text.encode()) + 6 for text in texts)


def labels_bytes(labels: Mapping[str, str]) -> int:
    """What a map takes in an answer."""
    return text_bytes(*labels.keys(), *labels.values())


def write_token(scope: str, *key: str) -> str:
    body = "\0".join((scope, *key)).encode()
    return base64.urlsafe_b64encode(_checksum(body) + body).decode()


def read_token(token: str, scope: str, read_key: Callable[..., _Key]) -> _Key:
    """What `read_key` makes of the texts in a token of this scope; InvalidRequest for any other text, and where
    `read_key` raises ValueError or takes another number of texts."""
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        checksum, body = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
        found_scope, *key = body.decode().split("\0")
        if checksum != _checksum(body) or found_scope != scope:
            raise ValueError("not a token of this list")
        return read_key(*key)
    except (binascii.Error, ValueError, TypeError) as exc:
        raise InvalidRequest("page_token", "is not the next_page_token of this list: start again without one") from exc


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES, person=b"page-token").digest()
