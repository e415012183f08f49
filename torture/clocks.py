"""The server's clock stepped back and forth, while devices' clocks are days off.

The shim moves the real-time clock of all processes at once, without the monotonic one, as a person or a time server
does. After every step: requests are answered, what is acknowledged comes into the table soon, the lag that the server
shows is no more than a moment old, the rate limit limits and lets through again, and keys come and go.
"""

import time

from kixo.bench.traffic import Credential
from kixo.metrics import EVENTS
from kixo.timestamp import DAY_US
from torture.caller import Caller
from torture.client import Habits
from torture.installation import BUSY
from torture.registry import IN_FORCE_S_MAX
from torture.shim import Clock, build, preload
from torture.trial import Orders, Trial
from torture.verdict import Verdict

STEPS, STEPS_SHORT = 15, 2
SECOND_NS = 1_000_000_000
HOUR_NS, DAY_NS = 3600 * SECOND_NS, 86_400 * SECOND_NS
JUMPS_NS = (SECOND_NS // 2, 3 * SECOND_NS, 90 * SECOND_NS, HOUR_NS, DAY_NS, 40 * DAY_NS, 500 * DAY_NS)
SKEWS_US = (0, 3 * DAY_US, -9 * DAY_US, 5_000_000, -90_000_000, -700 * DAY_US)
EVENTS_BETWEEN = 150
# Far more than a load takes, far less than any step that matters.
LOADED_S_MAX = 30.0
LAG_S_MAX = 30.0
# What was received before a step and waits still is as much older as the clock went forward.
SETTLED_S_MAX = 120.0
LIMIT = 100


def step_clocks(orders: Orders) -> Verdict:
    """The server's clock steps by up to 500 days, back and forth; devices' clocks are up to 700 days off."""
    tools = orders.tools()
    clock = Clock(tools / "clock")
    environment = {**BUSY, **preload(build(tools)), **clock.environment}
    with Trial("clocks", orders, environment, habits=Habits(clients=7), skews_us=SKEWS_US) as trial:
        trial.installation.start()
        with trial.traffic.flowing():
            for number in range(orders.count(STEPS, STEPS_SHORT)):
                trial.account.wait_for_events(trial.account.taken + EVENTS_BETWEEN, LOADED_S_MAX)
                _step(trial, clock)
                _watch_loads(trial)
                if number % 3 == 1:
                    _try_limit(trial)
                if number % 3 == 2:
                    _try_key(trial, number)
        # As the clock stands: what was received "in the future" has to be loaded and audited like anything else.
        return trial.verdict()


def _step(trial: Trial, clock: Clock) -> None:
    """To somewhere around the true time, or to it. A step back may come in the middle of a load."""
    offset_ns = trial.dice.choice([-1, 1, 1, 0]) * trial.dice.choice(JUMPS_NS)
    began_s = trial.note("steps of the clock")
    clock.step(offset_ns)
    trial.recover(began_s)


def _watch_loads(trial: Trial) -> None:
    """What is acknowledged now has to be in the table soon, and the lag has to say so."""
    server = trial.installation
    if (seconds := server.metric("kixo_ack_seconds_sum")) < trial.figures.get("seconds of all answers", 0.0):
        trial.broken.append(f"After a step of the clock the answers together took {seconds} seconds, less than before.")
    trial.figures["seconds of all answers"] = seconds
    stored = server.subject.metric(EVENTS, "stored")
    began_s = time.monotonic()
    if not server.wait_until(lambda: server.subject.metric(EVENTS, "stored") > stored, LOADED_S_MAX):
        trial.broken.append(f"After a step of the clock nothing was stored for {LOADED_S_MAX} seconds.")
    slowest = max(trial.figures.get("seconds until stored", 0.0), time.monotonic() - began_s)
    trial.figures["seconds until stored"] = round(slowest, 2)
    if not server.wait_until(lambda: 0 <= server.subject.lag_s() < LAG_S_MAX, SETTLED_S_MAX):
        trial.broken.append(f"After a step of the clock the lag shown is {server.subject.lag_s()} seconds.")


def _try_limit(trial: Trial) -> None:
    """No more than `LIMIT` requests in a second, and after a second all of it again."""
    with Caller(trial.installation.port, trial.idle) as caller:
        asked = [caller.ask() for _ in range(LIMIT + 50)]
        admitted = [question for question in asked if question.status == 200]
        windows = zip(admitted, admitted[LIMIT:], strict=False)
        if any(last.ended_s - first.began_s < 1 for first, last in windows):
            trial.broken.append(f"More than {LIMIT} requests were admitted within a second.")
        trial.figures["refused by the limit"] = (
            trial.figures.get("refused by the limit", 0) + len(asked) - len(admitted)
        )
        if not trial.installation.wait_until(lambda: caller.ask().status == 200, LOADED_S_MAX):
            trial.broken.append("The rate limit does not let go.")


def _try_key(trial: Trial, number: int) -> None:
    """A new key comes into force, and goes out of it when it is revoked."""
    server = trial.installation
    credential = Credential(trial.idle.project_id, f"kx_key_clock_{number:06d}")
    server.kixo("key", "create", credential.project_id, "--key", credential.api_key)
    with Caller(server.port, credential) as caller:
        if not server.wait_until(lambda: caller.ask().status in {200, 429}, IN_FORCE_S_MAX):
            trial.broken.append("After a step of the clock a new key does not come into force.")
        server.kixo("key", "revoke", credential.api_key)
        if not server.wait_until(lambda: caller.ask().status == 401, IN_FORCE_S_MAX):
            trial.broken.append("After a step of the clock a revoked key stays in force.")
