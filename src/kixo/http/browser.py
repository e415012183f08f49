"""The browser SDK, served from memory: the files that `make web` builds from `sdk/web`, plain and compressed.

The built files are a part of the package, so that installing it needs nothing but Python; a check in CI builds them
anew and compares.
"""

import base64
import gzip
import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import NamedTuple

import brotli

from kixo.http.answers import Answer, Headers

PATHS = ("/kixo.js", "/kixo.mjs")
# An hour: a new version of the server reaches every page soon, and a visitor loads the file once for a visit.
CACHE_CONTROL = "public, max-age=3600"
COMMON: Headers = [
    ("cache-control", CACHE_CONTROL),
    ("vary", "accept-encoding"),
    ("access-control-allow-origin", "*"),
    # Pages that isolate themselves from other origins may load it all the same.
    ("cross-origin-resource-policy", "cross-origin"),
    ("x-content-type-options", "nosniff"),
    ("server", "kixo"),
]


class Representation(NamedTuple):
    """One file in one encoding, with the two answers that can be given for it."""

    etag: str
    whole: Answer
    unchanged: Answer


Script = dict[str, Representation]
"""The representations of one file by their content coding; the preferred one first, `identity` last."""


def open_scripts() -> dict[str, Script]:
    """Every file of the SDK by its path."""
    folder = files("kixo.http") / "sdk"
    return {path: dict(_representations((folder / path[1:]).read_bytes())) for path in PATHS}


def script_integrity() -> str:
    """What a page gives as `integrity`, so that the browser runs exactly this `kixo.js` or none."""
    content = (files("kixo.http") / "sdk" / "kixo.js").read_bytes()
    return f"sha384-{base64.b64encode(hashlib.sha384(content).digest()).decode()}"


def script_answer(script: Script, headers: Mapping[str, str]) -> Answer:
    """The answer to a GET with these request headers."""
    accepted = _accepted(headers.get("accept-encoding", ""))
    chosen = next((found for coding, found in script.items() if coding in accepted), script["identity"])
    asked = headers.get("if-none-match", "")
    known = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
    return chosen.unchanged if chosen.etag in known or "*" in known else chosen.whole


def _accepted(header: str) -> set[str]:
    """The codings that a request's `Accept-Encoding` names and does not refuse."""
    found = set()
    for part in header.lower().split(","):
        coding, _, parameter = part.partition(";")
        if parameter.replace(" ", "").rstrip("0.") != "q=":
            found.add(coding.strip())
    return found


def _representations(content: bytes) -> Iterator[tuple[str, Representation]]:
    digest = hashlib.sha256(content).hexdigest()[:16]
    yield "br", _representation(digest, "br", brotli.compress(content))
    yield "gzip", _representation(digest, "gzip", gzip.compress(content, mtime=0))
    yield "identity", _representation(digest, "identity", content)


def _representation(digest: str, coding: str, body: bytes) -> Representation:
    etag = f'"{digest}-{coding}"'
    common = [*COMMON, ("etag", etag)]
    headers = [*common, ("content-type", "text/javascript; charset=utf-8"), ("content-length", str(len(body)))]
    if coding != "identity":
        headers.append(("content-encoding", coding))
    return Representation(etag, Answer(200, "ok", headers, body), Answer(304, "not_modified", common, b""))
