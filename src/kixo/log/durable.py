"""How far the newest segment of a partition is durable, told by its writer in memory that it shares with readers.

Eight bytes in the file `durable` of the partition's folder: the segment's size in bytes that is synced, and, above
it, the last bits of its base offset, so that what is said of one segment is never taken for another's. Writing them
is one memory store after each sync. The file itself is never synced: it is only asked while a writer lives, and a
writer says it anew when it opens. What it says is never more than is durable, also after a power cut.
"""

import mmap
import os
from contextlib import suppress
from pathlib import Path
from struct import Struct

NAME = "durable"

# A segment ends at 4 GiB and one group of commits; base offsets of neighbours never differ by a multiple of 2**24.
_SIZE_BITS = 40
_TAG_MASK = (1 << 24) - 1
_MARK = Struct("<Q")


class DurableMark:
    """The writer's end, in the folder of a partition. Raises `OSError`."""

    def __init__(self, folder: Path) -> None:
        descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # The block is claimed now: a full disk would answer a later write to mapped memory with SIGBUS.
            os.posix_fallocate(descriptor, 0, _MARK.size)
            self._map = mmap.mmap(descriptor, _MARK.size)
        finally:
            os.close(descriptor)
        self._value = memoryview(self._map).cast("Q")

    def set(self, base_offset: int, size: int) -> None:
        """Says that `size` bytes of the segment with `base_offset` are durable."""
        self._value[0] = (base_offset & _TAG_MASK) << _SIZE_BITS | size

    def close(self) -> None:
        """Lets go of the memory; the file keeps what was said last."""
        self._value.release()
        self._map.close()


def durable_bytes(folder: Path, base_offset: int) -> int:
    """How many bytes of the newest segment, of `base_offset`, are durable; 0 where nobody has said so."""
    with suppress(FileNotFoundError), (folder / NAME).open("rb", buffering=0) as file:
        data = file.read(_MARK.size)
        if len(data) == _MARK.size:
            (mark,) = _MARK.unpack(data)
            same = mark >> _SIZE_BITS == base_offset & _TAG_MASK
            return int(mark & ((1 << _SIZE_BITS) - 1)) if same else 0
    return 0
