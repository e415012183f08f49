"""The oracle: what the clients were told against what the tables hold. It knows nothing of how the server works.

Promised, and looked at here, event by event:

- *lost*: a client was told that the event was taken, and the table has fewer rows of it than it has to have
- *doubled*: the table has more rows of it than that, whatever anybody was told
- *foreign*: a row of `events` or `rejected` that no client sent
- *altered*: a row that does not hold what was sent, or whose time is not what the clock rules make of it
- *unrecorded*: a client was told that an event was rejected, and `rejected` does not hold it with that reason
- *wrongly rejected* and *let in*: a good event that was refused, a bad one that was taken

What was stored although nobody was told so is allowed, and counted: the answer was lost.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torture import lake
from torture.account import Account
from torture.event import BAD, TWINS, Source

EVENT_COLUMNS = (
    "event_type",
    "event_name",
    "device_id",
    "session_id",
    "client_timestamp",
    "event_id",
    "properties",
    "timestamp",
    "sent_at",
    "received_at",
    "clock_rule",
)
REJECTED_COLUMNS = ("code", "event")
TOLERANCE_US = 60_000_000


@dataclass(frozen=True)
class Findings:
    """Events by what is wrong with them, as tokens or as sentences; and how many were stored without being told."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    unrecorded: list[str] = field(default_factory=list)
    unacknowledged: int = 0


def reconcile(
    folder: lake.Folder, account: Account, source: Source, projects: Collection[str] | None = None
) -> Findings:
    """Compares the tables in `folder`, a lake, with the account. Nothing may be in the log any more.

    With `projects`, only rows of these are looked at: others send too, and are compared otherwise.
    """
    stored: Counter[str] = Counter()
    foreign: list[str] = []
    altered: list[str] = []
    for row in lake.rows(folder / "events", EVENT_COLUMNS, projects):
        token = row["event_name"]
        if token in account.sent and not token.endswith(BAD):
            stored[token] += 1
            altered += _differences(token, row, source)
        else:
            foreign.append(token)
    rejected = Counter(
        (row["event"], row["code"]) for row in lake.rows(folder / "rejected", REJECTED_COLUMNS, projects)
    )
    unrecorded, unsent = _compare_rejected(rejected, account, source)
    return Findings(
        lost=[token for token in account.accepted if stored[token] < _copies(token)],
        doubled=[token for token, copies in stored.items() if copies > _copies(token)],
        foreign=foreign + unsent,
        altered=altered,
        unrecorded=unrecorded,
        unacknowledged=sum(copies for token, copies in stored.items() if token not in account.accepted),
    )


def _copies(token: str) -> int:
    return 2 if token.endswith(TWINS) else 1


def _differences(token: str, row: dict[str, Any], source: Source) -> Iterator[str]:
    made = source.make(token).row
    assert made is not None
    found = tuple(row[name] for name in EVENT_COLUMNS[: len(made)])
    if found != tuple(made):
        yield f"{token}: {found} in place of {tuple(made)}"
    wanted = _corrected(row)
    if (row["timestamp"], row["clock_rule"]) != wanted:
        yield f"{token}: at {row['timestamp']} by {row['clock_rule']} in place of {wanted}"


def _corrected(row: dict[str, Any]) -> tuple[int, str]:
    """When the event happened by the contract's rules, and the rule."""
    client_us, sent_us, received_us = row["client_timestamp"], row["sent_at"], row["received_at"]
    offset_us = 0 if sent_us is None else received_us - sent_us
    if sent_us is None:
        rule = "none"
    elif offset_us < 0:
        rule = "ahead"
    elif offset_us <= TOLERANCE_US:
        rule, offset_us = "within_tolerance", 0
    else:
        rule = "behind"
    corrected = client_us + offset_us
    return (received_us, "clamped") if corrected > received_us else (corrected, rule)


def _compare_rejected(
    rejected: Counter[tuple[str, str]], account: Account, source: Source
) -> tuple[list[str], list[str]]:
    """Rejections that were told and are not in the table, and rows that nobody sent so often."""
    bad = {token: source.make(token) for token in _bad(account.sent)}
    texts = {(made.text, made.code): token for token, made in bad.items()}
    found: Counter[str] = Counter()
    foreign = []
    for (text, code), count in rejected.items():
        token = texts.get((text, code))
        if token is None:
            foreign.append(f"{code}: {text[:200]}")
        else:
            found[token] += count
    foreign += [f"{token}: rejected more often than sent" for token in found if found[token] > account.sent[token]]
    lost = [token for token in account.rejected if found[token] < account.rejected[token] and token in bad]
    return lost, foreign


def _bad(tokens: Iterable[str]) -> Iterator[str]:
    return (token for token in tokens if token.endswith(BAD))
