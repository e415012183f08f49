"""The adapter by which the conformance kit drives the browser SDK, in a page of a real Chromium.

    kixo conformance --client "python -m tests.browser.conformance"

It reads a task on stdin and prints a report, as the page of the kit says. The waits between two attempts are the SDK's
own, as if the dice had been kind, so that a case takes no minutes.
"""

import json
import os
import sys
from contextlib import AbstractContextManager, closing
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.chromium import SHARED, attached, chromium
from tests.browser.serving import end, listen, url_of

SCRIPT = Path(__file__).parent.parent.parent / "src" / "kixo" / "http" / "sdk" / "kixo.js"
RUN = """async (task) => {
  const { options } = task;
  const rejected = [];
  const ends = Date.now() + options.flush_timeout_ms;
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const waits = () => Object.keys(localStorage).some((key) => key.includes(":event:"));
  Math.random = () => 0.02;
  Kixo.start({
    host: task.host, projectId: task.project_id, apiKey: task.api_key, bundleId: task.bundle_id,
    environment: task.environment, automatic: false, flushSeconds: 3600, flushEvents: 1e9,
    queueEvents: 1e6, queueCharacters: 1e9, requestSeconds: options.timeout_ms / 1000,
    onRejected: (event) => "n" in event.properties && rejected.push(event.properties.n),
  });
  for (const event of task.events) Kixo.track(event.event_name, event.properties);
  tracked();
  do {
    await Promise.race([Kixo.flush(), pause(ends - Date.now())]);
    await pause(20);
  } while (waits() && Date.now() < ends);
  return rejected.sort((a, b) => a - b);
}"""


def main() -> None:
    """Runs one case."""
    task = json.load(sys.stdin)
    # A page of this machine: to others a browser does not allow requests to it.
    server = listen(lambda handler, body: (200, {"Content-Type": "text/html"}, b"<!doctype html>"))
    with found() as browser, closing(browser.new_context()) as context:
        tab = context.new_page()
        tab.goto(url_of(server))
        tab.add_script_tag(content=SCRIPT.read_text("utf-8"))
        tab.expose_function("tracked", lambda: print("tracked", flush=True))
        rejected = tab.evaluate(RUN, task)
    end(server)
    print(json.dumps({"rejected": rejected, "own_ids": True}))


def found() -> AbstractContextManager[Browser]:
    """The Chromium that somebody shares, or one of this program's own."""
    shared = os.environ.get(SHARED)
    return chromium() if shared is None else attached(shared)


if __name__ == "__main__":
    main()
