"""The events that are sent: each a pure function of the seed and its token.

So an event is spelled the same way in every copy, whatever batch it is in (without an `event_id`, another spelling of
the same JSON is another event), and the oracle can say what its row must be without remembering it.

A token is `<client>-<number>-<kind>`. It is the event's name where the event may have one. Kinds:

    i   has an `event_id`
    f   has none: known by its fingerprint
    t   twins: two equal events without an id, which stay in one batch and are two events
    b   bad: has to be rejected
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import NamedTuple

from msgspec import Struct, json

from kixo.bench.vocabulary import pick_kind
from kixo.event import DEVICE_ID_LENGTH_MAX
from kixo.timestamp import DAY_US

WITH_ID, FINGERPRINT, TWINS, BAD = "i", "f", "t", "b"
AGE_US_MAX = 3_600_000_000
OLD_SHARE, OLD_DAYS_MAX = 0.04, 3


class Row(NamedTuple):
    """What the table has to hold of an event; the time in microseconds since 1970 by the device's clock."""

    event_type: str
    event_name: str
    device_id: str
    session_id: str
    client_us: int
    event_id: str | None
    properties: str


class Made(NamedTuple):
    """An event: its JSON `text`; the `row` it becomes, None for a bad one, which has the `code` of its fault."""

    token: str
    text: str
    row: Row | None
    code: str


class Source(Struct, frozen=True):
    """Where events come from. Device clocks show `base_us` (microseconds since 1970) plus their client's skew."""

    seed: int
    base_us: int
    skews_us: tuple[int, ...] = (0,)

    def skew_us(self, client: int) -> int:
        """By how much the clocks of a client's devices are wrong."""
        return self.skews_us[client % len(self.skews_us)]

    def make(self, token: str) -> Made:
        """The event of a token."""
        client, _, kind = token.split("-")
        dice = Random(f"{self.seed}/{token}")
        instant = self.base_us + self.skew_us(int(client)) - dice.randrange(AGE_US_MAX)
        if dice.random() < OLD_SHARE:
            instant -= dice.randint(1, OLD_DAYS_MAX) * DAY_US
        return _bad(token, dice, instant) if kind == BAD else _good(token, kind, dice, instant)


class KnownSource(Source, frozen=True):
    """A source that remembers what it made, for an oracle that looks at the same events again and again."""

    made: dict[str, Made] = {}

    def make(self, token: str) -> Made:
        """The event of a token."""
        if token not in self.made:
            self.made[token] = super().make(token)
        return self.made[token]


def _good(token: str, kind: str, dice: Random, instant: int) -> Made:
    event_id = f"id-{token}" if kind == WITH_ID else None
    written, kept = _properties(dice)
    row = Row(
        pick_kind(dice).event_type,
        token,
        f"d_{dice.randrange(1000)}",
        f"s_{dice.randrange(1000)}",
        instant,
        event_id,
        kept,
    )
    members = _members(row, _stamp(dice, instant)) + ([] if written is None else [f'"properties":{written}'])
    dice.shuffle(members)
    return Made(token, "{" + dice.choice([",", ", "]).join(members) + "}", row, "")


def _members(row: Row, stamp: str) -> list[str]:
    values = {
        "event_type": row.event_type,
        "event_name": row.event_name,
        "device_id": row.device_id,
        "session_id": row.session_id,
        "timestamp": stamp,
    }
    if row.event_id is not None:
        values["event_id"] = row.event_id
    return [f'"{name}":{json.encode(value).decode()}' for name, value in values.items()]


def _stamp(dice: Random, instant: int) -> str:
    """The instant in one of the forms that client libraries write."""
    moment = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=instant)
    forms: tuple[Callable[[], str], ...] = (
        lambda: moment.isoformat().replace("+00:00", "Z"),
        lambda: moment.isoformat().replace("+00:00", "z").replace("T", "t"),
        lambda: moment.replace(tzinfo=None).isoformat(" "),
        lambda: moment.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat().replace(".", ","),
        lambda: moment.strftime("%Y%m%dT%H%M%S.%f+0000"),
    )
    return dice.choice(forms)()


def _properties(dice: Random) -> tuple[str | None, str]:
    """Properties as they are written, None for none, and as the table keeps them."""
    usual = json.encode(pick_kind(dice).properties(dice)).decode()
    odd: tuple[tuple[str | None, str], ...] = (
        (None, "{}"),
        ("null", "{}"),
        ("{}", "{}"),
        ('{ "spaced" : [ 1 , 2 ] }', '{ "spaced" : [ 1 , 2 ] }'),
        ('{"escaped":"\\u00fc\\/"}', '{"escaped":"\\u00fc\\/"}'),
        ('{"nul":"\\u0000"}', '{"nul":"\\u0000"}'),
        ('{"cut":"\\ud83d"}', '{"cut":"\\ufffd"}'),
        ('{"far":1e999,"long":' + "7" * 40 + "}", '{"far":1e999,"long":' + "7" * 40 + "}"),
    )
    return dice.choice(odd) if dice.random() < 0.15 else (usual, usual)


def _bad(token: str, dice: Random, instant: int) -> Made:
    row = Row("custom", token, "d_1", "s_1", instant, None, "{}")
    members = _members(row, _stamp(dice, instant))
    wrong = dice.choice(
        [
            ("invalid_timestamp", [*members[:4], '"timestamp":"soon"']),
            ("missing", [*members[:2], *members[3:]]),
            ("wrong_type", [*members, '"properties":[]']),
            ("empty", [*members, '"event_id":""']),
            ("too_long", [*members[:2], f'"device_id":"{"d" * (DEVICE_ID_LENGTH_MAX + 1)}"', *members[3:]]),
            ("too_deep", [*members, '"properties":' + '{"a":' * 101 + "1" + "}" * 101]),
        ]
    )
    return Made(token, "{" + ",".join(wrong[1]) + "}", None, wrong[0])
