"""What a newcomer copies to send a first event: for a shell, for Python, for a page, with all that is known put in."""

from typing import Any, NamedTuple

from msgspec import json

from kixo.event import ENVIRONMENT_DEFAULT
from kixo.http.browser import script_integrity
from kixo.timestamp import format_us

NO_KEY = "YOUR_API_KEY"


class Snippet(NamedTuple):
    """A snippet: the id of its element, what it is for, its text, and how to use it."""

    id: str
    title: str
    text: str
    use: str


def first_batch(project: str, key: str, environment: str, now_us: int) -> dict[str, Any]:
    """The body of a request with one event that happens now."""
    batch: dict[str, Any] = {"project_id": project, "api_key": key, "bundle_id": "com.example.app", "platform": "web"}
    if environment != ENVIRONMENT_DEFAULT:
        batch["environment"] = environment
    event = {
        "event_type": "page_view",
        "event_name": "/pricing",
        "device_id": "d_001",
        "session_id": "s_001",
        "timestamp": format_us(now_us)[:19] + "Z",
        "properties": {"referrer": "https://google.com"},
    }
    return {**batch, "batch": [event]}


def snippets(url: str, project: str, key: str, environment: str, now_us: int) -> list[Snippet]:
    """The snippets for one project and key, against the public port at `url`."""
    body = json.format(json.encode(first_batch(project, key, environment, now_us)), indent=2).decode()
    return [
        Snippet("snippet-curl", "cURL", _curl(url, body), "Run it in a terminal."),
        Snippet(
            "snippet-python",
            "Python",
            _python(url, project, key, environment),
            "Needs the client where it runs: pip install . in a clone of Kixo. It brings nothing of the server.",
        ),
        Snippet(
            "snippet-browser",
            "Browser",
            _browser(url, project, key, environment),
            "Put it into a page and open that page: views, clicks and errors are sent from then on.",
        ),
    ]


def _curl(url: str, body: str) -> str:
    quoted = body.replace("'", "'\\''")
    return f"curl -X POST {url}/v1/batch \\\n  -H 'Content-Type: application/json' \\\n  -d '{quoted}'"


def _python(url: str, project: str, key: str, environment: str) -> str:
    further = "" if environment == ENVIRONMENT_DEFAULT else f', environment="{environment}"'
    return (
        "from kixo import Client\n\n"
        f'with Client("{project}", "{key}", "com.example.app", host="{url}"{further}) as client:\n'
        '    client.track("signed up", {"plan": "pro"}, device_id="d_001", session_id="s_001")'
    )


def _browser(url: str, project: str, key: str, environment: str) -> str:
    further = "" if environment == ENVIRONMENT_DEFAULT else f', environment: "{environment}"'
    return (
        f'<script src="{url}/kixo.js" crossorigin="anonymous"\n  integrity="{script_integrity()}"></script>\n'
        "<script>\n"
        f'  Kixo.start({{ projectId: "{project}", apiKey: "{key}", bundleId: "com.example.site"{further} }});\n'
        '  Kixo.track("signed up", { plan: "pro" });\n'
        "  Kixo.flush();\n"
        "</script>"
    )
