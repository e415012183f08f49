"""How pages write numbers, sizes and times, so that all of them do it alike."""

from kixo.timestamp import format_us

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
SPANS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def number(value: float) -> str:
    """A number with commas between thousands; up to three digits after the point where it is not whole."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"


def size(value: float) -> str:
    """Bytes in the unit that leaves one to four digits."""
    unit = 0
    while abs(value) >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{int(value)} {UNITS[0]}" if unit == 0 else f"{value:.1f} {UNITS[unit]}"


def duration(seconds: float) -> str:
    """A span of time: milliseconds below one second, seconds below two minutes, then minutes, hours and days."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    length, name = next((length, name) for length, name in SPANS if seconds >= 2 * length)
    return f"{seconds / length:.0f} {name}s"


def measure(value: float | None, unit: str = "") -> str:
    """A figure of that unit; a dash where there is none."""
    if value is None:
        return "–"  # noqa: RUF001
    if unit == "bytes":
        return size(value)
    return duration(value) if unit == "seconds" else f"{number(value)} {unit}".strip()


def instant(us: int) -> str:
    """An instant, in UTC, to the second."""
    text = format_us(us)
    return f"{text[:10]} {text[11:19]}"


def ago(us: int, now_us: int) -> str:
    """How long ago an instant was, in its greatest unit."""
    seconds = max(now_us - us, 0) / 1_000_000
    for length, name in SPANS:
        count = int(seconds // length)
        if count:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"
