"""What a request for a query asks: the members of its body, or the parameters of its address."""

import re
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request

from kixo.console.api.answering import STREAMED
from kixo.console.api.visibility import Position, parse_after
from kixo.errors import InvalidJSON, InvalidRequest, UnsupportedMediaType
from kixo.query.caps import QueryCaps
from kixo.query.pool import PoolBounds
from kixo.registry.saved import SQL_LENGTH_MAX

ANSWER = "json"
FORMATS = (ANSWER, *STREAMED)
ACCEPTED = {
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/json": ANSWER,
}
ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class Asked(Struct, frozen=True, kw_only=True):
    """A request for a query. `seconds`, `memory` in bytes, and `rows` can only lower what the settings allow."""

    sql: str
    format: str | None = None
    seconds: float | None = None
    memory: int | None = None
    rows: int | None = None
    after: str | list[str] | None = None
    id: str | None = None

    def caps(self, bounds: PoolBounds) -> QueryCaps:
        """What the query may use."""
        return bounds.lowered(self.memory, self.seconds)

    def positions(self) -> list[Position]:
        """What has to be visible before; raises `InvalidRequest`."""
        after = [] if self.after is None else self.after
        return parse_after([after] if isinstance(after, str) else after)

    def format_for(self, accept: str) -> str:
        """The form of the answer: as it is named, else the first that `Accept` names and there is, else JSON."""
        if self.format is not None:
            return self.format
        wanted = (part.partition(";")[0].strip().lower() for part in accept.split(","))
        return next((ACCEPTED[kind] for kind in wanted if kind in ACCEPTED), ANSWER)


def asked_by_body(request: Request, body: bytes) -> Asked:
    """What a body asks; raises `RequestError`."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType('The body is no application/json. Send JSON such as {"sql": "FROM events"}.')
    try:
        members = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        found = re.search(r"byte (\d+)", str(error))
        position = int(found[1]) if found else len(body)
        raise InvalidJSON(f"The body is not JSON: {error}. Mend it.", position=position) from None
    if not isinstance(members, dict):
        raise InvalidJSON("The body is JSON, but not an object. Send one with the member `sql`.", position=0)
    return _checked(members, strict=True)


def asked_by_address(request: Request) -> Asked:
    """What the parameters of an address ask; raises `InvalidRequest`."""
    found: dict[str, Any] = dict(request.query_params)
    if "after" in found:
        found["after"] = request.query_params.getlist("after")
    return _checked(found, strict=False)


def _checked(members: dict[str, Any], *, strict: bool) -> Asked:
    try:
        asked = msgspec.convert(members, Asked, strict=strict)
    except (msgspec.ValidationError, OverflowError) as error:
        raise _wrong_member(str(error)) from None
    if not asked.sql.strip() or len(asked.sql) > SQL_LENGTH_MAX:
        raise InvalidRequest(
            f"`sql` has {len(asked.sql)} characters. Send one SELECT of up to {SQL_LENGTH_MAX}.", field="sql"
        )
    if asked.format is not None and asked.format not in FORMATS:
        raise InvalidRequest(f"`format` is none that there is. Send one of {', '.join(FORMATS)}.", field="format")
    for name in ("seconds", "memory", "rows"):
        value = getattr(asked, name)
        # Written so that a NaN is refused too.
        if value is not None and not 0 < value < 2**63:
            raise InvalidRequest(f"`{name}` is {value}. Send a number greater than 0.", field=name)
    if asked.id is not None and not ID.fullmatch(asked.id):
        raise InvalidRequest("`id` is not 1 to 64 letters, digits, - and _. Send such a one, or none.", field="id")
    return asked


def _wrong_member(text: str) -> InvalidRequest:
    """The library's sentence, such as "Expected `str`, got `int` - at `$.sql`", with the member by name."""
    sentence, _, where = text.partition(" - at `$.")
    missing = re.search(r"missing required field `(\w+)`", text)
    field = missing[1] if missing else re.split(r"[`\[.]", where)[0] or "sql"
    return InvalidRequest(
        f"`{field}` is wrong or missing: {sentence}. The OpenAPI document says what it is.", field=field
    )
