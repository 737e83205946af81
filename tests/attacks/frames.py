"""HTTP/2 and gRPC as bytes, for clients that break the rules a library would keep.

::

    frame    = length (3 bytes) kind (1) flags (1) stream (4) payload        RFC 9113, section 4.1
    message  = compressed (1 byte) length (4) bytes                          gRPC over HTTP/2, "Length-Prefixed-Message"
    header   = 0 length name length value                                    RFC 7541, section 6.2.2

Header fields are always literals that nobody stores, so neither side needs a table.
"""

from enum import IntEnum, IntFlag

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (RFC 9113, section 3.4)."""
LARGEST_FRAME_BYTES = 16 * 1024
"""What every peer takes (SETTINGS_MAX_FRAME_SIZE, section 6.5.2)."""
FIRST_WINDOW_BYTES = 65_535
"""Of a connection and of each stream (section 6.9.2)."""
INITIAL_WINDOW_SIZE = 4
"""The setting of that name (section 6.5.2)."""


class Kind(IntEnum):
    """Frame types (RFC 9113, section 6)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntFlag):
    """Bits of a frame; ACK is END_STREAM's bit on SETTINGS and PING."""

    NONE = 0
    ACK = 1
    END_STREAM = 1
    END_HEADERS = 4


def frame(kind: int, stream: int = 0, payload: bytes = b"", flags: Flag = Flag.NONE) -> bytes:
    """One frame, of any kind and length."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def setting(number: int, value: int) -> bytes:
    """One entry of a SETTINGS frame (section 6.5.1)."""
    return number.to_bytes(2) + value.to_bytes(4)


def ping(number: int = 0) -> bytes:
    """Section 6.7."""
    return frame(Kind.PING, payload=number.to_bytes(8))


def reset(stream: int) -> bytes:
    """RST_STREAM with CANCEL (section 6.4)."""
    return frame(Kind.RST_STREAM, stream, (8).to_bytes(4))


def window_update(stream: int, more_bytes: int) -> bytes:
    """Section 6.9."""
    return frame(Kind.WINDOW_UPDATE, stream, more_bytes.to_bytes(4))


def header(name: bytes, value: bytes) -> bytes:
    """One field of a header block."""
    return b"\0" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    """Without Huffman coding; the length is an integer with a prefix of 7 bits (RFC 7541, sections 5.1 and 5.2)."""
    if len(text) < 127:
        return bytes([len(text)]) + text
    length, rest = bytearray([127]), len(text) - 127
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*length, rest]) + text


def call_headers(method: str, token: str | None = None) -> bytes:
    """The header block of a gRPC call of `/service/method`."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": method.encode(),
        b":authority": b"attacked",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    if token is not None:
        fields[b"authorization"] = b"Bearer " + token.encode()
    return b"".join(header(name, value) for name, value in fields.items())


def message(data: bytes, *, declared_bytes: int | None = None) -> bytes:
    """A gRPC message; it may declare another length than it has."""
    return b"\0" + (len(data) if declared_bytes is None else declared_bytes).to_bytes(4) + data
