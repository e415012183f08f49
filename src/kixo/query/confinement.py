"""The bounds that the process sets on a query, where DuckDB itself does not look.

Within one function on one value DuckDB counts no memory and sees no clock: `repeat('x', 4000000000)` takes 4 GB,
`sleep_ms(600000)` ten minutes, whatever the caps say. So the kernel bounds what the process may allocate, which DuckDB
reports as its own end of memory, and a query that is past its time and cannot be stopped ends with its process. Both
are for a process that runs one query.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kixo.query.caps import QueryCaps, out_of_memory

# What is allocated next to DuckDB's own accounts: its threads, the batches that are read, and the rows being written.
BESIDE_BYTES = 256 * 1024 * 1024


@contextmanager
def confined(caps: QueryCaps) -> Iterator[None]:
    """In the block the process may allocate the memory cap and `BESIDE_BYTES` on top of what it has.

    Where the system does not tell what the process has, there is no such bound.
    """
    used = _data_bytes()
    if used is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + caps.memory_bytes_max + BESIDE_BYTES
    tighter = soft == resource.RLIM_INFINITY or wanted < soft
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if tighter else soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextmanager
def memory_bounded(caps: QueryCaps) -> Iterator[None]:
    """`confined`, where the end of memory is a `QueryFailed`."""
    with confined(caps):
        try:
            yield
        except MemoryError:
            raise out_of_memory(caps) from None


def _data_bytes() -> int | None:
    """What the kernel counts against the bound, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), None)
