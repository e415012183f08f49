"""How numbers, sizes and times are written, and which processes are seen."""

import os
import subprocess
import sys

import pytest

from kixo.console.figures import ago, duration, instant, measure, number, size
from kixo.console.processes import running_roles

NOW_US = 1_775_650_000_000_000
SECOND_US = 1_000_000


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (1234567, "1,234,567"), (0.5, "0.5"), (12.345, "12.3"), (1234.5, "1,234.5"), (1e-7, "1e-07")],
)
def test_a_number_is_short_and_has_commas(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 * 1024**3, "5.0 GiB")],
)
def test_a_size_has_the_unit_that_people_read(value: float, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0123, "12.3 ms"), (1.5, "1.5 s"), (119, "119 s"), (120, "2 minutes"), (7200, "2 hours")],
)
def test_a_span_of_time_has_the_unit_that_people_read(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_instant_is_in_utc_and_its_age_in_one_unit() -> None:
    assert instant(NOW_US) == "2026-04-08 12:06:40"
    ages = [ago(NOW_US - seconds * SECOND_US, NOW_US) for seconds in (0, 1, 59, 60, 7200, 200_000)]
    assert ages == ["just now", "1 second ago", "59 seconds ago", "1 minute ago", "2 hours ago", "2 days ago"]
    assert ago(NOW_US + SECOND_US, NOW_US) == "just now"


def test_a_figure_has_its_unit_and_a_dash_stands_for_none() -> None:
    assert [measure(2048, "bytes"), measure(0.25, "seconds"), measure(3, "events"), measure(3)] == [
        "2.0 KiB",
        "250 ms",
        "3 events",
        "3",
    ]
    assert len(measure(None)) == 1


def test_processes_are_counted_by_the_module_they_run() -> None:
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "kixo.server.loader"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        # What it runs as can be seen a moment after it was started.
        assert child.stdout is not None
        child.stdout.readline()
        found = running_roles(os.getpid())
        assert (found["loader"], found["worker"]) == (1, 0)
        child.communicate()
    assert running_roles(os.getpid())["loader"] == 0
    assert set(running_roles(2**30).values()) == {0}
