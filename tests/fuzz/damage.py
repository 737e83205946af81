"""What may happen to an encoding on its way, and what an attacker makes of it."""

import random

from fuzz import wire

_TEXTS = (b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80")
"""No UTF-8: a byte that never occurs, an overlong NUL, half a surrogate pair, beyond the last character, half one."""
_FIELDS = (1, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22, 23, 0, 19, 99, 19_000, wire.LARGEST_FIELD)
_DEEP = (3, 99, 101, 2_000)


def noise(chance: random.Random) -> bytes:
    """Bytes without a meaning."""
    return chance.randbytes(chance.choice([0, 1, 2, 3, 7, 40, 400]))


def damaged(chance: random.Random, message: bytes) -> bytes:
    """A message in which one to three things are wrong."""
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        message = _DAMAGES[chance.randrange(len(_DAMAGES))](chance, message)
    return message


def _at(chance: random.Random, message: bytes) -> int:
    return chance.randrange(len(message) + 1)


def _flip(chance: random.Random, message: bytes) -> bytes:
    changed = bytearray(message or b"\0")
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _replace(chance: random.Random, message: bytes) -> bytes:
    changed = bytearray(message or b"\0")
    changed[chance.randrange(len(changed))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    return bytes(changed)


def _cut(chance: random.Random, message: bytes) -> bytes:
    return message[: _at(chance, message)]


def _insert(chance: random.Random, message: bytes) -> bytes:
    at = _at(chance, message)
    return message[:at] + chance.randbytes(chance.randrange(1, 9)) + message[at:]


def _repeat(chance: random.Random, message: bytes) -> bytes:
    """All of it again, or a part: fields that are there twice, and with luck both sides of a oneof."""
    if chance.random() < 0.5:
        return message * 2
    begin, end = sorted((_at(chance, message), _at(chance, message)))
    return message[:end] + message[begin:end] + message[end:]


def _unknown_field(chance: random.Random, message: bytes) -> bytes:
    field = chance.choice([98, 99, 19_000, wire.LARGEST_FIELD])
    return message + wire.delimited(field, chance.randbytes(9)) + wire.tag(97, wire.VARINT) + wire.varint(2**63)


def _other_wire_type(chance: random.Random, message: bytes) -> bytes:
    """A known field with a value of another kind; types 6 and 7 don't exist."""
    return message + wire.tag(chance.choice(_FIELDS), chance.randrange(8)) + chance.randbytes(8)


def _number(chance: random.Random, message: bytes) -> bytes:
    number = wire.varint(chance.choice([0, 1, 99, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**70]))
    return message + wire.tag(chance.choice(_FIELDS), wire.VARINT) + number


def _no_utf8(chance: random.Random, message: bytes) -> bytes:
    text = chance.choice(_TEXTS)
    if chance.random() < 0.5:
        text = wire.delimited(chance.choice(_FIELDS[:8]), text)
    return message + wire.delimited(chance.choice(_FIELDS[:12]), text)


def _nested(chance: random.Random, message: bytes) -> bytes:
    return message + wire.nested(chance.choice(_FIELDS[:12]), chance.choice(_DEEP))


def _groups(chance: random.Random, message: bytes) -> bytes:
    """The old kind of nesting: groups that are never closed, or were never opened."""
    kind = chance.choice([wire.START_GROUP, wire.END_GROUP])
    return message + wire.tag(chance.choice(_FIELDS), kind) * chance.choice([1, 2, 200])


def _lying_length(chance: random.Random, message: bytes) -> bytes:
    length = chance.choice([2**7, 2**31 - 1, 2**32, 2**63])
    return message + wire.tag(chance.choice(_FIELDS), wire.DELIMITED) + wire.varint(length) + b"x"


def _endless_varint(chance: random.Random, message: bytes) -> bytes:
    return message + b"\x80" * chance.choice([1, 9, 10, 30]) + chance.choice([b"", b"\x01"])


_DAMAGES = (
    _flip,
    _replace,
    _cut,
    _insert,
    _repeat,
    _unknown_field,
    _other_wire_type,
    _number,
    _no_utf8,
    _nested,
    _groups,
    _lying_length,
    _endless_varint,
)
