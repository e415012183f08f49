"""Power loss: a run is recorded, and the server is started on what a file system may hold after a cut at any moment.

Other ways were weighed. A device that drops writes (dm-log-writes, dm-flakey) needs a kernel module and root, and
shows only the states that one file system comes to; a file system in user space that forgets what was not synced shows
one state for each cut. A record gives every state that POSIX allows, also reordered and torn ones, on any machine. That
it misses no change is checked: replayed whole, it has to give exactly the folder that the run left.
"""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from random import Random

from kixo.errors import StartFailed
from kixo.timestamp import now_us
from torture import oracle, record
from torture.account import Account
from torture.disk import Disk, Loss, State, write_state
from torture.event import KnownSource
from torture.installation import Installation
from torture.record import Entry
from torture.recording import DATA, UNRECORDED, KeyPromise, Recorded, Recorder, start_recorded
from torture.recovery import Told, differences, live_keys, recover
from torture.shim import build
from torture.trial import Orders
from torture.verdict import Verdict

STATES, STATES_SHORT = 400, 16
EVENTS, EVENTS_SHORT = 1500, 300
# Where most is at stake: around syncs, changes of names, and answers.
MOMENTS = {record.SYNCED, record.RENAMED, record.LINKED, record.UNLINKED, record.SENT}
SHOWN = 8
FINDINGS = ("lost", "doubled", "foreign", "altered", "unrecorded")
AUDIT_EVERY, SERVE_EVERY, CUT_AGAIN_EVERY = 5, 40, 8


@dataclass
class Cuts:
    """The record that is cut, where its states are built, and what came of all of them so far."""

    recorded: Recorded
    folder: Path
    library: Path
    dice: Random
    seen: set[bytes] = field(default_factory=set)
    states: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    unacknowledged: int = 0
    broken: list[str] = field(default_factory=list)
    recovery_s: list[float] = field(default_factory=list)


def cut_power(orders: Orders) -> Verdict:
    """Records a run, and starts anew from states that a power cut in it could have left."""
    began_s, dice = time.monotonic(), Random(f"{orders.seed}/power")
    folder, library = orders.folder / "power", build(orders.tools())
    recorder = Recorder(folder, library, KnownSource(orders.seed, now_us()))
    disk = Disk(recorder.disk)
    cuts = Cuts(recorder.run(EVENTS_SHORT if orders.short else EVENTS), folder, library, dice)
    for number, state, name in _states(disk, cuts, orders.count(STATES, STATES_SHORT)):
        cuts.states[name] += 1
        _try(state, number, name, cuts)
    cuts.broken += _unlike(disk.crash(Loss.NOTHING, dice), recorder.disk)
    return _verdict(orders, time.monotonic() - began_s, cuts)


def _try(state: State, number: int, name: str, cuts: Cuts) -> None:
    moment = f"{name}, cut before entry {number} of the record"
    if cuts.states.total() % CUT_AGAIN_EVERY == 0:
        moment += ", and again while starting"
        state = _cut_again(state, moment, cuts)
    cuts.seen.add(_digest(state))
    with _on_disk(state, cuts.folder / "state") as data:
        _judge(data, number, moment, cuts)


def _cut_again(state: State, moment: str, cuts: Cuts) -> State:
    """What a second power cut leaves of a state while the server starts on it."""
    again = cuts.folder / "record-again"
    again.mkdir()
    with _on_disk(state, cuts.folder / "state") as data:
        disk = Disk(data.parent)
        try:
            entries = start_recorded(data, again, cuts.library, cuts.recorded)
        except subprocess.CalledProcessError as error:
            cuts.broken.append(f"{moment}: {error.stderr}")
            return state
        finally:
            shutil.rmtree(again)
    for entry in entries[: cuts.dice.randint(0, len(entries))]:
        disk.apply(entry)
    return _recorded_part(disk.crash(cuts.dice.choice(list(Loss)), cuts.dice))


def _states(disk: Disk, cuts: Cuts, count: int) -> Iterator[tuple[int, State, str]]:
    """States after power cuts, with the number of the first entry that the cut prevented, and what was lost."""
    entries, dice = cuts.recorded.entries, cuts.dice
    places = sorted(_places(entries, count, dice))
    for number, entry in enumerate(entries):
        while places and places[0] == number:
            places.pop(0)
            loss = dice.choice(list(Loss))
            yield number, _recorded_part(disk.crash(loss, dice)), loss.value
        disk.apply(entry)


def _places(entries: list[Entry], count: int, dice: Random) -> Iterator[int]:
    last = len(entries) - 1
    moments = [number for number, entry in enumerate(entries) if entry.kind in MOMENTS]
    for _ in range(count):
        yield min(last, dice.choice(moments) + dice.randint(0, 1)) if dice.random() < 0.8 else dice.randint(0, last)


def _recorded_part(state: State) -> State:
    def recorded(path: str) -> bool:
        return not any(fnmatchcase(path, pattern) for pattern in UNRECORDED)

    return {path: content for path, content in state.items() if recorded(path)}


def _digest(state: State) -> bytes:
    return blake2b(repr(sorted(state.items())).encode()).digest()


@contextmanager
def _on_disk(state: State, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    write_state(state, folder)
    try:
        yield folder / DATA
    finally:
        shutil.rmtree(folder)


def _judge(data: Path, number: int, moment: str, cuts: Cuts) -> None:
    told, began_s, recorded = Told(), time.monotonic(), cuts.recorded
    try:
        if cuts.states.total() % SERVE_EVERY == 1:
            tokens = _serve(data)
        else:
            tokens = recover(data, recorded.keys[0].credential, recorded.source, told)
        cuts.recovery_s.append(round(time.monotonic() - began_s, 3))
        found = oracle.reconcile(data / "lake", _account_at(recorded, number, tokens), recorded.source)
        # An audit takes longer than all else, and looks at what the oracle has looked at.
        audited = differences(data) if cuts.states.total() % AUDIT_EVERY == 0 else []
        broken = [*audited, *_key_faults(data, recorded.keys, number), *told.errors]
    except Exception as error:  # noqa: BLE001 - whatever it is, a server would not start
        cuts.broken.append(f"{moment}: {error!r}")
        return
    cuts.unacknowledged += found.unacknowledged
    for what in FINDINGS:
        names = getattr(found, what)
        cuts.findings[what] += len(names)
        broken += [f"{len(names)} {what}: {', '.join(names[:SHOWN])}"] if names else []
    cuts.broken += [f"{moment}: {sentence}" for sentence in broken]


def _serve(data: Path) -> list[str]:
    """The whole server, instead of its parts: starts, loads, and stops. It takes no events, so it gives no tokens."""
    data.mkdir(exist_ok=True)
    with Installation(data, projects=None) as server:
        server.start()
        if server.stop() != 0:
            raise StartFailed("The server did not end in order.", server.last_lines())
    return []


def _account_at(recorded: Recorded, number: int, tokens: list[str]) -> Account:
    """What clients had been told when the power was cut, and the events that were taken after it."""
    account = Account()
    account.note_sent([token for token, count in recorded.sent.sent.items() for _ in range(count)])
    account.note_sent(tokens)
    for promise in recorded.promises:
        if promise.since < number:
            account.note_answer(promise.tokens, promise.answer, 0.0)
    account.accepted.update(tokens)
    return account


def _key_faults(data: Path, keys: list[KeyPromise], number: int) -> list[str]:
    live = live_keys(data, [key.credential for key in keys])
    lost = [key for key in keys if key.since < number <= key.asked and key.credential not in live]
    back = [key for key in keys if key.revoked < number and key.credential in live]
    return [f"{len(lost)} keys lost"] * bool(lost) + [f"{len(back)} revoked keys live"] * bool(back)


def _unlike(state: State, root: Path) -> list[str]:
    """Where the whole record, replayed, is not what the run left: then the shim missed a change."""
    replayed = _recorded_part(state)
    real = {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in sorted(root.rglob("*"))
    }
    real = {".": None, **_recorded_part(real)}
    differing = [path for path in {*replayed, *real} if replayed.get(path, b"-") != real.get(path, b"-")]
    return [f"The record misses changes of {path}." for path in differing]


def _verdict(orders: Orders, seconds: float, cuts: Cuts) -> Verdict:
    recorded = cuts.recorded
    account = _account_at(recorded, len(recorded.entries), [])
    return Verdict(
        attack="power",
        seed=orders.seed,
        seconds=round(seconds, 1),
        faults=dict(cuts.states),
        requests=recorded.sent.outcomes.total(),
        answers=dict(recorded.sent.outcomes),
        acknowledged=len(account.accepted),
        rejected=len(account.rejected),
        lost=cuts.findings["lost"],
        doubled=cuts.findings["doubled"],
        foreign=cuts.findings["foreign"],
        altered=cuts.findings["altered"],
        unrecorded=cuts.findings["unrecorded"],
        unacknowledged=cuts.unacknowledged,
        recovery_s=cuts.recovery_s,
        broken=[*dict.fromkeys(recorded.sent.faults), *cuts.broken],
        figures={"changes recorded": len(recorded.entries), "distinct states": len(cuts.seen)},
    )
