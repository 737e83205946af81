"""Pieces of protobuf's encoding, for messages that no library would write."""

VARINT, FIXED64, DELIMITED, START_GROUP, END_GROUP, FIXED32 = range(6)
LARGEST_FIELD = 2**29 - 1


def varint(number: int) -> bytes:
    """A number of 0 or more, seven bits a byte."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(field: int, wire_type: int) -> bytes:
    """What stands before a value."""
    return varint(field << 3 | wire_type)


def delimited(field: int, raw: bytes) -> bytes:
    """A field that holds bytes: a string, bytes, a message."""
    return tag(field, DELIMITED) + varint(len(raw)) + raw


def nested(field: int, depth: int) -> bytes:
    """A message in a message in a message."""
    inner = b""
    for _ in range(depth):
        inner = delimited(field, inner)
    return inner
