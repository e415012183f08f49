"""A client of the Batch API in one file, small and right; `--wrong NAME` makes it wrong in one way.

The kit has to pass the right one, and to catch each of the wrong ones: `WRONG` says by which case and which check.
"""

import gzip
import http.client
import json
import sys
import time
import uuid
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

EVENTS_MAX, BYTES_MAX = 1000, 8_000_000

# The ways to be wrong: each with the case and the check that have to catch it.
WRONG = {
    "new_id_each_attempt": ("cut_success", "identity"),
    "shared_id": ("plain", "identity"),
    "no_id_for_equal_events": ("equal_events", "delivered"),
    "stale_sent_at": ("unavailable", "sent_at"),
    "no_sent_at": ("plain", "sent_at"),
    "restamps_events": ("unavailable", "timestamp"),
    "stamps_with_an_old_time": ("plain", "time"),
    "gives_up_when_refused": ("refused", "delivered"),
    "gives_up_on_reset": ("reset", "again"),
    "gives_up_on_408": ("timeout_408", "again"),
    "gives_up_on_500": ("internal_500", "again"),
    "gives_up_on_503": ("unavailable", "again"),
    "gives_up_on_429": ("rate_limited", "again"),
    "repeats_400": ("invalid_request", "never"),
    "repeats_401": ("unauthorized", "never"),
    "repeats_415": ("unsupported", "never"),
    "repeats_413": ("too_large", "smaller"),
    "repeats_too_many_events": ("too_many_events", "smaller"),
    "ignores_retry_after": ("rate_limited", "wait"),
    "ignores_dates": ("retry_after_date", "wait"),
    "waits_for_ever": ("retry_after_huge", "ended"),
    "hammers": ("always_503", "requests"),
    "fails_on_html": ("bad_gateway", "ended"),
    "fails_on_odd_retry_after": ("retry_after_absurd", "ended"),
    "trusts_any_200": ("not_ours", "again"),
    "sends_rejected_again": ("partial", "never"),
    "sends_all_again": ("one_of_many", "never"),
    "hides_rejected": ("partial", "reported"),
    "reports_what_was_taken": ("partial", "reported"),
    "sends_everything_at_once": ("many_events", "contract"),
    "sends_too_many_bytes": ("many_bytes", "contract"),
    "sends_empty_batches": ("nothing", "requests"),
    "cuts_its_gzip": ("compressible", "contract"),
    "mixes_up_the_order": ("plain", "order"),
    "forgets_the_environment": ("plain", "envelope"),
    "mangles_text": ("odd_text", "content"),
    "drops_the_batch_of_a_bad_event": ("too_large_alone", "delivered"),
    "ends_with_status_1": ("plain", "ended"),
    "is_impatient": ("slow_answer", "never"),
    "waits_for_an_answer": ("no_answer", "ended"),
}


class Answer(NamedTuple):
    """What came of a request; status 0 where there was no whole answer."""

    status: int
    retry_after: str | None
    body: dict[str, Any]

    @property
    def ours(self) -> bool:
        return self.status == 200 and self.body.get("status") == "ok"


class Client:
    """Sends the events of one task. `wrong` is one of `WRONG`, or empty."""

    def __init__(self, task: dict[str, Any], wrong: str) -> None:
        self.task, self.wrong, self.options = task, wrong, task["options"]
        self.ends = time.monotonic() + self.options["flush_timeout_ms"] / 1000
        self.rejected: list[int] = []
        self.began = now()

    def tracked(self) -> list[dict[str, Any]]:
        events = [{**event, "timestamp": now(), "event_id": str(uuid.uuid4())} for event in self.task["events"]]
        for event in events:
            if self.wrong == "shared_id":
                event["event_id"] = "one"
            if self.wrong == "no_id_for_equal_events":
                event |= {"timestamp": self.began}
                del event["event_id"]
            if self.wrong == "stamps_with_an_old_time":
                event["timestamp"] = "2020-01-01T00:00:00Z"
            if self.wrong == "mangles_text" and "text" in event["properties"]:
                event["properties"]["text"] = event["properties"]["text"].encode("ascii", "replace").decode()
        return events[::-1] if self.wrong == "mixes_up_the_order" else events

    def flush(self, events: list[dict[str, Any]]) -> None:
        if not events and self.wrong == "sends_empty_batches":
            self.send([])
        for batch in self.batches(events):
            if self.wrong == "no_id_for_equal_events":
                for event in batch:
                    self.deliver([event])
            else:
                self.deliver(batch)

    def batches(self, events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        batches: list[list[dict[str, Any]]] = []
        room_bytes = 0
        for event in events:
            size = len(json.dumps(event))
            full = not batches or len(batches[-1]) >= min(EVENTS_MAX, self.options["batch_events_max"])
            if self.wrong == "sends_everything_at_once":
                full = not batches
            if full or (room_bytes < size and self.wrong != "sends_too_many_bytes"):
                batches.append([])
                room_bytes = BYTES_MAX
            batches[-1].append(event)
            room_bytes -= size
        return batches

    def deliver(self, batch: list[dict[str, Any]]) -> None:
        attempt = 0
        while time.monotonic() < self.ends or self.wrong == "waits_for_ever":
            answer = self.send(batch)
            fate = self.fate(answer)
            if fate == "split" and len(batch) > 1:
                self.deliver(batch[: len(batch) // 2])
                self.deliver(batch[len(batch) // 2 :])
                return
            if fate != "again":
                self.settle(batch, answer)
                return
            self.wait(answer, attempt)
            attempt += 1

    def fate(self, answer: Answer) -> str:
        status, code = answer.status, answer.body.get("code")
        if self.wrong == f"gives_up_on_{status or 'reset'}":
            return "give up"
        if status == 200:
            return "done" if answer.ours or self.wrong == "trusts_any_200" else "again"
        if status == 413 or code == "too_many_events":
            if self.wrong in {"repeats_413", "repeats_too_many_events"}:
                return "again"
            return "give up" if self.wrong == "drops_the_batch_of_a_bad_event" else "split"
        if status in {0, 408, 429} or status >= 500 or self.wrong == f"repeats_{status}":
            return "again"
        return "give up"

    def settle(self, batch: list[dict[str, Any]], answer: Answer) -> None:
        rejected = [batch[error["index"]] for error in answer.body.get("errors", [])]
        if answer.status != 200 and not rejected:
            rejected = batch
        if self.wrong == "sends_rejected_again" and rejected:
            self.send(rejected)
        self.rejected += [event["properties"]["n"] for event in rejected if "n" in event["properties"]]
        if self.wrong == "reports_what_was_taken":
            self.rejected += [event["properties"]["n"] for event in batch]

    def wait(self, answer: Answer, attempt: int) -> None:
        if self.wrong == "sends_all_again":
            for batch in self.batches(self.all):
                self.send(batch)
        wait_s = min(self.options["backoff_ms_max"], self.options["backoff_ms"] * 2**attempt) / 1000
        told_s = self.told_s(answer.retry_after)
        wait_s = 0.001 if self.wrong == "hammers" else max(wait_s, told_s)
        if self.wrong != "waits_for_ever":
            wait_s = min(wait_s, max(0.0, self.ends - time.monotonic()))
        time.sleep(min(wait_s, 3600))

    def told_s(self, text: str | None) -> float:
        if text is None or self.wrong == "ignores_retry_after":
            return 0.0
        if self.wrong == "fails_on_odd_retry_after":
            return float(int(text))
        if text.isdigit():
            return float(text)
        if self.wrong == "ignores_dates":
            return 0.0
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except ValueError:
            return 0.0

    def send(self, batch: list[dict[str, Any]]) -> Answer:
        for event in batch:
            if self.wrong == "new_id_each_attempt":
                event["event_id"] = str(uuid.uuid4())
            if self.wrong == "restamps_events":
                event["timestamp"] = now()
        members = ("project_id", "api_key", "bundle_id", "platform", "environment")
        body = {name: self.task[name] for name in members} | {"batch": batch, "sent_at": now()}
        if self.wrong == "stale_sent_at":
            body["sent_at"] = self.began
        if self.wrong == "no_sent_at":
            del body["sent_at"]
        if self.wrong == "forgets_the_environment":
            del body["environment"]
        data = gzip.compress(json.dumps(body).encode(), 1)
        return self.exchange(data[:-9] if self.wrong == "cuts_its_gzip" else data)

    def exchange(self, data: bytes) -> Answer:
        timeout_s = self.options["timeout_ms"] / 1000
        if self.wrong == "is_impatient":
            timeout_s = 0.3
        if self.wrong == "waits_for_an_answer":
            timeout_s = 3600.0
        connection = http.client.HTTPConnection(urlsplit(self.task["host"]).netloc, timeout=timeout_s)
        try:
            connection.request("POST", "/v1/batch", data, {"Content-Encoding": "gzip"})
            answer = connection.getresponse()
            return self.read(answer)
        except ConnectionRefusedError:
            if self.wrong == "gives_up_when_refused":
                sys.exit(0)
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        return Answer(0, None, {})

    def read(self, answer: http.client.HTTPResponse) -> Answer:
        data = answer.read()
        try:
            body = json.loads(data)
        except ValueError:
            if self.wrong == "fails_on_html":
                raise
            body = {}
        return Answer(answer.status, answer.headers["Retry-After"], body)

    def run(self) -> None:
        self.all = self.tracked()
        print("tracked", flush=True)
        self.flush(self.all)
        told = [] if self.wrong == "hides_rejected" else sorted(self.rejected)
        print(json.dumps({"rejected": told, "ordered": True}))
        sys.exit(1 if self.wrong == "ends_with_status_1" else 0)


def now() -> str:
    return datetime.now(UTC).isoformat()


if __name__ == "__main__":
    Client(json.load(sys.stdin), sys.argv[1] if len(sys.argv) > 1 else "").run()
