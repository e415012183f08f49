"""The gate of the private port: every request passes it before any page, and every answer on its way out.

    the name it is asked by       a known one, for every path                    400
    /metrics, /healthz, /readyz,
    /login, /static/              open to everybody who knows the name
    /api/                         a session, or a read token that is not revoked  401
    everything else               a session                                       401
    a method that changes things  sent by a page of ours: it names this origin,
                                  and has the session's token                     403
    a body                        up to BODY_BYTES_MAX                            413

A read token opens only `/api/`, and needs no token of a session: no browser sends it by itself. So nothing under
`/api/` may change anything for one.
"""

import secrets
import traceback
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kixo.console.assets import PREFIX
from kixo.console.context import Console
from kixo.console.failures import answer_failure
from kixo.console.hosts import is_known_host
from kixo.console.sessions import Session, is_token_of, read_session
from kixo.errors import BodyTooLarge, Forbidden, InvalidRequest, OperatorError, RequestError, Unauthorized
from kixo.registry.login import session_secret
from kixo.registry.tokens import find_live_read_token
from kixo.server_card import public_url

OPEN = {"/metrics", "/healthz", "/readyz", "/login"}
API = "/api/"
READING = {"GET", "HEAD", "OPTIONS"}
FORM = "application/x-www-form-urlencoded"
TOKEN_HEADER = "x-csrf-token"
TOKEN_FIELD = "csrf"
BODY_BYTES_MAX = 1024 * 1024
FIELDS_MAX = 10_000


class Gate:
    """Stands before `application` and lets through what may pass."""

    def __init__(self, application: ASGIApp, console: Console) -> None:
        self._application = application
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(16)
        scope.setdefault("state", {}).update(console=self._console, nonce=nonce)
        request = Request(scope, _bounded(receive))
        guarded = _with_headers(send, _policy(self._console, nonce))
        try:
            inner = await self._admit(request)
        except (RequestError, OperatorError) as error:
            response = await run_in_threadpool(answer_failure, request, error)
            await response(scope, receive, guarded)
            return
        try:
            await self._application(scope, inner, guarded)
        except Exception as error:  # noqa: BLE001 - the edge of the process; who asked has the answer already
            # Not the message of the error: it can repeat what was sent.
            where = "".join(traceback.format_tb(error.__traceback__))
            self._console.log.error("page_failed", error=type(error).__qualname__, where=where)  # noqa: TRY400

    async def _admit(self, request: Request) -> Receive:
        """Lets the request pass, with what was found out about it in its state; raises `RequestError`."""
        if not is_known_host(request, self._console.settings):
            raise InvalidRequest(
                "The console does not answer to this name. Ask by its address, or add the name to console_names."
            )
        if request.url.path in OPEN or request.url.path.startswith(PREFIX):
            return request.receive
        if request.url.path.startswith(API) and "authorization" in request.headers:
            await self._admit_reader(request)
            return request.receive
        return await self._admit_session(request)

    async def _admit_reader(self, request: Request) -> None:
        kind, _, token = request.headers["authorization"].partition(" ")
        found = await run_in_threadpool(lambda: find_live_read_token(self._console.registry(), token.strip()))
        if kind.lower() != "bearer" or found is None:
            raise Unauthorized("That is no read token, or it was revoked. 'kixo token create' makes one.")
        request.state.read_token = found

    async def _admit_session(self, request: Request) -> Receive:
        secret = await run_in_threadpool(lambda: session_secret(self._console.registry()))
        session = read_session(secret, request, self._console.settings.session_s)
        if session is None:
            raise Unauthorized("Nobody is logged in here, or the session has ended.")
        request.state.secret, request.state.session = secret, session
        if request.method in READING:
            return request.receive
        _check_origin(request, self._console)
        return await _check_token(request, session)


def _check_origin(request: Request, console: Console) -> None:
    """Raises `Forbidden` unless a page of this very origin sent the request. Browsers always say which page did."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    ours = {request.headers.get("host", "").lower(), _netloc(console.settings.console_url)} - {""}
    same_site = site in (None, "same-origin")
    same_origin = origin is None or _netloc(origin) in ours
    if not (same_site and same_origin and (site or origin)):
        raise Forbidden("The request does not come from a page of the console. Go there and do it again.")


def _netloc(url: str) -> str:
    """Host and port of a URL, empty where it is none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


async def _check_token(request: Request, session: Session) -> Receive:
    """Raises `Forbidden` unless header or form have the session's token; returns what gives the body once more."""
    inner, token = request.receive, request.headers.get(TOKEN_HEADER)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM:
        body = await request.body()
        inner = _again(body, request.receive)
        request.state.form = _fields(body)
        token = token or request.state.form.get(TOKEN_FIELD)
    if not is_token_of(session, token or ""):
        raise Forbidden("The page is too old, or not one of the console. Load it again and repeat what you did.")
    return inner


def _fields(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError as error:
        raise InvalidRequest("The form cannot be read. Load the page again and repeat what you did.") from error
    return dict(fields)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, then whatever comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def inner() -> Message:
        return waiting.pop() if waiting else await receive()

    return inner


def _bounded(receive: Receive) -> Receive:
    """The same, up to the greatest body; raises `BodyTooLarge` beyond."""
    taken = 0

    async def inner() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > BODY_BYTES_MAX:
            limit = f"The body is over {BODY_BYTES_MAX} bytes, which is the most here."
            raise BodyTooLarge(f"{limit} Send less.", limit=BODY_BYTES_MAX)
        return message

    return inner


def _with_headers(send: Send, policy: str) -> Send:
    common = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        # With no-referrer, browsers would hide the origin of our own forms too.
        "referrer-policy": "same-origin",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "server": "kixo",
    }

    async def inner(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=_headers_of(message))
            headers.update(common)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return inner


def _headers_of(message: Message) -> Any:
    message.setdefault("headers", [])
    message["headers"] = list(message["headers"])
    return message


def _policy(console: Console, nonce: str) -> str:
    """The Content Security Policy: everything from here, and events to the public port."""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            f"style-src 'self' 'nonce-{nonce}'",
            "img-src 'self' data:",
            f"connect-src 'self' {public_url(console.settings)}",
            "font-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )
