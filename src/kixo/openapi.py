"""The OpenAPI 3.1 document, generated from the structs that validate requests and from the tree of errors."""

from typing import Any

from msgspec import json

from kixo import __version__
from kixo.errors import REQUEST_ERRORS, MethodNotAllowed, NotFound, RequestError, Unavailable
from kixo.event import BatchAnswer, BatchRequest, DryRunAnswer, Rejection
from kixo.inflate import ENCODINGS
from kixo.settings import Settings

# A wrong path or method is not an answer of this path and method.
BATCH_ERRORS = tuple(error for error in REQUEST_ERRORS if error not in {NotFound, MethodNotAllowed})

EXAMPLE_REQUEST: dict[str, Any] = {
    "project_id": "kx_proj_abc123",
    "api_key": "kx_key_xyz789",
    "bundle_id": "com.example.app",
    "platform": "web",
    "batch": [
        {
            "event_type": "page_view",
            "event_name": "/pricing",
            "device_id": "d_001",
            "session_id": "s_001",
            "timestamp": "2026-04-08T12:00:00Z",
            "properties": {"referrer": "https://google.com"},
        }
    ],
    "sent_at": "2026-04-08T12:00:01Z",
}


def document(settings: Settings) -> dict[str, Any]:
    """The whole document, as JSON-ready values."""
    _, schemas = json.schema_components(
        [BatchRequest, BatchAnswer, Rejection, DryRunAnswer], ref_template="#/components/schemas/{name}"
    )
    schemas["BatchRequest"]["properties"]["batch"]["maxItems"] = settings.events_per_batch_max
    schemas["Error"] = _error_schema()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kixo Batch API",
            "version": __version__,
            "description": "Send product-analytics events, many in one request.",
        },
        "paths": {
            "/v1/batch": {"post": _batch(), "options": _preflight()},
            "/healthz": {"get": _page("Whether the server is alive.", {"status": "ok"}, ())},
            "/readyz": {"get": _page("Whether events can be stored now.", {"status": "ready"}, (Unavailable,))},
            "/openapi.json": {"get": _page("This document.", None, ())},
            "/kixo.js": {"get": _script("The browser SDK, for a script tag.")},
            "/kixo.mjs": {"get": _script("The browser SDK, as an ES module.")},
        },
        "components": {"schemas": schemas, "headers": _headers()},
    }


def _batch() -> dict[str, Any]:
    answers = _answers(BATCH_ERRORS)
    examples = {
        "all accepted": {"value": {"status": "ok", "accepted": 1}},
        "some rejected": {"value": _EXAMPLE_PARTIAL},
    }
    answers["200"] = {
        "description": "The events are durable.",
        "headers": _header_refs("Kixo-Durability", "Kixo-Position", "RateLimit", "RateLimit-Policy"),
        "content": {
            "application/json": {
                "schema": {"anyOf": [_ref("BatchAnswer"), _ref("DryRunAnswer")]},
                "examples": examples,
            }
        },
    }
    media = {"schema": _ref("BatchRequest"), "example": EXAMPLE_REQUEST}
    return {
        "operationId": "sendBatch",
        "summary": "Send a batch of events.",
        "description": f"The body may be compressed: {', '.join(ENCODINGS)}.",
        "parameters": [_DRY_RUN],
        "requestBody": {"required": True, "content": {"application/json": media, "text/plain": media}},
        "responses": dict(sorted(answers.items())),
    }


_DRY_RUN: dict[str, Any] = {
    "name": "dry_run",
    "in": "query",
    "description": "`true`: check everything but storage, store nothing, and tell what each event would become. The "
    "answer has no `Kixo-Durability` and no `Kixo-Position`.",
    "schema": {"enum": ["true", "false"], "default": "false"},
}
_EXAMPLE_PARTIAL: dict[str, Any] = {
    "status": "ok",
    "accepted": 9,
    "rejected": 1,
    "errors": [
        {
            "index": 3,
            "field": "timestamp",
            "code": "invalid_timestamp",
            "message": '`timestamp` is "soon", not ISO 8601. Send a string such as 2026-04-08T12:00:00Z.',
        }
    ],
}


def _preflight() -> dict[str, Any]:
    return {
        "operationId": "preflight",
        "summary": "The question a browser asks before it sends to another origin.",
        "responses": {"204": {"description": "Any origin may send."}},
    }


def _page(summary: str, example: dict[str, str] | None, errors: tuple[type[RequestError], ...]) -> dict[str, Any]:
    content = {"schema": {"type": "object"}, **({"example": example} if example else {})}
    answers = _answers(errors)
    answers["200"] = {"description": summary, "content": {"application/json": content}}
    return {"summary": summary, "responses": dict(sorted(answers.items()))}


def _script(summary: str) -> dict[str, Any]:
    content = {"text/javascript": {"schema": {"type": "string"}}}
    unchanged = {"description": "The file is still the one that `If-None-Match` names."}
    return {"summary": summary, "responses": {"200": {"description": summary, "content": content}, "304": unchanged}}


def _answers(errors: tuple[type[RequestError], ...]) -> dict[str, Any]:
    """The error answers by status; several codes of one status share an entry."""
    answers: dict[str, Any] = {}
    for status in {error.status for error in errors}:
        same = [error for error in errors if error.status == status]
        answers[str(status)] = {
            "description": " ".join(f"`{error.code}`: {error.summary()}" for error in same),
            "headers": _error_headers(status),
            "content": {
                "application/json": {
                    "schema": _ref("Error"),
                    "examples": {error.code: {"value": _example(error)} for error in same},
                }
            },
        }
    return answers


def _example(error: type[RequestError]) -> dict[str, Any]:
    return {"status": "error", "code": error.code, "message": error.summary()}


def _error_headers(status: int) -> dict[str, Any]:
    limit = ("RateLimit", "RateLimit-Policy")
    names = {400: ("Kixo-Position", *limit), 429: (*limit, "Retry-After"), 503: (*limit, "Retry-After")}
    return _header_refs(*names.get(status, ()))


def _header_refs(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _headers() -> dict[str, Any]:
    sentences = {
        "Kixo-Durability": "How the events are kept: `fsync`.",
        "Kixo-Position": "Where in the log the request was stored, `<partition>:<offset>`; absent where nothing was.",
        "RateLimit": "What is left of the second: `r` requests, all of them again in `t` seconds.",
        "RateLimit-Policy": "The limit: `q` requests in each window of `w` seconds.",
        "Retry-After": "Seconds to wait before the request is repeated.",
    }
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in sentences.items()}


def _error_schema() -> dict[str, Any]:
    codes = sorted({error.code for error in REQUEST_ERRORS})
    return {
        "title": "Error",
        "type": "object",
        "required": ["status", "code", "message"],
        "properties": {
            "status": {"const": "error"},
            "code": {"enum": codes, "description": "The stable reason."},
            "message": {"type": "string", "description": "What is wrong, and what to do."},
            "field": {"type": "string", "description": "The member of the envelope that is wrong."},
            "position": {"type": "integer", "description": "The byte at which the body stops being JSON."},
            "limit": {"type": "integer", "description": "What is allowed."},
            "actual": {"type": "integer", "description": "What was sent."},
            "accepted": {"type": "integer"},
            "rejected": {"type": "integer"},
            "errors": {"type": "array", "items": _ref("Rejection")},
            "dry_run": {"const": True},
            "events": {"type": "array", "items": _ref("DryRunEvent"), "description": "Of a dry run."},
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
