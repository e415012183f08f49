"""What a server is like at one moment, seen from outside: `/proc`, its folder, and the files of its metrics."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from kixo.bench.subject import Subject
from kixo.lake.commit import LOG_FOLDER
from kixo.lake.read import open_table
from kixo.lake.schema import TABLES
from kixo.metric_file import read, slots
from kixo.metrics import (
    ACK_SECONDS,
    EVENTS,
    IDENTITIES,
    IDENTITY_FILTER_BYTES,
    LOAD_FAILURES,
    LOAD_LAG_SECONDS,
    LOAD_SECONDS,
    LOG_BACKLOG_BYTES,
    LOG_FAILURES,
    RESTARTS,
    Metric,
)
from kixo.server.child import metric_folder
from kixo.settings import Settings
from torture.soak.flatness import Sample
from torture.soak.series import ROLES

PROC = Path("/proc")
GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
# The merge of the small files of one load has 32 of them; what is larger grows in number with the data.
SMALL_BYTES = 2 * 1024 * 1024
UNFINISHED = (".tmp", ".new", ".part")
PARTS = ("run", "lake", "index", "log")
# What lies beside the parts: the format, the registry with SQLite's two, and the output of the server.
KNOWN = {"kixo.json", "registry.sqlite", "registry.sqlite-wal", "registry.sqlite-shm", "server.log"}


class Counters:
    """The values of all metrics at one moment, summed over all processes."""

    def __init__(self, folder: Path) -> None:
        files = metric_folder(Settings(data_dir=folder)).iterdir()
        self._values: list[float] = [sum(values) for values in zip(*(read(path) for path in files), strict=True)]
        self._slots = slots()

    def value(self, metric: Metric, *labels: str) -> float:
        """A counter or gauge."""
        return self._values[self._slots[metric.name, labels]]

    def buckets(self, metric: Metric) -> list[float]:
        """The counts of a histogram's buckets, the last one without an upper edge."""
        slot = self._slots[metric.name, ()]
        return self._values[slot : slot + len(metric.buckets_s) + 1]

    def seconds(self, metric: Metric) -> float:
        """The sum of a histogram's values."""
        return self._values[self._slots[metric.name, ()] + len(metric.buckets_s) + 1]


class Sampler:
    """Looks at a server. A sample tells of the time since the one before."""

    def __init__(self, server: Subject) -> None:
        self._server = server
        self._began_s = self._last_s = time.monotonic()
        self._before = Counters(server.folder)
        self._usage = processes(server.processes())

    def sample(self) -> Sample:
        """The value of each series now, but for those that are asked of somebody else."""
        counters, now_s = Counters(self._server.folder), time.monotonic()
        sample = {"elapsed_s": now_s - self._began_s, "machine_load": os.getloadavg()[0]}
        sample |= processes(self._server.processes())
        sample |= data_folder(self._server.folder)
        sample |= self._metrics(counters, now_s - self._last_s)
        sample |= self._shares(sample, counters, now_s - self._last_s)
        sample["loader_other_bytes"] = sample["loader_anonymous_bytes"] - sample["identity_filter_bytes"]
        self._before, self._last_s, self._usage = counters, now_s, sample
        return sample

    def _shares(self, sample: Sample, counters: Counters, seconds: float) -> Sample:
        """What the processes used since the last sample: of CPU by event, and of the time in wait for a core."""
        spent = {name: sample[name] - self._usage[name] for name in sample.keys() & self._usage.keys()}
        accepted = counters.value(EVENTS, "accepted") - self._before.value(EVENTS, "accepted")
        cpu_s = sum(spent[f"{role}_cpu_s"] for role in ROLES)
        return {
            "cpu_us_per_event": cpu_s / accepted * 1e6 if accepted else 0.0,
            "worker_starved": spent["worker_waiting_s"] / seconds / self._server.workers,
            "loader_starved": spent["loader_waiting_s"] / seconds,
        }

    def _metrics(self, counters: Counters, seconds: float) -> Sample:
        before = self._before
        answers = _since(counters.buckets(ACK_SECONDS), before.buckets(ACK_SECONDS))
        loads = sum(_since(counters.buckets(LOAD_SECONDS), before.buckets(LOAD_SECONDS)))
        load_s = counters.seconds(LOAD_SECONDS) - before.seconds(LOAD_SECONDS)
        accepted = counters.value(EVENTS, "accepted")
        return {
            "ack_p50_s": percentile(answers, ACK_SECONDS.buckets_s, 0.5),
            "ack_p99_s": percentile(answers, ACK_SECONDS.buckets_s, 0.99),
            "load_s": load_s / loads if loads else 0.0,
            "load_lag_s": counters.value(LOAD_LAG_SECONDS),
            "backlog_bytes": counters.value(LOG_BACKLOG_BYTES),
            "events_per_s": (accepted - before.value(EVENTS, "accepted")) / max(seconds, 1e-9),
            "accepted_events": accepted,
            "stored_events": counters.value(EVENTS, "stored"),
            "identities": counters.value(IDENTITIES),
            "identity_filter_bytes": counters.value(IDENTITY_FILTER_BYTES),
            "failures": _failures(counters),
        }


def _failures(counters: Counters) -> float:
    restarts = sum(counters.value(RESTARTS, *labels) for labels in RESTARTS.series())
    return restarts + counters.value(LOAD_FAILURES) + counters.value(LOG_FAILURES)


def _since(now: Sequence[float], before: Sequence[float]) -> list[float]:
    return [later - earlier for later, earlier in zip(now, before, strict=True)]


def percentile(counts: Sequence[float], edges: Sequence[float], share: float) -> float:
    """The value below which a share of a histogram lies, a straight line being drawn through its bucket; 0 for none.

    Beyond the last edge nothing is known, so that edge is the answer.
    """
    wanted, before = share * sum(counts), 0.0
    if not wanted:
        return 0.0
    for count, (low, high) in zip(counts, pairwise((0.0, *edges)), strict=False):
        if count and before + count >= wanted:
            return low + (high - low) * (wanted - before) / count
        before += count
    return edges[-1]


def processes(pids: dict[int, str]) -> Sample:
    """Memory, descriptors, threads and CPU of each role, added up over its processes."""
    sample = dict.fromkeys((f"{role}_{what}" for role in ROLES for what in PER_PROCESS), 0.0)
    for pid, role in pids.items():
        with suppress(*GONE):
            for what, value in _process(PROC / str(pid)).items():
                sample[f"{role}_{what}"] += value
    return sample


PER_PROCESS = ("anonymous_bytes", "rss_bytes", "pss_bytes", "descriptors", "threads", "cpu_s", "waiting_s")


def _process(process: Path) -> dict[str, float]:
    sizes = _rollup(process)
    user, system = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
    return {
        "anonymous_bytes": sizes["Anonymous"],
        "rss_bytes": sizes["Rss"],
        "pss_bytes": sizes["Pss"],
        "descriptors": _entries(process / "fd"),
        "threads": _entries(process / "task"),
        "cpu_s": (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"),
        # Of the first thread, in which Python runs: time on a core, time in wait for one, and how often.
        "waiting_s": int((process / "schedstat").read_text().split()[1]) / 1e9,
    }


def _entries(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def _rollup(process: Path) -> dict[str, int]:
    lines = (line.split() for line in (process / "smaps_rollup").read_text().splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}


def data_folder(folder: Path) -> Sample:
    """Files and bytes of every part of a data folder."""
    sizes = {part: dict(_sizes(folder / part)) for part in PARTS}
    sample: Sample = {}
    for table in TABLES:
        sample |= _table(folder / "lake", table.name, sizes["lake"])
    began_s = time.monotonic()
    open_table(folder / "lake", "events")
    sample["open_table_s"] = time.monotonic() - began_s
    others = [path for path in folder.iterdir() if path.name not in {*PARTS, *KNOWN}]
    return sample | {
        "log_segments": sum(path.suffix == ".log" for path in sizes["log"]),
        "log_bytes": sum(sizes["log"].values()),
        "index_files": len(sizes["index"]),
        "index_bytes": sum(sizes["index"].values()),
        "run_files": len(sizes["run"]),
        "run_bytes": sum(sizes["run"].values()),
        "unfinished_files": sum(path.suffix in UNFINISHED for part in sizes.values() for path in part),
        "other_files": len(others) + _strange(folder / "lake"),
    }


def _strange(lake: Path) -> int:
    """Entries of the lake that are neither a table nor its format, as what was set aside is."""
    return sum(path.name not in {"kixo.json", *(table.name for table in TABLES)} for path in lake.iterdir())


def _table(lake: Path, name: str, sizes: dict[Path, int]) -> Sample:
    folder = lake / name
    data = {path: size for path, size in sizes.items() if path.suffix == ".parquet" and path.parent.parent == folder}
    log = [path for path in sizes if path.parent == folder / LOG_FOLDER]
    live = [sizes.get(Path(path), 0) for path in open_table(lake, name).paths]
    return {
        f"{name}_small_files": sum(size < SMALL_BYTES for size in live),
        f"{name}_files_on_disk": len(data),
        f"{name}_small_files_on_disk": sum(size < SMALL_BYTES for size in data.values()),
        f"{name}_commits": sum(path.suffix == ".json" for path in log),
        f"{name}_checkpoints": sum(".checkpoint" in path.name for path in log),
        f"{name}_bytes": sum(data.values()),
    }


def _sizes(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file below a folder with its size; those that go meanwhile are left out."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent) / name for name in names):
            with suppress(*GONE):
                yield path, path.stat().st_size
