"""The OpenAPI 3.1 document of the private port's API, and where it is served."""

from typing import Any

from msgspec import json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kixo import __version__
from kixo.console.api.asked import FORMATS, Asked
from kixo.console.api.events import FILTERS, LIMIT, LIMIT_MAX, OUTCOMES
from kixo.console.context import console_of
from kixo.errors import (
    BodyTooLarge,
    Forbidden,
    Internal,
    InvalidJSON,
    InvalidRequest,
    NotFound,
    NotYetVisible,
    QueryFailed,
    QueryLost,
    QueryStopped,
    QueryTooLarge,
    QueryTooLong,
    RequestError,
    TooManyQueries,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from kixo.event import ENVIRONMENTS, PLATFORMS
from kixo.query.answer import Answer, Column
from kixo.registry.saved import SQL_LENGTH_MAX
from kixo.settings import Settings

PATH = "/api/openapi.json"
Error = type[RequestError] | type[QueryFailed]

EVERYWHERE: tuple[Error, ...] = (InvalidRequest, Unauthorized, Unavailable, Internal)
OF_QUERIES: tuple[Error, ...] = (
    QueryFailed,
    QueryTooLong,
    QueryTooLarge,
    QueryStopped,
    QueryLost,
    TooManyQueries,
    NotYetVisible,
)
OF_BODIES: tuple[Error, ...] = (InvalidJSON, UnsupportedMediaType, BodyTooLarge)
ERRORS = (*EVERYWHERE, *OF_QUERIES, *OF_BODIES, Forbidden, NotFound)

EXAMPLE_SQL = "SELECT event_type, count(*) AS events FROM events WHERE date >= current_date - 7 GROUP BY event_type"
MEMBERS = {
    "sql": "One SELECT over the tables and views. It sees all projects.",
    "format": "The form of the answer; without it `Accept` decides, and else it is json.",
    "seconds": "The most it may take. It can only lower the setting `query_s_max`.",
    "memory": "The most bytes of memory. It can only lower the setting `query_memory_bytes_max`.",
    "rows": "The most rows of a json answer. It can only lower the setting `query_rows_max`.",
    "after": "What has to be in the tables before: the value of a `Kixo-Position` header, or several.",
    "id": "What it is called while it runs, so that another request can stop it. Each needs one of its own.",
}


def routes() -> list[BaseRoute]:
    """The route of the document."""
    return [Route(PATH, show)]


def show(request: Request) -> Response:
    """The document."""
    return Response(json.encode(document(console_of(request).settings)), media_type="application/json")


def document(settings: Settings) -> dict[str, Any]:
    """The whole document, as JSON-ready values."""
    _, schemas = json.schema_components([Answer, Column], ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kixo read API",
            "version": __version__,
            "description": "Ask the tables. A read token opens all of it, for all projects; a key opens nothing here.",
        },
        "security": [{"token": []}],
        "paths": {
            "/api/query": {"get": _query_by_address(), "post": _query_by_body()},
            "/api/query/{id}": {"delete": _stop()},
            "/api/events": {"get": _events()},
            PATH: {"get": _operation("readDocument", "This document.", _json({"type": "object"}), ())},
        },
        "components": {
            "schemas": {**schemas, "Query": _query_schema(settings), "Events": _EVENTS, "Error": _error_schema()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "`kixo token create` makes one."}
            },
            "headers": {
                name: {"description": sentence, "schema": {"type": "string"}} for name, sentence in HEADERS.items()
            },
        },
    }


HEADERS = {
    "Kixo-Query-Id": "What the query was called while it ran.",
    "Retry-After": "Seconds to wait before the request is repeated.",
    "WWW-Authenticate": "`Bearer`: a read token is needed.",
}


def _operation(id: str, summary: str, content: dict[str, Any], errors: tuple[Error, ...]) -> dict[str, Any]:
    answers = _answers((*EVERYWHERE, *errors))
    answers["200"] = {"description": summary, "content": content}
    return {"operationId": id, "summary": summary, "responses": dict(sorted(answers.items()))}


def _query_by_body() -> dict[str, Any]:
    media = {"schema": _ref("Query"), "example": {"sql": EXAMPLE_SQL}}
    body = {"required": True, "content": {"application/json": media}}
    return {**_query("query", (*OF_QUERIES, *OF_BODIES, Forbidden)), "requestBody": body}


def _query_by_address() -> dict[str, Any]:
    properties = _query_properties()
    parameters = [_parameter(name, _of_address(schema), name == "sql") for name, schema in properties.items()]
    parameters[0]["example"] = EXAMPLE_SQL
    return {**_query("queryByAddress", (*OF_QUERIES, Forbidden)), "parameters": parameters}


def _query(id: str, errors: tuple[Error, ...]) -> dict[str, Any]:
    content = {
        "application/json": {"schema": _ref("Answer"), "example": _EXAMPLE_ANSWER},
        "application/jsonl": {"schema": {"type": "string"}},
        "text/csv": {"schema": {"type": "string"}},
        "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
    }
    operation = _operation(id, "The rows of a query.", content, errors)
    operation["responses"]["200"]["headers"] = _headers("Kixo-Query-Id")
    operation["description"] = (
        "A json answer is bounded and says so with `truncated`. The other forms hold every row; where a query fails in"
        " the middle of one, the connection ends before the body does."
    )
    return operation


def _stop() -> dict[str, Any]:
    schema = {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}}
    operation = _operation("stopQuery", "The query was stopped.", _json(schema), (NotFound, Forbidden))
    return {**operation, "parameters": [{**_parameter("id", {"type": "string"}, True), "in": "path"}]}


def _events() -> dict[str, Any]:
    sentences = {
        "project": "Only this project.",
        "environment": f"Only this environment: {', '.join(ENVIRONMENTS)}.",
        "platform": f"Only this platform: {', '.join(PLATFORMS)}.",
        "type": "Only this event type.",
        "name": "Only this event name.",
        "device": "Only this device.",
    }
    instants = {
        "since": "Only from this time on (ISO 8601): `timestamp`, of rejected events `received_at`.",
        "until": "Only before this time.",
    }
    parameters = [_parameter(name, {"type": "string", "description": sentences[name]}) for name in FILTERS]
    parameters += [_parameter(name, {"type": "string", "description": text}) for name, text in instants.items()]
    parameters += [
        _parameter("outcome", {"enum": list(OUTCOMES), "default": "accepted", "description": "Which events."}),
        _parameter("limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT}),
        _parameter("cursor", {"type": "string", "description": "`next` of the page before."}),
        _parameter("after", {"type": "array", "items": {"type": "string"}, "description": MEMBERS["after"]}),
    ]
    operation = _operation("listEvents", "Events, newest first.", _json(_ref("Events")), OF_QUERIES)
    return {**operation, "parameters": parameters}


_EVENTS = {
    "type": "object",
    "required": ["events", "next"],
    "properties": {
        "events": {"type": "array", "items": {"type": "object"}, "description": "By the names of the tables' columns."},
        "next": {
            "type": ["string", "null"],
            "description": "The cursor of the next page; null where this is the last.",
        },
    },
}
_EXAMPLE_ANSWER = {
    "columns": [{"name": "event_type", "type": "string"}, {"name": "events", "type": "int64"}],
    "rows": [["page_view", 1200], ["click", 310]],
    "truncated": False,
    "seconds": 0.041,
}


def _query_schema(settings: Settings) -> dict[str, Any]:
    properties = _query_properties()
    properties["seconds"]["description"] += f" That is {settings.query_s_max:g}."
    return {"title": "Query", "type": "object", "required": ["sql"], "properties": properties}


def _query_properties() -> dict[str, dict[str, Any]]:
    _, components = json.schema_components([Asked], ref_template="")
    found: dict[str, dict[str, Any]] = components["Asked"]["properties"]
    for name, schema in found.items():
        schema["description"] = MEMBERS[name]
    found["sql"] |= {"minLength": 1, "maxLength": SQL_LENGTH_MAX}
    found["format"] |= {"anyOf": [{"enum": list(FORMATS)}, {"type": "null"}]}
    return found


def _of_address(schema: dict[str, Any]) -> dict[str, Any]:
    """A member as a parameter: it cannot be null, and several of it are an array."""
    choices = [choice for choice in schema.get("anyOf", []) if choice.get("type") not in ("null", "string")]
    if not choices:
        choices = [choice for choice in schema.get("anyOf", []) if choice.get("type") != "null"]
    kept = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return {**kept, **(choices[0] if choices else {})}


def _parameter(name: str, schema: dict[str, Any], required: bool = False) -> dict[str, Any]:
    schema = dict(schema)
    text = {"description": schema.pop("description")} if "description" in schema else {}
    return {"name": name, "in": "query", "required": required, "schema": schema, **text}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _answers(errors: tuple[Error, ...]) -> dict[str, Any]:
    """The error answers by status; several codes of one status share an entry."""
    answers: dict[str, Any] = {}
    for status in {error.status for error in errors}:
        same = [error for error in errors if error.status == status]
        examples = {error.code: {"value": _example(error)} for error in same}
        answers[str(status)] = {
            "description": " ".join(f"`{error.code}`: {_summary(error)}" for error in same),
            "headers": _error_headers(status),
            "content": {"application/json": {"schema": _ref("Error"), "examples": examples}},
        }
    return answers


def _example(error: Error) -> dict[str, Any]:
    return {"status": "error", "code": error.code, "message": _summary(error)}


def _summary(error: Error) -> str:
    return " ".join((error.__doc__ or error.code).split("\n\n", maxsplit=1)[0].split())


def _error_headers(status: int) -> dict[str, Any]:
    return _headers(*{401: ("WWW-Authenticate",), 503: ("Retry-After",), 504: ("Retry-After",)}.get(status, ()))


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _error_schema() -> dict[str, Any]:
    return {
        "title": "Error",
        "type": "object",
        "required": ["status", "code", "message"],
        "properties": {
            "status": {"const": "error"},
            "code": {"enum": sorted({error.code for error in ERRORS}), "description": "The stable reason."},
            "message": {"type": "string", "description": "What is wrong, and what to do."},
            "field": {"type": "string", "description": "The member or parameter that is wrong."},
            "position": {"type": "integer", "description": "The byte of the body, or the character of the query."},
            "line": {"type": "integer", "description": "The line of the query, from 1."},
            "column": {"type": "integer", "description": "The character of that line, from 1."},
            "limit": {"type": "integer", "description": "What is allowed."},
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
