"""Every metric the server has: its name, its kind, its labels with all of their values, and a sentence.

All label values are listed here, so the number of series is fixed before the first request: no client can make it
grow. `kixo.metric_file` keeps the values in shared memory, `/metrics` shows them.
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal

from kixo.errors import REQUEST_ERRORS

Labels = tuple[tuple[str, tuple[str, ...]], ...]

ACK_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LOAD_BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Metric:
    """One metric. `labels` gives, for each label, every value it can have; `buckets_s` only for histograms.

    The value of a node is the sum over its processes, or the greatest, where a gauge does not say `sums`.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    sentence: str
    labels: Labels = ()
    buckets_s: tuple[float, ...] = ()
    sums: bool = True

    @property
    def exposed_name(self) -> str:
        """The name on the private port: a counter's ends in `_total`."""
        return self.name + "_total" if self.kind == "counter" else self.name

    def series(self) -> list[tuple[str, ...]]:
        """The label values of each series, in order."""
        return list(product(*(values for _, values in self.labels)))


def _answers() -> tuple[str, ...]:
    errors = sorted({f"{error.status} {error.code}" for error in REQUEST_ERRORS})
    return ("200 ok", "204 preflight", "304 not_modified", *errors)


ANSWERS = _answers()
REQUESTS = Metric(
    "kixo_requests",
    "counter",
    "Answers of the public port, by HTTP status and code.",
    (("answer", ANSWERS),),
)
EVENTS = Metric(
    "kixo_events",
    "counter",
    "Events by what became of them: accepted or rejected at the door, stored or duplicate in the table.",
    (("outcome", ("accepted", "rejected", "stored", "duplicate", "rejected_stored")),),
)
ACK_SECONDS = Metric(
    "kixo_ack_seconds",
    "histogram",
    "Time from a request's headers to its durable answer, in seconds.",
    buckets_s=ACK_BUCKETS_S,
)
LOG_COMMITS = Metric("kixo_log_commits", "counter", "Group commits of the log (one fsync each).")
LOG_FAILURES = Metric("kixo_log_failures", "counter", "Group commits of the log that failed and were answered 503.")
LOG_BYTES = Metric("kixo_log_bytes", "counter", "Bytes written to the log.")
LOG_CUT_BYTES = Metric("kixo_log_cut_bytes", "counter", "Bytes of torn tails cut off when the log was opened.")
LOG_CORRUPT_BYTES = Metric("kixo_log_corrupt_bytes", "counter", "Bytes of the log that the loader could not trust.")
LOG_LOST_REQUESTS = Metric(
    "kixo_log_lost_requests", "counter", "Requests that Kafka's retention deleted before they were in the tables."
)
LOAD_COMMITS = Metric("kixo_load_commits", "counter", "Table commits of new rows.")
LOAD_SECONDS = Metric(
    "kixo_load_seconds",
    "histogram",
    "Time of one load, from reading the log to the commit.",
    buckets_s=LOAD_BUCKETS_S,
)
LOAD_FAILURES = Metric("kixo_load_failures", "counter", "Loads that failed and are repeated.")
LOADS_FENCED = Metric(
    "kixo_loads_fenced", "counter", "Loads given up because another loader had taken their partitions over."
)
LOAD_LAG_SECONDS = Metric(
    "kixo_load_lag_seconds",
    "gauge",
    "Age of the oldest accepted event that is not in the table yet; of several loaders, of the one that is last.",
    sums=False,
)
LOAD_SHARES = Metric(
    "kixo_load_shares",
    "gauge",
    "Parts of the log that this node's loaders have: partitions, or 1 for a local log.",
)
LOG_BACKLOG_BYTES = Metric("kixo_log_backlog_bytes", "gauge", "Bytes of the log that are not in the table yet.")
COMPACTIONS = Metric("kixo_compactions", "counter", "Merges of small table files.")
COMPACTION_FAILURES = Metric("kixo_compaction_failures", "counter", "Merges that failed and are tried again later.")
TABLE_FILES = Metric("kixo_table_files", "gauge", "Files of the events table.")
IDENTITIES = Metric("kixo_identities", "gauge", "Identities that the loader knows.")
IDENTITY_FILTER_BYTES = Metric(
    "kixo_identity_filter_bytes", "gauge", "Memory of the filter that finds copies; it grows with the identities."
)
REGISTRY_AGE_SECONDS = Metric(
    "kixo_registry_age_seconds",
    "gauge",
    "Time since projects and keys were last known to be current; it rises while the registry is away.",
)
LIMIT_ALONE = Metric(
    "kixo_limit_alone",
    "gauge",
    "Workers that count requests for their node alone, up to its share of the limit, because Redis is away.",
)
LIMIT_ALONE_REQUESTS = Metric(
    "kixo_limit_alone_requests", "counter", "Requests that were counted for their node alone, because Redis was away."
)
RESTARTS = Metric(
    "kixo_restarts",
    "counter",
    "Processes started again after they died.",
    (("process", ("worker", "loader", "console", "status")),),
)

CATALOGUE: tuple[Metric, ...] = (
    REQUESTS,
    EVENTS,
    ACK_SECONDS,
    LOG_COMMITS,
    LOG_FAILURES,
    LOG_BYTES,
    LOG_CUT_BYTES,
    LOG_CORRUPT_BYTES,
    LOG_LOST_REQUESTS,
    LOAD_COMMITS,
    LOAD_SECONDS,
    LOAD_FAILURES,
    LOADS_FENCED,
    LOAD_LAG_SECONDS,
    LOAD_SHARES,
    LOG_BACKLOG_BYTES,
    COMPACTIONS,
    COMPACTION_FAILURES,
    TABLE_FILES,
    IDENTITIES,
    IDENTITY_FILTER_BYTES,
    REGISTRY_AGE_SECONDS,
    LIMIT_ALONE,
    LIMIT_ALONE_REQUESTS,
    RESTARTS,
)
