"""The oracle of `python -m torture` has to be able to find what it looks for, and a seed has to repeat its choices."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from kixo import clock
from kixo.bench.traffic import Credential
from kixo.decode import judge_events, open_request
from tests.services import S3
from torture.account import NO_ANSWER, Account, Answer
from torture.attacks import ATTACKS
from torture.client import Client, Habits, read_answer
from torture.cluster.upgrade import old_code
from torture.event import BAD, FINGERPRINT, TWINS, WITH_ID, Source
from torture.lake import S3Folder
from torture.oracle import EVENT_COLUMNS, REJECTED_COLUMNS, Findings, reconcile
from torture.skipped import Skipped
from torture.trial import Orders
from torture.verdict import Verdict

NOW_US = 1_775_649_600_000_000
SOURCE = Source(7, NOW_US)
GOOD = [f"0-{number}-{kind}" for number, kind in enumerate(WITH_ID + FINGERPRINT + TWINS)]
BADS = ["0-8-b", "0-9-b"]
INSTANTS = ("client_timestamp", "timestamp", "sent_at", "received_at")

Rows = list[dict[str, Any]]


def event_rows(token: str) -> Rows:
    made = SOURCE.make(token)
    assert made.row is not None
    timestamp, rule = clock.correct(made.row.client_us, None, NOW_US, 60_000_000)
    seen = {"timestamp": timestamp, "sent_at": None, "received_at": NOW_US, "clock_rule": rule}
    row = {**dict(zip(EVENT_COLUMNS, made.row, strict=False)), **seen}
    return [dict(row) for _ in range(2 if token.endswith(TWINS) else 1)]


def rejected_rows(token: str) -> Rows:
    made = SOURCE.make(token)
    return [{"code": made.code, "event": made.text}]


def table_of(columns: tuple[str, ...], rows: Rows) -> pa.Table:
    types = [pa.timestamp("us", "UTC") if column in INSTANTS else pa.string() for column in columns]
    arrays = [pa.array([row[column] for row in rows], kind) for column, kind in zip(columns, types, strict=True)]
    return pa.table(arrays, names=list(columns))


def write(folder: Path, name: str, columns: tuple[str, ...], rows: Rows) -> None:
    write_deltalake(folder / name, table_of(columns, rows))


def told() -> Account:
    """An account in which all was sent, and all was answered as it should be."""
    account = Account()
    tokens = [*GOOD, GOOD[-1], *BADS]
    account.note_sent(tokens)
    bad = {place: SOURCE.make(token).code for place, token in enumerate(tokens) if token.endswith(BAD)}
    account.note_answer(tokens, Answer(200, "ok", len(tokens) - len(bad), bad), 1.0)
    return account


def found(folder: Path, events: Rows, rejected: Rows, account: Account | None = None) -> Findings:
    write(folder, "events", EVENT_COLUMNS, events)
    write(folder, "rejected", REJECTED_COLUMNS, rejected)
    return reconcile(folder, account or told(), SOURCE)


@pytest.fixture
def events() -> Rows:
    return [row for token in GOOD for row in event_rows(token)]


@pytest.fixture
def rejected() -> Rows:
    return [row for token in BADS for row in rejected_rows(token)]


def test_a_lake_that_holds_what_was_told_is_found_to_be_right(tmp_path: Path, events: Rows, rejected: Rows) -> None:
    assert found(tmp_path, events, rejected) == Findings()


def test_tables_in_a_bucket_are_read_as_those_in_a_folder(s3: S3, events: Rows, rejected: Rows) -> None:
    lake = S3Folder(s3.url(), s3.variables)
    for name, columns, rows in (("events", EVENT_COLUMNS, events[1:]), ("rejected", REJECTED_COLUMNS, rejected)):
        write_deltalake(f"{lake.url}/{name}", table_of(columns, rows), storage_options={**s3.variables})
    assert reconcile(lake, told(), SOURCE) == Findings(lost=[GOOD[0]])


def test_a_missing_row_is_lost(tmp_path: Path, events: Rows, rejected: Rows) -> None:
    assert found(tmp_path, events[1:], rejected) == Findings(lost=[GOOD[0]])


def test_one_of_two_twins_is_lost(tmp_path: Path, events: Rows, rejected: Rows) -> None:
    assert found(tmp_path, events[:-1], rejected) == Findings(lost=[GOOD[-1]])


def test_a_row_too_many_is_doubled(tmp_path: Path, events: Rows, rejected: Rows) -> None:
    assert found(tmp_path, [*events, events[1]], rejected) == Findings(doubled=[GOOD[1]])


def test_an_event_that_nobody_sent_is_foreign(tmp_path: Path, events: Rows, rejected: Rows) -> None:
    assert found(tmp_path, [*events, *event_rows("3-1-i")], rejected) == Findings(foreign=["3-1-i"])


def test_a_bad_event_among_the_good_is_foreign(tmp_path: Path, events: Rows, rejected: Rows) -> None:
    smuggled = {**events[0], "event_name": BADS[0]}
    assert found(tmp_path, [*events, smuggled], rejected) == Findings(foreign=[BADS[0]])


@pytest.mark.parametrize(("column", "value"), [("properties", '{"x":1}'), ("device_id", "other"), ("event_id", "")])
def test_a_row_that_holds_something_else_is_altered(
    tmp_path: Path, events: Rows, rejected: Rows, column: str, value: str
) -> None:
    (sentence,) = found(tmp_path, [{**events[0], column: value}, *events[1:]], rejected).altered
    assert sentence.startswith(GOOD[0])


@pytest.mark.parametrize("wrong", [{"timestamp": NOW_US + 1}, {"clock_rule": "ahead"}, {"sent_at": NOW_US + 1}])
def test_a_time_that_the_clock_rules_do_not_give_is_altered(
    tmp_path: Path, events: Rows, rejected: Rows, wrong: dict[str, Any]
) -> None:
    assert len(found(tmp_path, [{**events[0], **wrong}, *events[1:]], rejected).altered) == 1


def test_a_rejection_that_was_told_and_is_not_kept_is_unrecorded(tmp_path: Path, events: Rows, rejected: Rows) -> None:
    assert found(tmp_path, events, rejected[:1]) == Findings(unrecorded=[BADS[1]])


def test_a_rejection_of_what_nobody_sent_is_foreign(tmp_path: Path, events: Rows, rejected: Rows) -> None:
    stray = {"code": "missing", "event": "{}"}
    assert found(tmp_path, events, [*rejected, stray]) == Findings(foreign=["missing: {}"])
    assert len(found(tmp_path / "again", events, [*rejected, rejected[0]]).foreign) == 1


def test_what_was_stored_without_an_answer_is_counted_and_allowed(tmp_path: Path, events: Rows, rejected: Rows) -> None:
    account = told()
    account.note_sent(["1-1-f"])
    assert found(tmp_path, [*events, *event_rows("1-1-f")], rejected, account) == Findings(unacknowledged=1)


def test_answers_that_contradict_the_events_are_remembered() -> None:
    account = Account()
    account.note_answer(["0-1-i", "0-2-b"], Answer(200, "ok", 1, {0: "missing"}), 1.0)
    assert (account.wrongly_rejected, account.let_in, account.faults) == ({"0-1-i"}, {"0-2-b"}, [])
    account.note_answer(["0-1-i"], Answer(200, "ok", 2), 1.0)
    assert len(account.faults) == 1


@pytest.mark.parametrize("wrong", ["lost", "doubled", "foreign", "altered", "unrecorded", "let_in", "wrongly_rejected"])
def test_one_wrong_event_fails_a_verdict(wrong: str) -> None:
    good = Verdict(attack="any", seed=1, unacknowledged=5)
    assert good.passed
    assert not msgspec.structs.replace(good, **{wrong: 1}).passed


@pytest.mark.parametrize("wrong", ["audit", "broken"])
def test_one_sentence_fails_a_verdict(wrong: str) -> None:
    assert not Verdict(attack="any", seed=1, **{wrong: ["Something."]}).passed  # type: ignore[arg-type]


def test_an_event_is_spelled_the_same_in_every_copy_and_otherwise_with_another_seed() -> None:
    tokens = [f"1-{number}-{BAD if number % 9 == 0 else FINGERPRINT}" for number in range(300)]
    first, again, other = ([Source(seed, NOW_US).make(token).text for token in tokens] for seed in (1, 1, 2))
    assert first == again
    assert len(set(first) & set(other)) < len(tokens) / 20


def test_the_server_judges_events_as_the_driver_does() -> None:
    made = [SOURCE.make(f"1-{number}-{(WITH_ID, FINGERPRINT, BAD)[number % 3]}") for number in range(600)]
    envelope = '{"project_id":"p","api_key":"k","bundle_id":"b","platform":"web","batch":['
    request = open_request((envelope + ",".join(event.text for event in made) + "]}").encode())
    rejected = {event.index: event.code for event in judge_events(request.events).rejected}
    assert rejected == {place: event.code for place, event in enumerate(made) if event.code}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"status":"ok","accepted":3}', Answer(200, "ok", 3)),
        (b'{"status":"ok","accepted":1,"rejected":1,"errors":[{"index":1,"code":"missing"}]}',
         Answer(200, "ok", 1, {1: "missing"})),
    ],
)  # fmt: skip
def test_a_client_reads_what_it_is_told(body: bytes, answer: Answer) -> None:
    assert read_answer(200, body) == answer


def test_a_client_never_has_an_event_twice_in_a_batch() -> None:
    sent: list[list[str]] = []

    class Deaf(Client):
        """Remembers what it sends, and now and then hears no answer."""

        def _send(self, tokens: list[str]) -> Answer:
            sent.append(tokens)
            return Answer(0, NO_ANSWER) if len(sent) % 3 else Answer(200, "ok", len(tokens))

    habits = Habits(clients=1, again_share=0.5, large_share=0, hang_up_share=0)
    client = Deaf(0, Credential("p", "k"), lambda: "", SOURCE, Account(), habits)
    for _ in range(60):
        client.step(NeverWaits())
    units = [Counter(token for token in tokens if not token.endswith(TWINS)) for tokens in sent]
    assert len(sent) > 100
    assert max(max(counter.values(), default=0) for counter in units) == 1
    twins = [Counter(token for token in tokens if token.endswith(TWINS)) for tokens in sent]
    assert {count for counter in twins for count in counter.values()} == {2}


class NeverWaits(threading.Event):
    """An event that is never set and for which nobody waits."""

    def wait(self, timeout: float | None = None) -> bool:
        return False


def test_a_seed_repeats_what_a_client_sends() -> None:
    def sends(seed: int) -> list[list[str]]:
        sent: list[list[str]] = []

        class Heard(Client):
            def _send(self, tokens: list[str]) -> Answer:
                sent.append(tokens)
                return Answer(200, "ok", len(tokens))

        client = Heard(0, Credential("p", "k"), lambda: "", Source(seed, NOW_US), Account(), Habits(clients=1))
        for _ in range(20):
            client.step(NeverWaits())
        return sent

    assert sends(1) == sends(1)
    assert sends(1) != sends(2)


def test_a_client_that_is_refused_goes_to_the_next_node_if_that_is_its_habit() -> None:
    def nodes_tried(*, moves_on: bool) -> list[str]:
        tried: list[str] = []

        class Refused(Client):
            """Is refused twice at whatever node it is connected to."""

            def _send(self, tokens: list[str]) -> Answer:
                if self._connection is None:
                    self._connection = HTTPConnection(self._url())
                tried.append(self._connection.host)
                return Answer(503, "unavailable") if len(tried) < 3 else Answer(200, "ok", len(tokens))

        turns = cycle(["one", "two"])
        habits = Habits(clients=1, moves_on=moves_on)
        Refused(0, Credential("p", "k"), lambda: next(turns), SOURCE, Account(), habits).step(NeverWaits())
        return tried[:3]

    assert nodes_tried(moves_on=True) == ["one", "two", "one"]
    assert nodes_tried(moves_on=False) == ["one"] * 3


def test_recovery_may_be_that_of_every_client() -> None:
    account = Account()
    account.note_answer(["0-1-i"], Answer(200, "ok", 1), 5.0)
    assert account.wait_for_answer(4.0, 0) is not None
    assert account.wait_for_answer(4.0, 0, 2) is None
    account.note_answer(["1-1-i"], Answer(200, "ok", 1), 4.0)
    assert account.wait_for_answer(4.0, 0, 2) is None
    account.note_answer(["1-2-i"], Answer(200, "ok", 1), 4.5)
    assert account.wait_for_answer(4.0, 0, 2) is not None


def test_failures_in_a_row_are_those_of_one_client() -> None:
    account = Account()
    for client in ("0", "1", "0", "1"):
        account.note_answer([f"{client}-1-{WITH_ID}"], Answer(503, "unavailable"), 1.0)
    account.note_answer([f"0-1-{WITH_ID}"], Answer(200, "ok", 1), 1.0)
    account.note_answer([f"0-2-{WITH_ID}"], Answer(0, NO_ANSWER), 1.0)
    assert account.longest_failures == 2


def test_an_upgrade_begins_with_an_older_code_that_has_the_formats_of_today(tmp_path: Path) -> None:
    try:
        variables = old_code(tmp_path)
    except Skipped as error:
        pytest.skip(str(error))
    told = [sys.executable, "-m", "kixo", "load", "--help"]
    subprocess.run(told, check=True, capture_output=True, env=variables)
    older = Path(variables["PYTHONPATH"], "kixo")
    assert (older / "loader" / "kafka_group.py").exists()
    assert not (older / "limits" / "looking.py").exists()


def test_an_upgrade_is_skipped_where_no_history_is(tmp_path: Path) -> None:
    with pytest.raises(Skipped, match="history"):
        old_code(tmp_path, repository=tmp_path)


def test_every_attack_has_a_name_of_its_own_and_a_sentence() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert all(attack.sentence.endswith(".") for attack in ATTACKS)


def test_the_counts_of_faults_follow_the_orders(tmp_path: Path) -> None:
    counts: list[Callable[[], int]] = [
        lambda: Orders(tmp_path, 1).count(100, 5),
        lambda: Orders(tmp_path, 1, short=True).count(100, 5),
        lambda: Orders(tmp_path, 1, 7, short=True).count(100, 5),
    ]
    assert [count() for count in counts] == [100, 5, 7]
