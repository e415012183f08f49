"""The adapter by which the conformance kit drives the browser SDK, in a page of a real Chromium.

    kixo conformance --client "python -m tests.browser_conformance"

The SDK's queue holds 1,000 events, so the page tracks the next ones when those before have left. Its waits between
attempts are its own and longer than those that the kit asks for. So is its time limit for a request, the one timer of
30 seconds that it has; the page shortens it to what the task says.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.browsing import built, chromium

RUN = """
async ({ task }) => {
  const rejected = [];
  const deadline = Date.now() + task.options.flush_timeout_ms;
  // Where the SDK keeps events until they are settled.
  const waits = () => Object.keys(localStorage).some((key) => key.startsWith("kixo:") && key.includes(":event:"));
  const settle = async () => {
    while (waits() && Date.now() < deadline) {
      await Kixo.flush();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const realTimeout = window.setTimeout.bind(window);
  window.setTimeout = (run, ms, ...rest) => realTimeout(run, ms === 30000 ? task.options.timeout_ms : ms, ...rest);
  Kixo.start({
    host: task.host, projectId: task.project_id, apiKey: task.api_key, bundleId: task.bundle_id,
    environment: task.environment, automatic: false, flushSeconds: 3600, flushEvents: 100000,
    onRejected: (event) => "n" in event.properties && rejected.push(event.properties.n),
  });
  let size = 0;
  let count = 0;
  for (const event of task.events) {
    const length = JSON.stringify(event).length + 500;
    if (count >= task.options.batch_events_max || size + length > 400000) {
      await settle();
      size = count = 0;
    }
    size += length;
    count += 1;
    Kixo.track(event.event_name, event.properties);
  }
  window.tracked();
  await settle();
  return rejected.sort((a, b) => a - b);
}
"""


class BlankPage(BaseHTTPRequestHandler):
    """A page without anything in it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html>")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def blank_site() -> Iterator[str]:
    """The address of a page that is another origin than the host, and on loopback as it is: browsers insist on that."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BlankPage) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def main() -> None:
    task: dict[str, Any] = json.load(sys.stdin)
    with blank_site() as origin, chromium() as browser:
        page = browser.new_page()
        page.goto(origin)
        page.add_script_tag(content=built("kixo.js").read_text("utf-8"))
        page.expose_function("tracked", lambda: print("tracked", flush=True))
        rejected = page.evaluate(RUN, {"task": task})
    print(json.dumps({"rejected": rejected, "own_ids": True}))


if __name__ == "__main__":
    main()
