"""Coming in and going out: a link that works once gives a session, and a button takes it."""

from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from kixo.console.context import console_of
from kixo.console.sessions import end_session, write_session
from kixo.registry.login import session_secret, use_login_token


class Told(NamedTuple):
    """What the page says to somebody who is not logged in."""

    title: str
    sentence: str


NO_TOKEN = Told("Log in", "The console opens with a link that works once.")
USED = Told("This link does not work any more", "Each link works once, and only for a while.")


def routes() -> list[BaseRoute]:
    """The routes of login and logout."""
    return [Route("/login", log_in), Route("/logout", log_out, methods=["POST"])]


def log_in(request: Request) -> Response:
    """Uses the token in the address up, and begins a session. HEAD does nothing: programs look at links with it."""
    console, token = console_of(request), request.query_params.get("token", "")
    if not token or request.method != "GET":
        return _page(request, NO_TOKEN)
    registry = console.registry()
    if not use_login_token(registry, token):
        return _page(request, USED)
    secret = session_secret(registry)
    response = _entrance(request)
    write_session(secret, request, response, registry.random_text(32), console.settings.session_s)
    return response


def log_out(request: Request) -> Response:
    """Takes the browser's cookie."""
    response = RedirectResponse("/login", 303)
    end_session(request.state.secret, response)
    return response


def _entrance(request: Request) -> Response:
    """The way to the first page. A link on another site leads to a page of ours first: only from here does a browser
    send a cookie of the strict kind."""
    if request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return HTMLResponse(console_of(request).templates.get_template("entrance.html").render())
    return RedirectResponse("/", 303)


def _page(request: Request, told: Told) -> Response:
    text = console_of(request).templates.get_template("login.html").render(told=told)
    return HTMLResponse(text, 401)
