"""The record of refused requests: why, and where that can be told, whose they were.

Each worker has a file under `run/refused/`, a ring of entries of one size:

    byte 0      header: magic, slots, bytes of a slot
    byte 64     skipped   refused requests that were not written down, because there were too many
                unknown   those, written down or not, that name a project which there is not
    byte 4096   slots; entry n stands in slot n modulo their number:
                n u64   checksum u64   length u64   then so many bytes of JSON, a `RefusedRequest`

- Numbers are little-endian. Those of entries begin with the microseconds at which the file was made, so a file that is
  made anew goes on where no number of the old one can be. They rise over restarts of the worker.
- The checksum is XXH3-64 of number and JSON. An entry that is being written, or that a killed process left half
  written, does not match it, and is passed over.
- Each second a worker writes down `KEPT_MAX` requests of one project and code, and looks at `LOOKED_AT_MAX` in all; the
  rest are counted. So a flood of refused requests costs next to nothing, and one project hides nothing of others.
- No key reaches the file: of what was sent it holds ids of projects that there are, and what `kixo.excerpt` lets pass.

What was stored is no refused request: events that were rejected are in the log and in the table `rejected`.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from msgspec import DecodeError, json
from msgspec import Struct as Record
from msgspec.structs import replace
from xxhash import xxh3_64_intdigest

from kixo.errors import RequestError
from kixo.excerpt import excerpt, kept_value
from kixo.mapped_file import open_mapped, open_to_read
from kixo.snapshot import Snapshot, key_hash

SLOTS, SLOT_BYTES = 1024, 1024
HEADER = Struct("<16sQQ").pack(b"kixo refused 1\n", SLOTS, SLOT_BYTES)
COUNTS = Struct("<QQ")
ENTRY = Struct("<QQQ")
NUMBER = Struct("<Q")
COUNTS_AT, SLOTS_AT = 64, 4096
SIZE = SLOTS_AT + SLOTS * SLOT_BYTES
CONTENT_BYTES_MAX = SLOT_BYTES - ENTRY.size
SKIPPED, UNKNOWN = 0, 1
KEPT_MAX, LOOKED_AT_MAX = 5, 100
MESSAGE_LENGTH_MAX = 300
# In what is broken a project is looked for so far from either end, and so many times.
SEARCHED_BYTES, SEARCHED_MAX = 64 * 1024, 100
_PROJECT_MEMBER = re.compile(
    rb"""project_id['"\\]{0,8}\s{0,16}[:=]\s{0,16}['"\\]{0,8}([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})"""
)

_encode = json.Encoder().encode


class RefusedRequest(Record, frozen=True, omit_defaults=True):
    """One refused request: when (microseconds since 1970), the answer, and a few bytes around what broke it.

    `project_id` is None where the project cannot be told. `excerpt` has stars for what is not kept; the byte that
    cannot be read stands at `excerpt_at`.
    """

    at_us: int
    status: int
    code: str
    message: str
    project_id: str | None = None
    field: str | None = None
    position: int | None = None
    limit: int | None = None
    actual: int | None = None
    excerpt: str | None = None
    excerpt_at: int | None = None


class Refusals(NamedTuple):
    """What readers get: entries in order of time, the next look's `since`, and counts since the files were made."""

    entries: list[RefusedRequest]
    next: dict[str, int]
    skipped: int
    unknown: int


class Ring:
    """The writing end of one file; raises `OSError` where it cannot be had."""

    def __init__(self, path: Path, now_us: int) -> None:
        self._map = open_mapped(path, HEADER, SIZE)
        self._counts = memoryview(self._map)[COUNTS_AT : COUNTS_AT + COUNTS.size].cast("Q")
        newest = max((number for number, _ in _entries(self._map[SLOTS_AT:])), default=None)
        self._next = now_us if newest is None else newest + 1

    def close(self) -> None:
        """Lets go of the memory; the file keeps the entries."""
        self._counts.release()
        self._map.close()

    def append(self, content: bytes) -> None:
        """Writes an entry over the oldest one."""
        place = SLOTS_AT + self._next % SLOTS * SLOT_BYTES
        entry = ENTRY.pack(self._next, _checksum(self._next, content), len(content)) + content
        self._map[place : place + len(entry)] = entry
        self._next += 1

    def count(self, which: int) -> None:
        """Adds to a count."""
        self._counts[which] += 1


class RefusedRecord:
    """What a worker writes down of the requests that it refuses. `snapshot` gives the current registry.

    Without a ring it keeps nothing: a record that cannot be had must not keep a worker from taking events.
    """

    def __init__(self, ring: Ring | None, snapshot: Callable[[], Snapshot]) -> None:
        self._ring = ring
        self._snapshot = snapshot
        self._second = 0
        self._looked_at = 0
        self._kept: dict[tuple[str | None, str], int] = {}

    def close(self) -> None:
        """Lets go of the file."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def note(self, at_us: int, error: RequestError, project_id: str | None = None, body: bytes | None = None) -> None:
        """Writes down a refused request, unless there are too many.

        `project_id` is what the request calls its project, where it could be read; else that is looked for in `body`.
        """
        if self._ring is None:
            return
        if at_us // 1_000_000 != self._second:
            self._second, self._looked_at = at_us // 1_000_000, 0
            self._kept.clear()
        self._looked_at += 1
        if self._looked_at > LOOKED_AT_MAX:
            self._ring.count(SKIPPED)
            return
        self._note(self._ring, at_us, error, self._known(self._ring, project_id, body), body)

    def _note(self, ring: Ring, at_us: int, error: RequestError, project_id: str | None, body: bytes | None) -> None:
        kept = self._kept.get((project_id, error.code), 0)
        if kept >= KEPT_MAX:
            ring.count(SKIPPED)
            return
        self._kept[project_id, error.code] = kept + 1
        entry = self._entry(at_us, error, project_id, body)
        content = _encode(entry)
        if len(content) > CONTENT_BYTES_MAX:
            content = _encode(replace(entry, excerpt=None, excerpt_at=None))
        ring.append(content[:CONTENT_BYTES_MAX])

    def _known(self, ring: Ring, project_id: str | None, body: bytes | None) -> str | None:
        """The project, if there is one of that id. Ids that nobody has are not kept: they may be anything."""
        projects = self._snapshot().projects
        named = [project_id] if project_id is not None else _named_projects(body or b"")
        known = next((name for name in named if name in projects), None)
        if named and known is None:
            ring.count(UNKNOWN)
        return known

    def _entry(self, at_us: int, error: RequestError, project_id: str | None, body: bytes | None) -> RefusedRequest:
        message, members = error.message, error.members
        if error.quoted is not None:
            message = message.replace(error.quoted, kept_value(error.quoted))
        position = _number(members.get("position"))
        found = excerpt(body, position, self._is_key) if body is not None and position is not None else None
        field = members.get("field")
        return RefusedRequest(
            at_us=at_us,
            status=error.status,
            code=error.code,
            message=message[:MESSAGE_LENGTH_MAX],
            project_id=project_id,
            field=field if isinstance(field, str) else None,
            position=position,
            limit=_number(members.get("limit")),
            actual=_number(members.get("actual")),
            excerpt=found.text if found is not None else None,
            excerpt_at=found.at if found is not None else None,
        )

    def _is_key(self, token: str) -> bool:
        return key_hash(token) in self._snapshot().keys


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _named_projects(body: bytes) -> list[str]:
    """What a body that cannot be read seems to call its project, from its beginning on and near its end."""
    parts = [body] if len(body) <= 2 * SEARCHED_BYTES else [body[:SEARCHED_BYTES], body[-SEARCHED_BYTES:]]
    found = (match for part in parts for match in _PROJECT_MEMBER.finditer(part))
    return [match[1].decode() for match, _ in zip(found, range(SEARCHED_MAX), strict=False)]


def read_refused(folder: Path, since: Mapping[str, int] | None = None) -> Refusals:
    """What the workers have refused since a look whose `Refusals.next` is given; all that is kept without one.

    Raises `OSError`.
    """
    entries: list[RefusedRequest] = []
    following = dict(since or {})
    skipped = unknown = 0
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found, (more_skipped, more_unknown) = _read_file(path, following.get(path.name, 0))
        skipped, unknown = skipped + more_skipped, unknown + more_unknown
        if found:
            following[path.name] = max(found) + 1
            entries += found.values()
    return Refusals(sorted(entries, key=lambda entry: entry.at_us), following, skipped, unknown)


def _read_file(path: Path, first: int) -> tuple[dict[int, RefusedRequest], tuple[int, ...]]:
    """The entries from a number on, by their numbers, and the counts."""
    descriptor = open_to_read(path, HEADER, SIZE)
    if descriptor is None:
        return {}, (0, 0)
    try:
        counts = COUNTS.unpack(os.pread(descriptor, COUNTS.size, COUNTS_AT))
        slots = os.pread(descriptor, SLOTS * SLOT_BYTES, SLOTS_AT)
    finally:
        os.close(descriptor)
    return dict(sorted((number, entry) for number, entry in _entries(slots, first))), counts


def _entries(slots: bytes, first: int = 1) -> Iterator[tuple[int, RefusedRequest]]:
    """The whole entries from a number on, in the order of their slots."""
    for start in range(0, len(slots), SLOT_BYTES):
        number, checksum, length = ENTRY.unpack_from(slots, start)
        content = slots[start + ENTRY.size : start + ENTRY.size + length] if number >= first else b""
        if not content or length > CONTENT_BYTES_MAX or _checksum(number, content) != checksum:
            continue
        try:
            yield number, json.decode(content, type=RefusedRequest)
        except DecodeError:
            continue


def _checksum(number: int, content: bytes) -> int:
    return xxh3_64_intdigest(NUMBER.pack(number) + content)
