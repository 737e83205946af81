"""The headers of calls: copied once, cut to what a call may have, and let go of in time.

gRPC copies all headers of a call for whoever looks for its method, and again for each who asks a context for them. The
first copy stays in a cycle, which only a garbage collection frees, and those are rare in a role. gRPC's own limit of
their size counts from the moment a client acknowledges the settings of its connection; before that, the headers of a
call may have 16 MiB.
"""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dispatchd.domain import limits

LEFT_BYTES = 8 * 1024 * 1024
"""Of headers that wait for a collection."""


@dataclass(frozen=True, slots=True)
class Headers:
    """Those that are text, of as many as a call may have, and how many it has."""

    texts: Mapping[str, str]
    number: int


class HeaderReader:
    """Takes the headers of calls out of gRPC's hands, and has its copies freed when they are large together."""

    def __init__(self) -> None:
        self._left_bytes = 0

    def read(self, metadata: Sequence[tuple[str, str | bytes]]) -> Headers:
        """The headers of a call whose method is looked for."""
        self._left_bytes += sum([len(value) for _, value in metadata])
        texts = {key: value for key, value in metadata[: limits.HEADERS] if isinstance(value, str)}
        return Headers(texts, len(metadata))

    def let_go(self) -> None:
        """To be called when the method was found. Earlier, the copy in use would grow old by the collection, and wait
        for a rarer one."""
        if self._left_bytes > LEFT_BYTES:
            self._left_bytes = 0
            gc.collect(0)
