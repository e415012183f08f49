"""ISO 8601 as clients send it: every form of the contract, and what is none."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kixo.timestamp import EARLIEST_US, LATEST_US, clamp_us, format_us, parse_us

NOON = "2026-04-08T12:00:00.000000Z"

FORMS = [
    ("2026-04-08T12:00:00Z", NOON),
    ("2026-04-08T12:00:00", NOON),
    ("2026-04-08t12:00:00z", NOON),
    ("2026-04-08 12:00:00", NOON),
    ("2026-04-08 12:00:00Z", NOON),
    ("2026-04-08T12:00Z", NOON),
    ("2026-04-08T12:00", NOON),
    ("2026-04-08T12Z", NOON),
    ("2026-04-08T14:00:00+02:00", NOON),
    ("2026-04-08T14:00:00+0200", NOON),
    ("2026-04-08T14:00:00+02", NOON),
    ("2026-04-08T06:30:00-05:30", NOON),
    ("2026-04-08T12:00:00-00:00", NOON),
    ("2026-04-09T11:59:00+23:59", NOON),
    ("20260408T120000Z", NOON),
    ("20260408T1200", NOON),
    ("20260408T140000+0200", NOON),
    ("2026-W15-3T12:00:00Z", NOON),
    ("2026W153T120000Z", NOON),
    ("2026-04-08", "2026-04-08T00:00:00.000000Z"),
    ("20260408", "2026-04-08T00:00:00.000000Z"),
    ("2026-W15-3", "2026-04-08T00:00:00.000000Z"),
    ("2026-04-08T12:00:00.5Z", "2026-04-08T12:00:00.500000Z"),
    ("2026-04-08T12:00:00,5Z", "2026-04-08T12:00:00.500000Z"),
    ("2026-04-08T12:00:00.123456Z", "2026-04-08T12:00:00.123456Z"),
    ("2026-04-08T12:00:00.1234567Z", "2026-04-08T12:00:00.123456Z"),
    ("2026-04-08T12:00:00.123456999Z", "2026-04-08T12:00:00.123456Z"),
    ("2026-12-31T23:59:59.999999999Z", "2026-12-31T23:59:59.999999Z"),
    ("2026-04-08T12:00:00.1234569999999999Z", "2026-04-08T12:00:00.123456Z"),
    ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00.000000Z"),
    ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
    ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00.000000Z"),
    ("9999-12-31T23:59:59.999999-23:59", "9999-12-31T23:59:59.999999Z"),
]

NONE_OF_THEM = [
    "",
    " ",
    "soon",
    "2026",
    "2026-04",
    "2026-098",
    "2026-04-08T",
    "2026-13-01T00:00:00Z",
    "2026-02-29T00:00:00Z",
    "2026-04-08T25:00:00Z",
    "2026-04-08T12:60:00Z",
    "2026-04-08T12:00:60Z",
    "2026-04-08T12:00:00.Z",
    "2026-04-08T12:00:00 Z",
    "2026-04-08T12:00:00+24:00",
    "2026-04-08T12:00:00+02:60",
    "2026-04-08T12:00:00+2",
    "2026-04-08T12:00:00+02:00:30",
    "2026-04-08T12:00:00ZZ",
    "2026-04-08T12:00:00 UTC",
    "2026-04-08_12:00:00",
    "2026-04-08T12.5Z",
    "2026-W15-8",
    "2026-W00-1",
    "0000-01-01T00:00:00Z",
    "12026-04-08T12:00:00Z",
    "-2026-04-08T12:00:00Z",
    "+2026-04-08T12:00:00Z",
    " 2026-04-08T12:00:00Z",
    "2026-04-08T12:00:00Z\n",
    "2026-04-08T12:00:00\N{MINUS SIGN}02:00",
    "\N{ARABIC-INDIC DIGIT TWO}026-04-08T12:00:00Z",
    "1775649600",
    "Wed, 08 Apr 2026 12:00:00 GMT",
]


@pytest.mark.parametrize(("text", "instant"), FORMS)
def test_every_form_of_iso_8601_is_read(text: str, instant: str) -> None:
    assert format_us(parse_us(text)) == instant


@pytest.mark.parametrize("text", NONE_OF_THEM)
def test_what_is_not_iso_8601_is_not_read(text: str) -> None:
    with pytest.raises(ValueError):
        parse_us(text)


def test_ten_million_digits_of_a_fraction_are_cut() -> None:
    assert format_us(parse_us(f"2026-04-08T12:00:00.{'9' * 10_000_000}Z")) == "2026-04-08T12:00:00.999999Z"


OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=OFFSETS))  # noqa: DTZ001
def test_what_python_writes_is_read_as_the_same_instant(moment: datetime) -> None:
    assert format_us(parse_us(moment.isoformat())) == moment.astimezone(UTC).isoformat(timespec="microseconds").replace(
        "+00:00", "Z"
    )


@given(st.integers(EARLIEST_US, LATEST_US))
def test_what_is_written_is_read_as_the_same(microseconds: int) -> None:
    assert parse_us(format_us(microseconds)) == microseconds


@given(st.integers())
def test_no_instant_is_outside_the_years_1_to_9999(microseconds: int) -> None:
    assert EARLIEST_US <= clamp_us(microseconds) <= LATEST_US
    assert format_us(microseconds)


def test_times_are_shown_in_utc_to_the_microsecond() -> None:
    assert format_us(0) == "1970-01-01T00:00:00.000000Z"
    assert format_us(1_775_649_601_000_001) == "2026-04-08T12:00:01.000001Z"
