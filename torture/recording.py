"""A run whose every change of the disk is recorded, with what clients were told, in one order.

It begins with nothing: the first command makes the data folder, so that its making is a part of the record. An answer
stands in the record before its bytes were sent, a key before its command has ended; from there on a power cut may
take nothing of it.
"""

import json
import os
import subprocess
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kixo.bench.traffic import Credential
from kixo.errors import StartFailed
from kixo.log import durable
from torture.account import Account, Answer
from torture.client import Client, Habits, Traffic
from torture.event import Source
from torture.installation import BUSY, Installation
from torture.record import SENT, Entry, read_record, record_bytes
from torture.shim import Plan, Rule, preload, recording

REPOSITORY = Path(__file__).parent.parent
DATA, WORKER = "data", "kixo.server.worker"
PROJECTS = 3
HABITS = Habits(clients=PROJECTS, pause_s=0.02, large_share=0.02)
EVENTS_S_MAX = 120.0
# So that there are segments which were given up, too: syncs of the log that fail, by their number.
FAILING_SYNCS = (5, 23, 60, 111)
# What only matters while a server runs, what is not written through the shim, and what is written as mapped memory.
UNRECORDED = (f"{DATA}/run", f"{DATA}/run/*", f"{DATA}/server.log", f"{DATA}/log/*/{durable.NAME}")


class Told(NamedTuple):
    """An answer that a client read: on which port of its, to which events, and what it said."""

    port: int
    tokens: list[str]
    answer: Answer


class Promise(NamedTuple):
    """From the entry number `since` of the record on, a client may have been told this."""

    since: int
    tokens: list[str]
    answer: Answer


class KeyPromise(NamedTuple):
    """A key that is live from an entry on, and from `asked` on may be revoked, and from `revoked` on has to be."""

    credential: Credential
    since: int
    asked: float = float("inf")
    revoked: float = float("inf")


class Recorded(NamedTuple):
    """A run: its changes, and all that was promised while it went on. `sent` are the tokens of all events."""

    entries: list[Entry]
    promises: list[Promise]
    keys: list[KeyPromise]
    sent: Account
    source: Source


class RecordedClient(Client):
    """A client that remembers on which connection it read each answer."""

    port = 0

    def __init__(self, number: int, credential: Credential, url: str, source: Source, account: Account) -> None:
        super().__init__(number, credential, lambda: url, source, account, HABITS)
        self.told: list[Told] = []

    def _send(self, tokens: list[str]) -> Answer:
        answer = super()._send(tokens)
        if answer.status:
            self.told.append(Told(self.port, tokens, answer))
        return answer

    def _exchange(self, body: bytes, headers: dict[str, str]) -> Answer:
        connection = self._connect()
        self.port = connection.sock.getsockname()[1]
        return super()._exchange(body, headers)


class Recorder:
    """A disk, `folder / "disk"`, on which everything is done under the shim."""

    def __init__(self, folder: Path, library: Path, source: Source) -> None:
        self.disk = folder / "disk"
        self._record = folder / "record"
        self._source = source
        for path in (self.disk, self._record):
            path.mkdir(parents=True)
        plan = Plan(folder / "plan")
        plan.write(*(Rule("sync", "*/log/[0-9]*/*.log", str(nth), "EIO", WORKER) for nth in FAILING_SYNCS))
        self._environment = {**BUSY, **preload(library), **recording(self._record, self.disk), **plan.environment}
        self._keys: list[tuple[Credential, int, float, float]] = []

    def run(self, events: int) -> Recorded:
        """Makes projects and keys, takes at least `events` events while keys come and go, and stops the server."""
        account = Account()
        credentials = [self._create_project() for _ in range(PROJECTS)]
        with Installation(self.disk / DATA, self._environment, projects=None) as server:
            server.start()
            clients = [
                RecordedClient(number, credential, server.url, self._source, account)
                for number, credential in enumerate(credentials)
            ]
            with Traffic(list(clients)).flowing():
                spare = self._create_key(credentials[0].project_id)
                self._revoke_key(spare)
                if not account.wait_for_events(events, EVENTS_S_MAX):
                    raise StartFailed("The server took too few events.", server.last_lines())
            server.stop()
        return self._recorded(clients, account)

    def _recorded(self, clients: list[RecordedClient], account: Account) -> Recorded:
        entries = read_record(self._record)
        ends = [entry.end for entry in entries]
        keys = [
            KeyPromise(credential, bisect_left(ends, since), *(_number(ends, size) for size in sizes))
            for credential, since, *sizes in self._keys
        ]
        promises = list(_promises(entries, [told for client in clients for told in client.told]))
        return Recorded(entries, promises, keys, account, self._source)

    def _create_project(self) -> Credential:
        return self._create_key(str(self._kixo("project", "create", "--json")["id"]))

    def _create_key(self, project_id: str) -> Credential:
        credential = Credential(project_id, str(self._kixo("key", "create", project_id, "--json")["api_key"]))
        self._keys.append((credential, record_bytes(self._record), float("inf"), float("inf")))
        return credential

    def _revoke_key(self, credential: Credential) -> None:
        asked = record_bytes(self._record)
        self._kixo("key", "revoke", credential.api_key, "--json")
        place = [key[0] for key in self._keys].index(credential)
        self._keys[place] = (*self._keys[place][:2], asked, record_bytes(self._record))

    def _kixo(self, *arguments: str) -> dict[str, object]:
        command = [sys.executable, "-m", "kixo", *arguments, "--data-dir", str(self.disk / DATA)]
        environment = {**os.environ, **self._environment}
        done = subprocess.run(command, env=environment, cwd=self.disk, capture_output=True, text=True, check=True)
        said: dict[str, object] = json.loads(done.stdout)
        return said


def start_recorded(data: Path, folder: Path, library: Path, recorded: Recorded) -> list[Entry]:
    """Starts on a data folder as `torture.recovery` does; what that changes. Raises `CalledProcessError`."""
    credential, source = recorded.keys[0].credential, recorded.source
    words = [str(data), credential.project_id, credential.api_key, str(source.seed), str(source.base_us)]
    environment = {**os.environ, **preload(library), **recording(folder, data.parent)}
    command = [sys.executable, "-m", "torture.recovery", *words]
    subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return read_record(folder)


def _number(ends: list[int], size: float) -> float:
    return size if size == float("inf") else bisect_left(ends, size)


def _promises(entries: list[Entry], told: list[Told]) -> Iterator[Promise]:
    """Each answer at the entry that says that it was sent: on a connection, answers come in the order of requests."""
    sent = defaultdict(list)
    for number, entry in enumerate(entries):
        if entry.kind == SENT:
            sent[entry.inode].append(number)
    for port, tokens, answer in told:
        yield Promise(sent[port].pop(0), tokens, answer)
