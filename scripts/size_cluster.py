"""Says what rates of events need, computed from figures that were measured elsewhere and are given here.

    python -m scripts.size_cluster --help

Nothing has a default that nobody measured: every figure is given, and is printed with the result. The arithmetic
assumes that projects spread evenly over partitions; one project stands in one partition, whatever the rate.
"""

import argparse
from dataclasses import dataclass, fields
from math import ceil

RATES = (100_000, 1_000_000, 10_000_000)
DAY_S = 86_400
MONTH_S = 30 * DAY_S
HEAD = (
    "| events/s | ingest cores (machines) | loaders, and partitions at least (machines) | brokers | MB/s, all brokers "
    "| TB a day into S3 | loads/s | S3 requests/s | their cost a month | first bottleneck |\n"
    + "| ---: " * 9
    + "| --- |"
)


@dataclass(frozen=True)
class Figures:
    """What is known of a unit of work, and what is planned."""

    ingest_cpu_us: float  # CPU-µs of ingest per event
    loader_cpu_us: float  # CPU-µs of loaders per event
    merge_cpu_us: float  # CPU-µs per event of merging table files, which one elected loader does for all
    log_bytes: float  # bytes of an event in the log
    lake_bytes: float  # bytes of an event in the tables, merges included
    copies: int  # replicas of the log
    core_share: float  # how much of a core may be used, 0 to 1
    machine_cores: int  # cores of a machine of ingest or loaders
    broker_bytes: float  # bytes/s that a broker takes, those of followers included
    load_s: float  # seconds between two loads of a loader
    commit_s: float  # seconds for which one commit to a table on S3 holds up the next
    load_puts: float  # write requests to S3 of one load, all tables
    load_gets: float  # read requests to S3 of one load, all tables
    price_1000_puts: float  # price of 1,000 write requests
    price_1000_gets: float  # price of 1,000 read requests


@dataclass(frozen=True)
class Need:
    """What a rate needs; bytes and commits per second, requests' cost per month of 30 days."""

    ingest_cores: int
    ingest_machines: int
    loaders: int
    loader_machines: int
    brokers: int
    broker_bytes: float
    lake_bytes: float
    commits: float
    requests: float
    cost: float
    bottleneck: str

    @property
    def partitions(self) -> int:
        """At least one for each loader, which has one core's work."""
        return self.loaders


def need(rate: float, figures: Figures) -> Need:
    """What so many events per second need."""
    ingest_cores = _units(rate * figures.ingest_cpu_us / 1e6, figures.core_share)
    loaders = _units(rate * figures.loader_cpu_us / 1e6, figures.core_share)
    broker_bytes = rate * figures.log_bytes * figures.copies
    brokers = max(figures.copies, _units(broker_bytes, figures.broker_bytes))
    commits = loaders / figures.load_s
    machines = {
        "CPU of ingest": ceil(ingest_cores / figures.machine_cores),
        "CPU of loaders": ceil(loaders / figures.machine_cores),
        "brokers": brokers,
    }
    return Need(
        ingest_cores,
        machines["CPU of ingest"],
        loaders,
        machines["CPU of loaders"],
        brokers,
        broker_bytes,
        rate * figures.lake_bytes,
        commits,
        commits * (figures.load_puts + figures.load_gets),
        commits * _price(figures) * MONTH_S,
        _bottleneck(
            {
                "CPU of ingest": ingest_cores,
                "CPU of loaders": loaders,
                "bytes of brokers": broker_bytes / figures.broker_bytes,
            },
            {
                "commits to one table: load less often": commits * figures.commit_s,
                "merging by one worker": rate * figures.merge_cpu_us / 1e6,
            },
        ),
    )


def _units(work: float, each: float) -> int:
    # A sum of the binary fractions of 0.1 and 0.2 is no reason for one more machine.
    return max(1, ceil(round(work / each, 9)))


def _price(figures: Figures) -> float:
    """Of the requests of one load."""
    puts = figures.load_puts * figures.price_1000_puts
    return (puts + figures.load_gets * figures.price_1000_gets) / 1000


def _bottleneck(parts: dict[str, float], single: dict[str, float]) -> str:
    """The first of what there is only one of that has more than it can do; else the part of which most is used."""
    over = {name: used for name, used in single.items() if used >= 1}
    return max(over or parts, key=lambda name: (over or parts)[name])


def figures_of(words: list[str] | None = None) -> Figures:
    """The figures that the command line gives."""
    parser = argparse.ArgumentParser(description="What 100 k, 1 M and 10 M events per second need.")
    for each in fields(Figures):
        kind = int if each.type is int else float
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=kind, required=True)
    return Figures(**vars(parser.parse_args(words)))


def line(rate: float, found: Need) -> str:
    """A row of the table."""
    cells = (
        f"{rate:,}",
        f"{found.ingest_cores} ({found.ingest_machines})",
        f"{found.partitions} ({found.loader_machines})",
        f"{found.brokers}",
        f"{found.broker_bytes / 1e6:,.0f}",
        f"{found.lake_bytes * DAY_S / 1e12:,.1f}",
        f"{found.commits:,.1f}",
        f"{found.requests:,.0f}",
        f"{found.cost:,.0f}",
        found.bottleneck,
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints a table in Markdown."""
    figures = figures_of()
    print(figures)
    print(HEAD)
    for rate in RATES:
        print(line(rate, need(rate, figures)))


if __name__ == "__main__":
    main()
