"""What only the garbage collector would free: collections are rare in a role, so nothing large may wait for one."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import dispatchd

_PACKAGE = str(Path(dispatchd.__file__).parent)


class Garbage:
    """What was found, by the names of its kinds; of frames those of our own code."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.kinds: set[str] = set()


@contextmanager
def collected_late() -> Iterator[Garbage]:
    """Holds up the collector for a block; afterwards the answer says what it would have had to free."""
    gc.collect()
    gc.disable()
    found = Garbage()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        for each in gc.garbage:
            if isinstance(each, FrameType) and each.f_code.co_filename.startswith(_PACKAGE):
                found.frames.append(f"{Path(each.f_code.co_filename).name}: {each.f_code.co_name}")
            found.kinds.add(type(each).__name__)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()
