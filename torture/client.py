"""Clients that send events as the SDKs do: what was not answered is repeated until it is.

They do what makes exactly-once hard: bodies small and large, in every encoding; bad events among good ones; batches
whose answer was lost sent again as they were, in another encoding, cut in two or together with others, or given up;
and events that were acknowledged long ago sent once more.
"""

import gzip
import http.client
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import NamedTuple

import brotli
import zstandard

from kixo.bench.traffic import APPS, Credential
from kixo.event import ENVIRONMENTS
from kixo.timestamp import format_us, now_us
from torture.account import NO_ANSWER, NO_CONNECTION, Account, Answer
from torture.event import BAD, FINGERPRINT, TWINS, WITH_ID, Source

ANSWER_S_MAX = 6.0
REPEAT_PAUSE_S = 0.03
KEPT_UNITS = 2000
UNITS_MAX = 450

Unit = tuple[str, ...]
"""Tokens that stay together in one batch: one event, or twins."""

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda body: bytes(brotli.compress(body, quality=1)),
    "zstd": zstandard.compress,
}


class Habits(NamedTuple):
    """How clients behave: their number, their pause between requests, and the shares of what is odd.

    Of requests: `again_share` repeat what was acknowledged, `large_share` have 100 to 450 events, in `hang_up_share`
    the client does not wait for the answer. Of events, `bad_share` are bad. `give_up_share` of lost answers end in no
    repeat. With `moves_on`, a 503 makes the client connect anew, to whatever `url` names then.
    """

    clients: int = 6
    pause_s: float = 0.1
    bad_share: float = 0.05
    again_share: float = 0.1
    large_share: float = 0.06
    hang_up_share: float = 0.02
    give_up_share: float = 0.05
    moves_on: bool = False


class Client:
    """One app: one project, one bundle, and one thread. `url` tells where the server is now."""

    def __init__(
        self,
        number: int,
        credential: Credential,
        url: Callable[[], str],
        source: Source,
        account: Account,
        habits: Habits,
    ) -> None:
        self._number = number
        self._url = url
        self._source = source
        self._account = account
        self._habits = habits
        self._dice = Random(f"{source.seed}/client {number}")
        bundle_id, platform = APPS[number % len(APPS)]
        self._envelope = {
            "project_id": credential.project_id,
            "api_key": credential.api_key,
            "bundle_id": bundle_id,
            "platform": platform,
            "environment": ENVIRONMENTS[number % len(ENVIRONMENTS)],
        }
        self._made = 0
        self._unanswered: list[Unit] = []
        self._kept: dict[Unit, None] = {}
        self._connection: http.client.HTTPConnection | None = None

    def run(self, stop: threading.Event) -> None:
        """Sends until `stop` is set."""
        try:
            while not stop.is_set():
                self.step(stop)
                stop.wait(self._dice.expovariate(1 / self._habits.pause_s) if self._habits.pause_s else 0)
        finally:
            self._hang_up()

    def step(self, stop: threading.Event) -> None:
        """One batch, new or old, until it is answered or `stop` is set."""
        if self._kept and self._dice.random() < self._habits.again_share:
            self.deliver(self._old_units(), stop)
        else:
            self.deliver(self._new_units(), stop)

    def repeat_kept(self, stop: threading.Event) -> None:
        """Sends once more what was acknowledged, in other groups than before."""
        units = list(self._kept)
        self._dice.shuffle(units)
        while units and not stop.is_set():
            size = self._dice.randint(1, UNITS_MAX)
            group, units = units[:size], units[size:]
            self.deliver(group, stop)

    def finish(self, stop: threading.Event) -> None:
        """Delivers what is still without an answer."""
        while self._unanswered and not stop.is_set():
            group, self._unanswered = self._unanswered[:UNITS_MAX], self._unanswered[UNITS_MAX:]
            self.deliver(group, stop)
        self._hang_up()

    def deliver(self, units: list[Unit], stop: threading.Event) -> None:
        """Sends a batch, and again in one way or another while there is no answer; remembers it where `stop` comes."""
        # Never a unit twice in one batch: two equal events in a batch are two events.
        self._unanswered += [unit for unit in units if unit not in self._unanswered]
        while self._unanswered and not stop.is_set():
            group = self._next_group()
            answer = self._send([token for unit in group for token in unit])
            if answer.status == 0 or answer.status in {429, 503}:
                stop.wait(REPEAT_PAUSE_S)
                if answer.status == 503 and self._habits.moves_on:
                    self._hang_up()
                if answer.code == NO_ANSWER and self._dice.random() < self._habits.give_up_share:
                    self._drop(group)
                continue
            if answer.status != 200 and answer.code != "no_valid_events":
                self._account.note_fault(f"A good request was answered {answer.outcome}.")
            self._forget(group)

    def _next_group(self) -> list[Unit]:
        """What to send of all that is unanswered: all of it, or a part in another order."""
        group = self._unanswered[:UNITS_MAX]
        if len(group) > 1 and self._dice.random() < 0.2:
            group = self._dice.sample(group, self._dice.randint(1, len(group)))
        return group

    def _drop(self, group: list[Unit]) -> None:
        done = set(group)
        self._unanswered = [unit for unit in self._unanswered if unit not in done]

    def _forget(self, group: list[Unit]) -> None:
        self._drop(group)
        for unit in group:
            if not unit[0].endswith(BAD):
                self._keep(unit)

    def _keep(self, unit: Unit) -> None:
        if len(self._kept) >= KEPT_UNITS:
            # Any of them, so that some stay that are very old.
            del self._kept[self._dice.choice(list(self._kept))]
        self._kept[unit] = None

    def _new_units(self) -> list[Unit]:
        return [self._unit() for _ in range(self._size())]

    def _old_units(self) -> list[Unit]:
        return self._dice.sample(list(self._kept), min(len(self._kept), self._dice.randint(1, 20)))

    def _size(self) -> int:
        if self._dice.random() < self._habits.large_share:
            return self._dice.randint(100, UNITS_MAX)
        return self._dice.choice([1, 1, 2, 3, 5, 8, 13, 21])

    def _unit(self) -> Unit:
        bad = self._dice.random() < self._habits.bad_share
        kind = BAD if bad else self._dice.choices([WITH_ID, FINGERPRINT, TWINS], (10, 10, 1))[0]
        self._made += 1
        token = f"{self._number}-{self._made}-{kind}"
        return (token, token) if kind == TWINS else (token,)

    def _send(self, tokens: list[str]) -> Answer:
        body, headers = self._request(tokens)
        self._account.note_sent(tokens)
        began_s = time.monotonic()
        try:
            answer = self._exchange(body, headers)
        except ConnectionRefusedError:
            self._hang_up()
            answer = Answer(0, NO_CONNECTION)
        except (OSError, http.client.HTTPException, ValueError):
            self._hang_up()
            answer = Answer(0, NO_ANSWER)
        self._account.note_answer(tokens, answer, began_s)
        return answer

    def _request(self, tokens: list[str]) -> tuple[bytes, dict[str, str]]:
        """The body, in some encoding, and its headers."""
        members = dict(self._envelope)
        if self._dice.random() < 0.7:
            members["sent_at"] = format_us(now_us() + self._source.skew_us(self._number))
        front = json.dumps(members)[:-1]
        events = ",".join(self._source.make(token).text for token in tokens)
        encoding = self._dice.choice([None, *COMPRESSIONS])
        headers = {"Content-Type": self._dice.choice(["application/json", "text/plain;charset=UTF-8"])}
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        body = f'{front},"batch":[{events}]}}'.encode()
        return COMPRESSIONS[encoding](body) if encoding else body, headers

    def _exchange(self, body: bytes, headers: dict[str, str]) -> Answer:
        connection = self._connect()
        connection.request("POST", "/v1/batch", body, headers)
        if self._dice.random() < self._habits.hang_up_share:
            raise ConnectionAbortedError("the client hangs up before it has its answer")
        response = connection.getresponse()
        return read_answer(response.status, response.read())

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None or self._connection.sock is None:
            host = self._url().removeprefix("http://")
            self._connection = http.client.HTTPConnection(host, timeout=ANSWER_S_MAX)
            self._connection.connect()
        return self._connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def read_answer(status: int, body: bytes) -> Answer:
    """What an answer says; raises `ValueError` where it says nothing that can be read."""
    said = json.loads(body)
    code = "ok" if status == 200 else str(said.get("code"))
    rejected = {int(error["index"]): str(error["code"]) for error in said.get("errors", [])}
    return Answer(status, code, int(said.get("accepted", 0)), rejected)


class Traffic:
    """All clients at work, each in its thread. `stop` it, `finish` what is unanswered."""

    def __init__(self, clients: list[Client]) -> None:
        self._clients = clients
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Lets the clients send."""
        self._stop.clear()
        self._run(lambda client: client.run(self._stop))

    def stop(self) -> None:
        """Lets them stop where they are; what is unanswered stays so."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def finish(self, seconds_max: float) -> bool:
        """Lets each deliver what is unanswered; whether all did."""
        return self._all(lambda client: client.finish(self._stop), seconds_max)

    def repeat_kept(self, seconds_max: float) -> bool:
        """Lets each send again, in other groups, what was acknowledged; whether all did."""
        return self._all(lambda client: client.repeat_kept(self._stop), seconds_max)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Traffic while the block runs."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def _all(self, work: Callable[[Client], None], seconds_max: float) -> bool:
        self._stop.clear()
        self._run(work)
        ends = time.monotonic() + seconds_max
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        done = not any(thread.is_alive() for thread in self._threads)
        self.stop()
        return done

    def _run(self, work: Callable[[Client], None]) -> None:
        self._threads = [threading.Thread(target=work, args=(client,), daemon=True) for client in self._clients]
        for thread in self._threads:
            thread.start()
