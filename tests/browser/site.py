"""A small site of an origin of its own."""

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.browser.serving import end, listen, url_of
from tests.conftest import Project


class Site:
    """A small site: pages by path, each with the SDK in it, started with `options` and what `script` adds.

    `raw` are pages that are given as they stand; `policy` is the Content Security Policy of all.
    """

    def __init__(self, host: str, project: Project, pages: Mapping[str, str]) -> None:
        self.host = host
        self.pages = dict(pages)
        self.options: dict[str, Any] = {
            "projectId": project.id,
            "apiKey": project.key,
            "bundleId": "com.example.site",
            "flushSeconds": 0.2,
        }
        self.script = ""
        self.raw: set[str] = set()
        self.policy = ""
        self._server = listen(self._answer)
        self.url = url_of(self._server)

    def close(self) -> None:
        end(self._server)

    def _answer(self, handler: BaseHTTPRequestHandler, _body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        path = handler.path.partition("?")[0]
        if path not in self.pages:
            return 404, {}, b""
        media_type = "text/javascript" if path.endswith(".js") else "text/html"
        headers = {"Content-Type": f"{media_type}; charset=utf-8"}
        if self.policy:
            headers["Content-Security-Policy"] = self.policy
        return 200, headers, (self.pages[path] if path in self.raw else self._page(path)).encode()

    def _page(self, path: str) -> str:
        options = json.dumps(self.options)
        head = f"<script src='{self.host}/kixo.js'></script><script>options = {options}; {self.script}</script>"
        start = "<script>Kixo.start(options)</script>"
        return f"<!doctype html><title>Page {path}</title>{head}{start}<body>{self.pages[path]}"
