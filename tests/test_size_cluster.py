"""The arithmetic of `scripts.size_cluster`, on figures made up to be reckoned by heart."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.size_cluster import HEAD, MONTH_S, RATES, Figures, figures_of, line, need

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"

FIGURES = Figures(
    ingest_cpu_us=5,
    loader_cpu_us=2.5,
    merge_cpu_us=0.5,
    log_bytes=300,
    lake_bytes=50,
    copies=3,
    core_share=0.5,
    machine_cores=4,
    broker_bytes=100e6,
    load_s=2,
    commit_s=0.1,
    load_puts=10,
    load_gets=20,
    price_1000_puts=0.005,
    price_1000_gets=0.0005,
)


def test_a_rate_is_divided_by_what_each_part_can_do() -> None:
    found = need(1_000_000, FIGURES)

    assert (found.ingest_cores, found.ingest_machines) == (10, 3)
    assert (found.loaders, found.loader_machines, found.partitions) == (5, 2, 5)
    assert (found.broker_bytes, found.brokers) == (900e6, 9)
    assert found.lake_bytes == 50e6


def test_requests_cost_what_the_prices_say() -> None:
    found = need(1_000_000, FIGURES)

    assert (found.commits, found.requests) == (2.5, 75)
    assert found.cost == pytest.approx(2.5 * 0.00006 * MONTH_S)


def test_there_are_never_fewer_brokers_than_copies_nor_parts_than_one() -> None:
    found = need(1, FIGURES)

    assert (found.ingest_cores, found.loaders, found.brokers) == (1, 1, 3)


def test_what_fits_exactly_needs_no_other_unit() -> None:
    assert need(300_000, replace(FIGURES, ingest_cpu_us=1, core_share=0.1)).ingest_cores == 3


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (FIGURES, "CPU of ingest"),
        (replace(FIGURES, loader_cpu_us=20, load_s=20), "CPU of loaders"),
        (replace(FIGURES, broker_bytes=10e6), "bytes of brokers"),
        (replace(FIGURES, commit_s=0.4), "commits to one table: load less often"),
        (replace(FIGURES, merge_cpu_us=1), "merging by one worker"),
        (replace(FIGURES, merge_cpu_us=1, commit_s=0.5), "commits to one table: load less often"),
    ],
)
def test_the_first_bottleneck_is_named(changed: Figures, named: str) -> None:
    assert need(1_000_000, changed).bottleneck == named


def test_no_figure_has_a_default() -> None:
    with pytest.raises(SystemExit):
        figures_of(["--ingest-cpu-us", "5"])


def test_figures_come_from_the_command_line() -> None:
    assert figures_of(given(FIGURES)) == FIGURES


def given(figures: Figures) -> list[str]:
    return [word for name, value in vars(figures).items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_a_row_has_a_cell_for_each_column() -> None:
    assert [HEAD.splitlines()[n].count("|") for n in (0, 1)] == [line(1, need(1, FIGURES)).count("|")] * 2


def test_the_table_of_the_page_is_what_its_command_prints() -> None:
    text = PAGE.read_text("utf-8")
    command = re.search(r"python -m scripts\.size_cluster ((?:.*\\\n)*.*)\n", text)
    assert command is not None
    figures = figures_of(shlex.split(command[1].replace("\\\n", " ")))
    assert "\n".join([HEAD, *(line(rate, need(rate, figures)) for rate in RATES)]) in text
