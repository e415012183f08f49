"""The served OpenAPI document: valid, complete, and true of the server that serves it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from kixo.errors import REQUEST_ERRORS
from kixo.openapi import BATCH_ERRORS
from tests.conftest import Server, event

DEMO = ("kx_proj_abc123", "kx_key_xyz789")
# A batch that breaks the schema in one event is answered 200, and a text that the schema allows need not be a date.
NOT_OURS: list[Any] = [checks.negative_data_rejection, checks.positive_data_acceptance]


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    answer = server.http.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def api(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_every_answer_is_one_that_the_document_describes(api: Any) -> None:
    """Many of the requests carry credentials that are known, so that they get past the 401."""
    for operation in api.get_all_operations():
        check_operation(operation.ok())


def check_operation(operation: Any) -> None:
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(), st.booleans())
    def check(case: Any, is_known: bool) -> None:
        if is_known and isinstance(case.body, dict):
            case.body["project_id"], case.body["api_key"] = DEMO
        case.call_and_validate(excluded_checks=NOT_OURS)

    check()


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any], api: Any) -> None:
    assert document["openapi"] == "3.1.0"
    api.validate()
    for component in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **component})


def test_every_error_code_is_in_the_document_with_its_status(document: dict[str, Any]) -> None:
    assert set(document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]) == {
        error.code for error in REQUEST_ERRORS
    }
    answers = document["paths"]["/v1/batch"]["post"]["responses"]
    for error in BATCH_ERRORS:
        described = answers[str(error.status)]
        assert f"`{error.code}`" in described["description"]
        assert error.code in described["content"]["application/json"]["examples"]
    elsewhere = {error.code for error in REQUEST_ERRORS} - {error.code for error in BATCH_ERRORS}
    assert elsewhere == {"not_found", "method_not_allowed"}


def examples(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every schema with an example of it, of the requests and answers of every path."""
    for path in document["paths"].values():
        for operation in path.values():
            for message in [operation.get("requestBody", {}), *operation["responses"].values()]:
                for media in message.get("content", {}).values():
                    named = [example["value"] for example in media.get("examples", {}).values()]
                    yield from ((media["schema"], found) for found in named)
                    yield from [(media["schema"], media["example"])] if "example" in media else []


def test_every_example_is_what_its_schema_says(document: dict[str, Any]) -> None:
    found = list(examples(document))
    assert len(found) > len(BATCH_ERRORS)
    for part, example in found:
        jsonschema_rs.validate({**part, "components": document["components"]}, example)


def test_the_example_request_is_accepted(server: Server, document: dict[str, Any]) -> None:
    for media_type, media in document["paths"]["/v1/batch"]["post"]["requestBody"]["content"].items():
        answer = server.http.post(
            "/v1/batch", content=json.dumps(media["example"]), headers={"Content-Type": media_type}
        )
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "accepted": 1})
        assert media["example"]["project_id"] == DEMO[0]


def test_the_examples_of_members_make_a_request_that_is_accepted(server: Server, document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    body = {**first_examples(schemas["BatchRequest"]), "platform": "ios"}
    body["batch"] = [first_examples(schemas["Event"])]
    assert server.http.post("/v1/batch", json=body).json() == {"status": "ok", "accepted": 1}


def first_examples(component: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, member in component["properties"].items():
        for choice in [member, *member.get("anyOf", [])]:
            if "examples" in choice:
                found[name] = choice["examples"][0]
    return found


def validator(document: dict[str, Any], name: str) -> Any:
    return jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{name}", "components": document["components"]})


def test_real_answers_are_what_the_document_says(server: Server, document: dict[str, Any]) -> None:
    project = server.project()
    post = document["paths"]["/v1/batch"]["post"]["responses"]
    bodies = [project.batch(event()), project.batch(event(), 7), project.batch(7), project.batch(*[7] * 1001), {}]
    for body in bodies:
        answer = server.http.post("/v1/batch", json=body)
        name = "BatchAnswer" if answer.status_code == 200 else "Error"
        assert validator(document, name).is_valid(answer.json())
        described = {header.lower() for header in post[str(answer.status_code)].get("headers", {})}
        told = {"kixo-durability", "kixo-position", "ratelimit", "ratelimit-policy", "retry-after"} & set(
            answer.headers
        )
        assert told <= described, answer.text


def test_real_answers_to_dry_runs_are_what_the_document_says(server: Server, document: dict[str, Any]) -> None:
    project = server.project()
    for batch, name in (([event(), 7], "DryRunAnswer"), ([], "DryRunAnswer"), ([7], "Error")):
        answer = server.http.post("/v1/batch?dry_run=true", json=project.batch(*batch))
        assert answer.json()["dry_run"] is True
        assert validator(document, name).is_valid(answer.json())


def test_what_the_document_takes_out_is_refused(server: Server, document: dict[str, Any]) -> None:
    """The limits of the schema are those of the server."""
    project = server.project()
    request = validator(document, "BatchRequest")
    envelopes: list[dict[str, Any]] = [
        {"platform": "amiga"},
        {"bundle_id": ""},
        {"environment": "prod"},
        {"batch": [event()] * 1001},
    ]
    for wrong in envelopes:
        body = {**project.batch(event()), **wrong}
        assert not request.is_valid(body)
        assert server.http.post("/v1/batch", json=body).status_code in {400, 429}
    members: list[dict[str, Any]] = [{"event_name": "x" * 2049}, {"event_id": ""}, {"properties": []}, {"device_id": 7}]
    for member in members:
        body = project.batch(event(**member))
        assert not request.is_valid(body)
        assert server.http.post("/v1/batch", json=body).status_code == 400
    assert request.is_valid(project.batch(event(properties=None, event_id=None), environment=None, sent_at=None))


def test_nothing_is_asked_of_another_host(document: dict[str, Any]) -> None:
    assert "http://" not in json.dumps(document).replace("https://google.com", "")
    assert httpx.URL(document.get("servers", [{"url": "/"}])[0]["url"]).is_relative_url
