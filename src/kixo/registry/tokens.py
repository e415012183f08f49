"""Read tokens: what scripts ask the private port's API with. Made and kept as keys are, and like them never removed."""

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection, func, insert, or_, select, update

from kixo.errors import BadArgument
from kixo.registry import Registry
from kixo.registry.schema import NAME_LENGTH_MAX, READ_TOKENS
from kixo.snapshot import key_hash

PREFIX = "kx_read_"
READ_TOKENS_MAX = 1000
RECORDS = select(
    READ_TOKENS.c.id, READ_TOKENS.c.name, READ_TOKENS.c.hint, READ_TOKENS.c.created_at_us, READ_TOKENS.c.revoked_at_us
)


class ReadToken(Struct, frozen=True):
    """What is kept of a read token: never the token itself. `hint` is its last four characters, times are in µs."""

    id: str
    name: str
    hint: str
    created_at_us: int
    revoked_at_us: int | None


def create_read_token(registry: Registry, name: str = "") -> tuple[ReadToken, str]:
    """Makes a token, and returns it in the clear: this once. Raises `BadArgument`."""
    if len(name) > NAME_LENGTH_MAX or not name.isprintable():
        raise BadArgument("That cannot be a token's name.", f"Use up to {NAME_LENGTH_MAX} printable characters.")
    token = PREFIX + registry.random_text(32)
    record = ReadToken(f"t_{registry.random_text(12)}", name, token[-4:], registry.now_us(), None)
    row = {
        "id": record.id,
        "name": name,
        "hint": record.hint,
        "created_at_us": record.created_at_us,
        "hash": key_hash(token).hex(),
    }
    with registry.writing() as connection:
        if (connection.scalar(select(func.count()).select_from(READ_TOKENS)) or 0) >= READ_TOKENS_MAX:
            raise BadArgument(f"There are {READ_TOKENS_MAX} read tokens, which is the most.", "Use one of those.")
        connection.execute(insert(READ_TOKENS).values(row))
    return record, token


def list_read_tokens(registry: Registry) -> list[ReadToken]:
    """Every token, revoked ones too, oldest first."""
    with registry.reading() as connection:
        rows = connection.execute(RECORDS.order_by(READ_TOKENS.c.created_at_us, READ_TOKENS.c.id)).mappings()
        return [ReadToken(**row) for row in rows]


def find_live_read_token(registry: Registry, token: str) -> ReadToken | None:
    """The token that this is in the clear, unless it was revoked. Searched by its hash, which nobody can steer."""
    if not token.startswith(PREFIX):
        return None
    mine = RECORDS.where(READ_TOKENS.c.hash == key_hash(token).hex(), READ_TOKENS.c.revoked_at_us.is_(None))
    with registry.reading() as connection:
        row = connection.execute(mine).mappings().one_or_none()
        return None if row is None else ReadToken(**row)


def revoke_read_token(registry: Registry, token: str) -> ReadToken:
    """Revokes a token, given by its id or in the clear, at once; a revoked one stays as it is. Raises `BadArgument`."""
    with registry.writing() as connection:
        record = _find(connection, token)
        if record is None:
            # The argument is not repeated: it may be a token in the clear.
            raise BadArgument("There is no such read token.", "'kixo token list' shows the ids of all.")
        if record.revoked_at_us is None:
            record = replace(record, revoked_at_us=registry.now_us())
            connection.execute(
                update(READ_TOKENS).where(READ_TOKENS.c.id == record.id).values(revoked_at_us=record.revoked_at_us)
            )
    return record


def _find(connection: Connection, token: str) -> ReadToken | None:
    query = RECORDS.where(or_(READ_TOKENS.c.id == token, READ_TOKENS.c.hash == key_hash(token).hex()))
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else ReadToken(**row)
