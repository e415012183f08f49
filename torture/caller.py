"""Asking a server whether it would take something: empty batches, which count and store nothing."""

import http.client
import json
import time
from typing import NamedTuple, Self

from kixo.bench.traffic import Credential

ANSWER_S_MAX = 10.0


class Question(NamedTuple):
    """When an empty batch was sent and answered, in seconds of the monotonic clock, and the status; 0 for none."""

    began_s: float
    ended_s: float
    status: int


class Caller:
    """One connection that sends empty batches with one key. Closed at the end of a `with`."""

    def __init__(self, port: int, credential: Credential) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S_MAX)
        envelope = {"project_id": credential.project_id, "api_key": credential.api_key}
        batch = {"bundle_id": "com.example.app", "platform": "web", "batch": []}
        self._body = json.dumps({**envelope, **batch})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self) -> Question:
        """Sends an empty batch."""
        began_s = time.monotonic()
        try:
            self._connection.request("POST", "/v1/batch", self._body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            response.read()
            status = response.status
        except (OSError, http.client.HTTPException):
            self._connection.close()
            status = 0
        return Question(began_s, time.monotonic(), status)
