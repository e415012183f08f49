"""What a client under test is told: one JSON object, the *task*, with everything it needs to run one case."""

from typing import Any

from kixo.conformance.case import PROTOCOL, Case, Tracked
from kixo.event import PROPERTIES_BYTES_MAX

PROJECT = "kx_proj_conformance"
KEY = "kx_key_conformance"
BUNDLE = "com.example.conformance"
PLATFORM = "web"
ENVIRONMENT = "staging"
DEVICE = "device-1"
SESSION = "session-1"
EQUAL_NAME = "equal"


def task(case: Case, url: str) -> dict[str, Any]:
    """The task of a case whose host listens at `url`."""
    options = {name: getattr(case.options, name) for name in case.options.__struct_fields__}
    return {
        "protocol": PROTOCOL,
        "case": case.name,
        "host": url,
        "project_id": PROJECT,
        "api_key": KEY,
        "bundle_id": BUNDLE,
        "platform": PLATFORM,
        "environment": ENVIRONMENT,
        "options": options,
        "events": [event(case.track, number) for number in range(case.track.count)],
    }


def event(tracked: Tracked, number: int) -> dict[str, Any]:
    """The event that the client is to track."""
    return {
        "event_type": "custom",
        "event_name": EQUAL_NAME if tracked.equal else f"event {number}",
        "device_id": DEVICE,
        "session_id": SESSION,
        "properties": {} if tracked.equal else _properties(tracked, number),
    }


def _properties(tracked: Tracked, number: int) -> dict[str, Any]:
    properties: dict[str, Any] = {"n": number}
    if tracked.text:
        properties["text"] = tracked.text
    size = PROPERTIES_BYTES_MAX + 1 if number in tracked.oversized else tracked.filler_bytes
    if size:
        properties["filler"] = (f"{number:04d} " * (size // 5 + 1))[:size]
    return properties
