"""Projects and keys in the registry: the rules of what goes into their tables, and every question asked of them.

A project's number is its slot in the limits file, so numbers run from 1 without gaps and a project is never removed.
The same goes for keys, whose use is counted by their number. One that was revoked stays also so that it can never come
back to life by `--key`.
"""

import re

from msgspec import Struct
from sqlalchemy import Connection, func, insert, or_, select, update

from kixo.errors import BadArgument
from kixo.event import ENVIRONMENTS, EVENT_TYPES, PLATFORMS, PROJECT_ID_LENGTH_MAX, REJECTION_CODES, BatchRequest, Event
from kixo.registry.schema import KEYS, NAME_LENGTH_MAX, PROJECTS, STATE
from kixo.snapshot import KEY_LENGTH_MAX, KEY_LENGTH_MIN, Sender, key_hash

# Neither a flag nor a way out of a folder, wherever somebody may put it.
PROJECT_ID = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{PROJECT_ID_LENGTH_MAX - 1}}}")
# A key is blanked wherever it stands in what is stored. So it can be no part of what JSON itself is made of, of
# numbers and times, or of the words that requests are made of.
KEY = re.compile(rf"[!#-+\--9;-Z^-z|~]{{{KEY_LENGTH_MIN},{KEY_LENGTH_MAX}}}")
NUMBER_OR_TIME = re.compile(r"[0-9eEtTwWzZ+.-]*")
WORDS = (
    *BatchRequest.__struct_fields__,
    *Event.__struct_fields__,
    *PLATFORMS,
    *ENVIRONMENTS,
    *EVENT_TYPES,
    *REJECTION_CODES,
    "rejected",
)
KEYS_PER_PROJECT_MAX = 10_000

KEY_RECORDS = select(
    KEYS.c.id, PROJECTS.c.id.label("project_id"), KEYS.c.hint, KEYS.c.created_at_us, KEYS.c.revoked_at_us
).join_from(KEYS, PROJECTS)


class Project(Struct, frozen=True):
    """A project; `number` is its slot, from 1, and `created_at_us` microseconds since 1970."""

    number: int
    id: str
    name: str
    created_at_us: int


class KeyRecord(Struct, frozen=True):
    """What is kept of a key: never the key itself. `hint` is its last four characters, times are in microseconds."""

    id: str
    project_id: str
    hint: str
    created_at_us: int
    revoked_at_us: int | None


def check_project(project_id: str, name: str) -> None:
    """Raises `BadArgument` where a project cannot have that id or that name."""
    if not PROJECT_ID.fullmatch(project_id):
        raise BadArgument(
            f"{project_id!r} cannot be a project id.",
            "Use 1 to 128 letters, digits, underscores, dots and hyphens, none of the last two at the start.",
        )
    if len(name) > NAME_LENGTH_MAX or not name.isprintable():
        raise BadArgument("That cannot be a project name.", f"Use up to {NAME_LENGTH_MAX} printable characters.")


def check_key(api_key: str, project_id: str) -> None:
    """Raises `BadArgument` where that cannot be a key of the project; the message does not repeat it."""
    if not KEY.fullmatch(api_key):
        raise BadArgument(
            f"That cannot be a key ({len(api_key)} characters).",
            f"Use {KEY_LENGTH_MIN} to {KEY_LENGTH_MAX} visible ASCII characters without spaces and "
            'none of " \\ { } [ ] , : or leave --key out.',
        )
    if NUMBER_OR_TIME.fullmatch(api_key) or any(api_key in word for word in (*WORDS, project_id)):
        raise BadArgument(
            "That cannot be a key: other things in a request are written like it, and would be blanked with it.",
            "Use one that cannot be taken for a number, a time or a word, or leave --key out.",
        )


def check_room(connection: Connection, project: Project) -> None:
    """Raises `BadArgument` where the project has all the keys it may have, revoked ones counted."""
    query = select(func.count()).select_from(KEYS).where(KEYS.c.project_number == project.number)
    if connection.execute(query).scalar_one() >= KEYS_PER_PROJECT_MAX:
        raise BadArgument(
            f"Project {project.id} has {KEYS_PER_PROJECT_MAX} keys, which is the most.", "Use another project."
        )


def refuse_known_key(connection: Connection, api_key: str) -> None:
    """Raises `BadArgument` where the key belongs to some project, or did before it was revoked."""
    known = connection.execute(KEY_RECORDS.where(KEYS.c.hash == key_hash(api_key).hex())).one_or_none()
    if known is not None:
        state = "a key" if known.revoked_at_us is None else "a revoked key"
        raise BadArgument(f"That is {state} of project {known.project_id} already ({known.id}).", "Use another key.")


def revision(connection: Connection) -> int:
    """The number of changes so far."""
    return int(connection.execute(select(STATE.c.revision)).scalar_one())


def count_change(connection: Connection) -> None:
    """Says that this transaction changes something."""
    connection.execute(update(STATE).values(revision=STATE.c.revision + 1))


def count_projects(connection: Connection) -> int:
    """How many projects there are, which is also the highest number."""
    return int(connection.execute(select(func.count()).select_from(PROJECTS)).scalar_one())


def all_projects(connection: Connection, limit: int | None = None) -> list[Project]:
    """Every project, or at most so many, oldest first."""
    rows = connection.execute(select(PROJECTS).order_by(PROJECTS.c.number).limit(limit))
    return [Project(row.number, row.id, row.name, row.created_at_us) for row in rows]


def find_project(connection: Connection, project_id: str) -> Project | None:
    """The project of that id."""
    row = connection.execute(select(PROJECTS).where(PROJECTS.c.id == project_id)).one_or_none()
    return None if row is None else Project(row.number, row.id, row.name, row.created_at_us)


def require_project(connection: Connection, project_id: str) -> Project:
    """The project of that id; raises `BadArgument`."""
    project = find_project(connection, project_id)
    if project is None:
        raise BadArgument(f"There is no project {project_id!r}.", "'kixo project list' shows those there are.")
    return project


def insert_project(connection: Connection, project: Project) -> None:
    """Adds a project."""
    row = {
        "number": project.number,
        "id": project.id,
        "name": project.name,
        "created_at_us": project.created_at_us,
    }
    connection.execute(insert(PROJECTS).values(row))


def all_keys(connection: Connection, project: Project | None) -> list[KeyRecord]:
    """Every key, or those of one project, oldest first."""
    query = KEY_RECORDS.order_by(PROJECTS.c.number, KEYS.c.created_at_us, KEYS.c.id)
    if project is not None:
        query = query.where(PROJECTS.c.number == project.number)
    return [KeyRecord(**row) for row in connection.execute(query).mappings()]


def find_key(connection: Connection, key: str) -> KeyRecord | None:
    """The key of that id, or that is that key in the clear. A key that looks like another's id is found by its id."""
    query = KEY_RECORDS.where(or_(KEYS.c.id == key, KEYS.c.hash == key_hash(key).hex()))
    records = [KeyRecord(**row) for row in connection.execute(query).mappings()]
    return min(records, key=lambda record: record.id != key, default=None)


def insert_key(connection: Connection, project: Project, record: KeyRecord, digest: bytes) -> None:
    """Adds a key of the project, of which the SHA-256 is kept."""
    row = {
        "id": record.id,
        "number": connection.execute(select(func.count()).select_from(KEYS)).scalar_one() + 1,
        "project_number": project.number,
        "hash": digest.hex(),
        "hint": record.hint,
        "created_at_us": record.created_at_us,
    }
    connection.execute(insert(KEYS).values(row))


def update_revoked_at(connection: Connection, record: KeyRecord) -> None:
    """Writes when a key was revoked."""
    connection.execute(update(KEYS).where(KEYS.c.id == record.id).values(revoked_at_us=record.revoked_at_us))


def numbers(connection: Connection) -> dict[str, int]:
    """The number of every project, by its id."""
    return {row.id: row.number for row in connection.execute(select(PROJECTS.c.id, PROJECTS.c.number))}


def live_hashes(connection: Connection) -> dict[bytes, Sender]:
    """Every key that was not revoked, by its hash."""
    query = select(KEYS.c.hash, KEYS.c.project_number, KEYS.c.number).where(KEYS.c.revoked_at_us.is_(None))
    rows = ((bytes.fromhex(row.hash), row.project_number, row.number) for row in connection.execute(query))
    return {digest: Sender(project, key, digest) for digest, project, key in rows}


def key_numbers(connection: Connection, project: Project) -> dict[str, int]:
    """The number of every key of a project, revoked ones too, by the key's id."""
    query = select(KEYS.c.id, KEYS.c.number).where(KEYS.c.project_number == project.number)
    return {row.id: row.number for row in connection.execute(query)}
