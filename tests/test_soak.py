"""The soak: its rule of flatness, what it samples, and a run of some seconds from the empty folder to the verdict."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torture.soak.__main__ import main
from torture.soak.flatness import Judgement, Sample, judge
from torture.soak.mixture import LIMIT_PER_PROJECT, MIXTURE, mean_batch
from torture.soak.report import read_samples
from torture.soak.run import starved
from torture.soak.sampling import percentile
from torture.soak.series import SERIES, Series

HOUR = [5.0 * number for number in range(720)]
FILES = Series("files", "files", "files that are there", tolerance=0.1, grain=2)


def samples(*values: float) -> list[Sample]:
    return [{"elapsed_s": time_s, "files": value} for time_s, value in zip(HOUR, values, strict=True)]


def test_what_stays_where_it_is_is_flat() -> None:
    judgement = judge(FILES, samples(*[50.0] * 720))
    assert judgement.is_flat
    assert judgement.mean == 50
    assert judgement.growth == pytest.approx(0, abs=1e-6)


def test_what_grows_by_more_than_is_tolerated_is_not_flat() -> None:
    judgement = judge(FILES, samples(*[100 + 40 * number / 720 for number in range(720)]))
    assert judgement.growth == pytest.approx(20, rel=0.01)
    assert judgement.allowed == pytest.approx(13, rel=0.01)
    assert not judgement.is_flat


def test_a_run_too_short_to_come_to_rest_is_not_judged() -> None:
    minute = [{"elapsed_s": 5.0 * number, "files": 100.0 * number} for number in range(12)]
    assert judge(FILES, minute).allowed is None


def test_what_grew_in_the_first_half_only_is_flat() -> None:
    assert judge(FILES, samples(*[min(number, 360) for number in range(720)])).is_flat


def test_peaks_that_last_for_a_moment_are_no_growth() -> None:
    assert judge(
        FILES, samples(*[50 + (400 if number > 400 and number % 12 == 0 else 0) for number in range(720)])
    ).is_flat


def test_what_falls_is_no_growth() -> None:
    assert judge(FILES, samples(*[1000.0 - number for number in range(720)])).is_flat


def test_a_single_file_more_is_no_growth_where_the_grain_allows_it() -> None:
    assert judge(FILES, samples(*[3 + (number > 600) for number in range(720)])).is_flat


def test_a_series_without_a_tolerance_is_not_judged() -> None:
    rows = Series("files", "files", "rows, which have to grow")
    assert judge(rows, samples(*map(float, range(720)))).is_flat


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(any), st.floats(0.01, 1))
def test_a_percentile_lies_in_the_bucket_that_holds_it(counts: list[int], share: float) -> None:
    edges = (0.0, 0.1, 0.2, 0.5)
    found = percentile(counts, edges[1:], share)
    wanted = share * sum(counts)
    bucket = next((n for n in range(4) if wanted <= sum(counts[: n + 1])), 3)
    assert edges[min(bucket, 3)] <= found <= edges[min(bucket + 1, 3)] + 1e-9


def test_the_parts_of_the_mixture_make_it_up_and_keep_below_the_limit_of_their_projects() -> None:
    assert sum(part.share for part in MIXTURE) == pytest.approx(1)
    for rate in (1000.0, 100_000.0, 1_000_000.0):
        assert all(part.requests_per_s(rate) / part.projects_for(rate) < LIMIT_PER_PROJECT for part in MIXTURE)


def test_a_request_of_the_mean_size_stands_for_those_of_the_mixture() -> None:
    requests = sum(part.requests_per_s(100_000.0) for part in MIXTURE)
    assert mean_batch() == pytest.approx(100_000.0 / requests, abs=0.5)


def test_every_series_has_a_name_of_its_own() -> None:
    names = [series.name for series in SERIES]
    assert len(names) == len(set(names))


def test_a_soak_of_some_seconds_ends_with_everything_stored_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Whether seconds are flat says nothing, so the status may be 1; what was stored has to be right all the same.
    arguments = ["--minutes", "0.07", "--rate", "2000", "--interval", "0.5", "--folder", str(tmp_path)]
    main([*arguments, "--output", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "yes  the table holds exactly what was accepted" in printed
    assert "yes  of the watched events none is lost" in printed
    assert "NO " not in printed
    found = read_samples(tmp_path / "out" / "samples.csv")
    assert found[-1]["stored_events"] > 0
    assert found[-1]["worker_anonymous_bytes"] > 0
    assert found[-1]["events_commits"] > 0
    assert (tmp_path / "out" / "soak.png").stat().st_size > 1000


def test_samples_can_be_judged_again_without_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [",".join(["elapsed_s", *(series.name for series in SERIES)])]
    lines += [",".join([str(number), *["7"] * len(SERIES)]) for number in range(100)]
    (tmp_path / "samples.csv").write_text("\n".join(lines))
    assert main(["--judge", "--output", str(tmp_path)]) == 0
    assert "GROWS" not in capsys.readouterr().out


def test_a_machine_that_was_busy_with_other_work_is_told_of() -> None:
    waited = Series("loader_starved", "", "share of time")
    assert starved([Judgement(waited, mean=0.3, growth=0, allowed=None)]) != []
    assert starved([Judgement(waited, mean=0.01, growth=0, allowed=None)]) == []
