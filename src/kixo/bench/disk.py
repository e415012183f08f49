"""What the disk allows: how long it takes to make an append durable, which bounds every durable answer."""

import os
import tempfile
import time
from pathlib import Path
from statistics import median

APPEND_BYTES = 300_000
APPENDS = 20


def fdatasync_ms(folder: Path | None) -> float:
    """The median time in ms to append 300 kB, about a batch of 1,000, and have it on disk."""
    data = os.urandom(APPEND_BYTES)
    with tempfile.TemporaryFile(dir=folder) as file:
        return median(_append_s(file.fileno(), data) for _ in range(APPENDS)) * 1e3


def _append_s(descriptor: int, data: bytes) -> float:
    began_s = time.perf_counter()
    os.write(descriptor, data)
    os.fdatasync(descriptor)
    return time.perf_counter() - began_s
