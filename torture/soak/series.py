"""What is watched in a soak, and how much each series may grow: one table.

A series is judged by its growth over the second half of the run, when caches are warm and the first files have gone:
the slope of a straight line through the medians of its thirtieths, times the length of that half. It is flat where
that is no more than `tolerance` of its mean, or than `grain`, in the unit of the series: what one more file, thread
or page of a cache may make up. Shrinking is no fault. A series without a tolerance grows with the events by design,
or is there to explain others.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kixo.lake.schema import TABLES

MB = 1e6
COUNTS, TIMES = 0.10, 0.25
# Files that were merged away are swept four times in the time that they stay, so their number saws by a quarter.
SWEEPS = 0.25
# Eight files of one size become one: up to seven of each of the sizes that an hour brings.
INDEX_FILES = 14
ROLES = ("supervisor", "worker", "loader", "console")


@dataclass(frozen=True)
class Series:
    """One figure that is sampled: its name, with the unit in it, the panel it is drawn in, and what may be flat."""

    name: str
    panel: str
    sentence: str
    tolerance: float | None = None
    grain: float = 0.0


def _processes() -> Iterator[Series]:
    for role in ROLES:
        yield Series(
            f"{role}_anonymous_bytes",
            "memory of its own, by process",
            f"memory of the {role} that belongs to no file",
            None if role == "loader" else COUNTS,
            4 * MB,
        )
        yield Series(f"{role}_rss_bytes", "resident memory, by process", f"resident set of the {role}")
        yield Series(f"{role}_pss_bytes", "", f"proportional set of the {role}")
        # The loader holds each file of the index open.
        grain = INDEX_FILES if role == "loader" else 4
        yield Series(f"{role}_descriptors", "open descriptors", f"descriptors of the {role}", COUNTS, grain)
        yield Series(f"{role}_threads", "threads", f"threads of the {role}", COUNTS, 2)
        yield Series(f"{role}_cpu_s", "", f"CPU time of the {role} so far")
        yield Series(f"{role}_waiting_s", "", f"time that the {role}'s first thread wanted a core and got none, so far")


def _tables() -> Iterator[Series]:
    for name in (table.name for table in TABLES):
        yield Series(f"{name}_small_files", "small files in a table", f"files of {name} below 2 MB", COUNTS, 32)
        yield Series(f"{name}_files_on_disk", "files on disk", f"files of {name} with those that were merged away")
        yield Series(
            f"{name}_small_files_on_disk",
            "small files on disk",
            "the same, below 2 MB: they go ten minutes after a merge",
            SWEEPS,
            64,
        )
        yield Series(f"{name}_commits", "files in a table's own log", f"commits in the log of {name}", COUNTS, 200)
        yield Series(f"{name}_checkpoints", "other files", f"checkpoints in the log of {name}", COUNTS, 2)
        yield Series(f"{name}_bytes", "bytes on disk", f"{name} on disk")


SERIES: tuple[Series, ...] = (
    *_processes(),
    Series(
        "loader_other_bytes",
        "memory of its own, by process",
        "memory of the loader without the filter of identities, which grows with them by design",
        COUNTS,
        32 * MB,
    ),
    Series("identity_filter_bytes", "memory of its own, by process", "the filter of identities"),
    *_tables(),
    Series("log_segments", "segments of the log", "segments of the event log", COUNTS, 2),
    Series("log_bytes", "bytes of the log on disk", "the event log on disk", COUNTS, 128 * MB),
    Series("index_files", "files of the index", "files of the index of identities", COUNTS, INDEX_FILES),
    Series("index_bytes", "bytes on disk", "the index of identities on disk"),
    Series("run_files", "other files", "files in run/", COUNTS, 0),
    Series("run_bytes", "", "bytes in run/", COUNTS, 1 * MB),
    Series("unfinished_files", "other files", "files with a temporary name, anywhere", COUNTS, 2),
    Series("other_files", "other files", "files in no part of the data folder that is named here", COUNTS, 0),
    Series("load_s", "seconds of a load", "mean time of a load, from reading the log to the commit", TIMES, 0.02),
    Series("open_table_s", "seconds of a load", "time to open the events table, as each query does", TIMES, 0.02),
    Series("load_lag_s", "load lag", "age of the oldest event of a load when it was committed", TIMES, 0.25),
    Series("ack_p50_s", "time to the answer", "half of all answers came within, by the server", TIMES, 0.005),
    Series("ack_p99_s", "time to the answer", "99 of 100 answers came within, by the server", TIMES, 0.05),
    Series("cpu_us_per_event", "CPU of all processes", "CPU µs of all processes for each event", TIMES, 1.0),
    Series("events_per_s", "", "events accepted a second"),
    Series("accepted_events", "", "events accepted so far"),
    Series("stored_events", "", "events stored so far"),
    Series("identities", "", "identities that the loader knows"),
    Series("backlog_bytes", "", "bytes of the log that are not in the tables"),
    Series("failures", "other files", "loads and commits that failed, and processes that were started again"),
    Series("query_s", "a query", "time of a query over one project, with the start of its process"),
    Series("machine_load", "load average", "processes of the whole machine that wanted a core: 1 minute mean"),
    Series("worker_starved", "share of time without a core", "of the time, that a worker wanted a core and got none"),
    Series("loader_starved", "share of time without a core", "of the time, that the loader wanted a core and got none"),
)
"""In this order, elapsed seconds in front, they are the columns of `samples.csv`."""
