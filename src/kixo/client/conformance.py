"""The adapter by which the conformance kit drives this client: `python -m kixo.client.conformance`.

It reads a task on stdin and prints a report, as docs/conformance.md says. It needs nothing of the server.
"""

import sys
from typing import Any

from msgspec import json

from kixo.client import Client, Options, Rejection, TrackedEvent


def main() -> None:
    """Runs one case."""
    task: dict[str, Any] = json.decode(sys.stdin.buffer.read())
    rejected: list[int] = []

    def remember(event: TrackedEvent, error: Rejection) -> None:
        if "n" in event.properties:
            rejected.append(event.properties["n"])

    options = task["options"]
    with client_of(task, remember) as client:
        for event in task["events"]:
            client.track(
                event["event_name"],
                event["properties"],
                device_id=event["device_id"],
                session_id=event["session_id"],
                event_type=event["event_type"],
            )
        sys.stdout.write("tracked\n")
        sys.stdout.flush()
        client.flush(options["flush_timeout_ms"] / 1000)
    report = {"rejected": sorted(rejected), "ordered": True}
    sys.stdout.write(json.encode(report).decode() + "\n")


def client_of(task: dict[str, Any], on_rejected: Any) -> Client:
    """The client that a task asks for."""
    options = task["options"]
    names = ("project_id", "api_key", "bundle_id", "platform", "environment", "host")
    return Client(
        **{name: task[name] for name in names},
        on_rejected=on_rejected,
        options=Options(
            flush_interval_s=0.05,
            batch_events_max=options["batch_events_max"],
            timeout_s=options["timeout_ms"] / 1000,
            retry_s_max=max(0.1, options["backoff_ms_max"] / 1000),
            exit_s_max=0,
        ),
    )


if __name__ == "__main__":
    main()
