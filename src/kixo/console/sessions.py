"""Sessions of the console: a signed cookie, and what proves that a form is ours.

Nothing of a session is kept on the server: the cookie holds a random id, signed with the registry's secret and the time
of the login. Another secret therefore ends every session. The token against cross-site requests is the session's id
under the same secret, so it needs no place either.
"""

import hmac
import json
from hashlib import sha256

from itsdangerous import BadData, URLSafeTimedSerializer
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

FLASH_S = 60
MESSAGES_MAX = 10


class Session(Struct, frozen=True):
    """Who is logged in: the session's random id, and the token that its forms carry."""

    id: str
    csrf: str


def cookie_name(secret: bytes, purpose: str) -> str:
    """The cookie's name, another one for each installation: browsers send cookies to every port of a host."""
    return f"kixo_{purpose}_{_digest(secret, 'name')[:8]}"


def open_session(secret: bytes, id: str) -> Session:
    """The session of that id."""
    return Session(id, _digest(secret, f"csrf {id}"))


def read_session(secret: bytes, request: Request, seconds: float) -> Session | None:
    """The session that the request's cookie proves; None where there is none, or it is forged or too old."""
    id = _read(secret, request, "session", seconds)
    return open_session(secret, id) if isinstance(id, str) else None


def write_session(secret: bytes, request: Request, response: Response, id: str, seconds: float) -> None:
    """Begins the session: gives the browser its cookie."""
    _write(secret, request, response, "session", id, seconds)


def end_session(secret: bytes, response: Response) -> None:
    """Takes the cookie from the browser."""
    response.delete_cookie(cookie_name(secret, "session"), httponly=True, samesite="strict")


def is_token_of(session: Session, token: str) -> bool:
    """Whether that is the session's token; takes the same time whatever is wrong with it."""
    return hmac.compare_digest(session.csrf.encode(), token.encode("utf-8", "surrogatepass"))


def write_flash(secret: bytes, request: Request, response: Response, messages: list[str]) -> None:
    """Leaves messages for the next page."""
    _write(secret, request, response, "flash", messages[:MESSAGES_MAX], FLASH_S)


def read_flash(secret: bytes, request: Request) -> list[str]:
    """The messages that the page before left."""
    found = _read(secret, request, "flash", FLASH_S)
    return [str(message) for message in found] if isinstance(found, list) else []


def end_flash(secret: bytes, response: Response) -> None:
    """Takes the messages away, once they were shown."""
    response.delete_cookie(cookie_name(secret, "flash"), httponly=True, samesite="strict")


def _read(secret: bytes, request: Request, purpose: str, seconds: float) -> object:
    cookie = request.cookies.get(cookie_name(secret, purpose), "")
    try:
        return _serializer(secret, purpose).loads(cookie, max_age=int(seconds))
    except BadData:
        return None


def _write(secret: bytes, request: Request, response: Response, purpose: str, value: object, seconds: float) -> None:
    response.set_cookie(
        cookie_name(secret, purpose),
        _serializer(secret, purpose).dumps(value),
        max_age=int(seconds),
        httponly=True,
        samesite="strict",
        secure=_is_https(request),
    )


def _serializer(secret: bytes, purpose: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        secret, salt=f"kixo {purpose}", serializer=json, signer_kwargs={"digest_method": sha256}
    )


def _is_https(request: Request) -> bool:
    """Whether the browser came by https, as far as a proxy tells. What it tells can only make the cookie stricter."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", "").strip().lower())


def _digest(secret: bytes, text: str) -> str:
    return hmac.new(secret, text.encode(), sha256).hexdigest()
