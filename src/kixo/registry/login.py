"""Who may enter the console: the secret that sessions are signed with, and one-time login tokens, kept as SHA-256."""

from sqlalchemy import Connection, delete, func, insert, select

from kixo.registry import Registry
from kixo.registry.schema import LOGIN_TOKENS, SESSION_SECRETS
from kixo.snapshot import key_hash

SECRET_BYTES = 32
# Making one more lets the oldest go, so that a loop of 'kixo console login-link' fills no disk.
LOGIN_TOKENS_MAX = 100


def session_secret(registry: Registry) -> bytes:
    """What sessions are signed with, 32 random bytes; made where there is none yet."""
    with registry.reading() as connection:
        secret = _kept(connection)
    if secret is not None:
        return secret
    with registry.writing() as connection:
        # Another process may have made one meanwhile.
        return _kept(connection) or _put(registry, connection)


def has_session_secret(registry: Registry) -> bool:
    """Whether there is one, which is so once the console was used or its link shown."""
    with registry.reading() as connection:
        return _kept(connection) is not None


def renew_session_secret(registry: Registry) -> None:
    """Ends every session, and with them what links were made and not used."""
    with registry.writing() as connection:
        connection.execute(delete(LOGIN_TOKENS))
        connection.execute(delete(SESSION_SECRETS))
        _put(registry, connection)


def create_login_token(registry: Registry, seconds: float) -> str:
    """A token that lets somebody in once, within so many seconds."""
    token = f"kx_login_{registry.random_text(32)}"
    now_us = registry.now_us()
    with registry.writing() as connection:
        connection.execute(delete(LOGIN_TOKENS).where(LOGIN_TOKENS.c.expires_at_us <= now_us))
        _make_room(connection)
        row = {"hash": key_hash(token).hex(), "expires_at_us": now_us + round(seconds * 1e6)}
        connection.execute(insert(LOGIN_TOKENS).values(row))
    return token


def use_login_token(registry: Registry, token: str) -> bool:
    """Whether the token lets somebody in: it is known, in time and was not used. It is used by this, if it does.

    Of several that use it at the same moment, one gets in.
    """
    mine = LOGIN_TOKENS.c.hash == key_hash(token).hex()
    with registry.writing() as connection:
        used = connection.execute(delete(LOGIN_TOKENS).where(mine, LOGIN_TOKENS.c.expires_at_us > registry.now_us()))
    return used.rowcount == 1


def _kept(connection: Connection) -> bytes | None:
    secret = connection.scalar(select(SESSION_SECRETS.c.secret))
    return None if secret is None else bytes.fromhex(secret)


def _put(registry: Registry, connection: Connection) -> bytes:
    secret = registry.randomness.randbytes(SECRET_BYTES)
    connection.execute(insert(SESSION_SECRETS).values(secret=secret.hex()))
    return secret


def _make_room(connection: Connection) -> None:
    count = connection.scalar(select(func.count()).select_from(LOGIN_TOKENS)) or 0
    if count >= LOGIN_TOKENS_MAX:
        oldest = select(LOGIN_TOKENS.c.hash).order_by(LOGIN_TOKENS.c.expires_at_us).limit(count - LOGIN_TOKENS_MAX + 1)
        connection.execute(delete(LOGIN_TOKENS).where(LOGIN_TOKENS.c.hash.in_(oldest)))
