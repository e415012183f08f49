"""How the private port says that something went wrong: a page for people, JSON as on the public port under `/api/`."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kixo.console.context import console_of
from kixo.errors import (
    BadArgument,
    Internal,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OperatorError,
    RequestError,
    Unauthorized,
    Unavailable,
)

# What a person can do where the message alone does not say.
NEXT_STEPS = {
    "unauthorized": "Run this on the server, in the folder in which you start it, and open the link that it prints:",
    "not_found": "The pages that there are stand in the menu of the console.",
    "method_not_allowed": "Go back to the page and use what it offers.",
    "internal": "Load the page again. The log of the server has the details.",
    "unavailable": "Load the page again in a moment.",
}


def answer_failure(request: Request, error: Exception) -> Response:
    """The answer for an error of any kind. What is nobody's intention is told to nobody: the gate logs it."""
    found = _request_error(error)
    if request.url.path.startswith("/api/"):
        return JSONResponse(found.answer(), found.status, _headers(found))
    template = console_of(request).templates.get_template("error.html")
    text = template.render(error=found, title=_title(found), next_step=NEXT_STEPS.get(found.code, ""))
    return Response(text, found.status, _headers(found), media_type="text/html")


def _request_error(error: Exception) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, BadArgument):
        return InvalidRequest(f"{error.message} {error.next_step}")
    if isinstance(error, OperatorError):
        return Unavailable(str(error), retry_after_s=1)
    if isinstance(error, HTTPException):
        return _of_routing(error)
    return Internal("A defect of the console.")


def _of_routing(error: HTTPException) -> RequestError:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFound("There is nothing at this path.")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = (error.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"This path takes {allow} only.", allow=allow)
    return InvalidRequest(str(error.detail))


def _title(error: RequestError) -> str:
    return "Log in" if isinstance(error, Unauthorized) else HTTPStatus(error.status).phrase.capitalize()


def _headers(error: RequestError) -> dict[str, str]:
    found = {
        "www-authenticate": "Bearer" if isinstance(error, Unauthorized) else None,
        "retry-after": None if error.retry_after_s is None else str(error.retry_after_s),
        "allow": error.allow,
    }
    return {name: value for name, value in found.items() if value is not None}
