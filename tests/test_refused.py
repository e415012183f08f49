"""The record of refused requests: what a reader learns, what a flood costs, and that no key gets into it."""

import base64
import gzip
import json
import os
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kixo.errors import InvalidJSON, InvalidRequest, RateLimited, RequestError, Unauthorized, UnsupportedMediaType
from kixo.excerpt import excerpt
from kixo.ingest import Ingest, Refusal
from kixo.limits import REFUSED, Unlimited, Verdict
from kixo.refused import (
    ENTRY,
    KEPT_MAX,
    LOOKED_AT_MAX,
    SLOT_BYTES,
    SLOTS,
    SLOTS_AT,
    RefusedRecord,
    RefusedRequest,
    Ring,
    read_refused,
)
from kixo.settings import Settings
from kixo.snapshot import Sender, Snapshot, key_hash
from tests.conftest import Project, Server, Wire, chunk, event, head, running
from tests.test_server import wait_until

NOW_US = 1_775_649_600_000_000
SECOND_US = 1_000_000
KEY = "kx_key_" + "q7w9" * 8
OTHER_KEY = "s3cr3t'/w0rd+of-another.shape"
MINE, THEIRS = "kx_proj_mine", "kx_proj_theirs"


def snapshot() -> Snapshot:
    keys = {key_hash(key): Sender(number, number, key_hash(key)) for number, key in ((1, KEY), (2, OTHER_KEY))}
    return Snapshot(1, {MINE: 1, THEIRS: 2}, keys)


INGEST = Ingest(snapshot, Unlimited(), lambda: 0, Settings())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "refused"


@pytest.fixture
def record(folder: Path) -> Iterator[RefusedRecord]:
    with closing(opened(folder)) as record:
        yield record


def opened(folder: Path, place: str = "worker-0", now_us: int = NOW_US) -> RefusedRecord:
    return RefusedRecord(Ring(folder / place, now_us), snapshot)


def told(folder: Path) -> list[tuple[str, str | None]]:
    return [(entry.message, entry.project_id) for entry in read_refused(folder).entries]


def note(record: RefusedRecord, at_us: int, message: str, project_id: str | None = MINE) -> None:
    record.note(at_us, Unauthorized(message), project_id)


def test_a_reader_learns_of_each_refused_request_once(record: RefusedRecord, folder: Path) -> None:
    first = InvalidJSON("It is not JSON.", position=25)
    record.note(NOW_US, first, None, b'{"project_id": "%b", ' % MINE.encode())
    looked = read_refused(folder)
    assert looked.entries == [
        RefusedRequest(
            at_us=NOW_US,
            status=400,
            code="invalid_json",
            message="It is not JSON.",
            project_id=MINE,
            position=25,
            excerpt='{"project_id": "************", ',
            excerpt_at=25,
        )
    ]
    assert read_refused(folder, looked.next).entries == []
    record.note(NOW_US + 1, InvalidRequest("`batch` is missing.", field="batch"), THEIRS)
    (entry,) = read_refused(folder, looked.next).entries
    assert (entry.code, entry.field, entry.project_id, entry.excerpt) == ("invalid_request", "batch", THEIRS, None)


def test_without_a_folder_there_is_nothing_to_tell(folder: Path) -> None:
    assert read_refused(folder) == ([], {}, 0, 0)


def test_the_newest_entries_are_kept(record: RefusedRecord, folder: Path) -> None:
    for number in range(SLOTS + 7):
        note(record, NOW_US + number * SECOND_US, str(number))
    assert told(folder) == [(str(number), MINE) for number in range(7, SLOTS + 7)]


def test_entries_of_all_workers_come_in_the_order_of_time(folder: Path) -> None:
    with closing(opened(folder)) as one, closing(opened(folder, "worker-1", NOW_US + 50)) as other:
        note(one, NOW_US, "a")
        note(other, NOW_US + 1, "b")
        looked = read_refused(folder)
        note(one, NOW_US + 2, "c")
        note(other, NOW_US + 3, "d")
    assert [entry.message for entry in looked.entries] == ["a", "b"]
    assert [entry.message for entry in read_refused(folder, looked.next).entries] == ["c", "d"]


def test_a_worker_that_starts_again_goes_on_after_its_entries(folder: Path) -> None:
    with closing(opened(folder)) as record:
        note(record, NOW_US, "before")
    looked = read_refused(folder)
    # Its clock has been set back meanwhile.
    with closing(opened(folder, now_us=5)) as record:
        note(record, 5, "after")
    assert [entry.message for entry in read_refused(folder, looked.next).entries] == ["after"]
    assert sorted(message for message, _ in told(folder)) == ["after", "before"]


def test_a_file_made_anew_is_read_from_its_first_entry_on(folder: Path) -> None:
    with closing(opened(folder)) as record:
        note(record, NOW_US, "before")
        looked = read_refused(folder)
        (folder / "worker-0").unlink()
    with closing(opened(folder, now_us=NOW_US + SECOND_US)) as record:
        note(record, NOW_US + SECOND_US, "after")
    assert [entry.message for entry in read_refused(folder, looked.next).entries] == ["after"]


@pytest.mark.parametrize("damage", ["short", "other layout", "garbage"])
def test_a_file_that_is_no_record_tells_nothing_and_is_made_anew(folder: Path, damage: str) -> None:
    with closing(opened(folder)) as record:
        note(record, NOW_US, "before")
    path = folder / "worker-0"
    if damage == "short":
        os.truncate(path, SLOTS_AT)
    elif damage == "garbage":
        path.write_bytes(os.urandom(5000))
    else:
        path.write_bytes(b"kixo refused 9" + path.read_bytes()[14:])
    assert told(folder) == []
    with closing(opened(folder)) as record:
        note(record, NOW_US, "after")
        assert told(folder) == [("after", MINE)]


def test_an_entry_torn_at_any_byte_is_passed_over(record: RefusedRecord, folder: Path) -> None:
    """What a reader sees of an entry that is being written over another one: some of the bytes of each."""
    path, slot = folder / "worker-0", SLOTS_AT + NOW_US % SLOTS * SLOT_BYTES
    note(record, NOW_US, "old" * 20)
    old = path.read_bytes()[slot : slot + SLOT_BYTES]
    for number in range(SLOTS):
        note(record, NOW_US + number * SECOND_US, "new")
    new = path.read_bytes()[slot : slot + SLOT_BYTES]
    with path.open("r+b") as file:
        for cut in range(1, 160):
            torn = new[:cut] + old[cut:]
            os.pwrite(file.fileno(), torn, slot)
            whole = torn.startswith((old.rstrip(b"\0"), new[: ENTRY.size + ENTRY.unpack_from(new)[2]]))
            assert len(told(folder)) == SLOTS - (not whole)


def test_a_length_that_cannot_be_is_no_entry(record: RefusedRecord, folder: Path) -> None:
    note(record, NOW_US, "a")
    note(record, NOW_US, "b")
    data = bytearray((folder / "worker-0").read_bytes())
    struct.pack_into("<Q", data, SLOTS_AT + NOW_US % SLOTS * SLOT_BYTES + 16, 2**60)
    (folder / "worker-0").write_bytes(data)
    assert told(folder) == [("b", MINE)]


def test_a_flood_is_counted_and_hides_no_other_project_and_no_other_reason(record: RefusedRecord, folder: Path) -> None:
    for number in range(50):
        note(record, NOW_US + number, "flood")
    note(record, NOW_US + 60, "quiet", THEIRS)
    record.note(NOW_US + 61, InvalidRequest("another reason", field="batch"), MINE)
    looked = read_refused(folder)
    assert [entry.message for entry in looked.entries] == ["flood"] * KEPT_MAX + ["quiet", "another reason"]
    assert looked.skipped == 50 - KEPT_MAX
    note(record, NOW_US + SECOND_US, "next second")
    assert told(folder)[-1] == ("next second", MINE)


def test_beyond_a_bound_nothing_is_looked_at(record: RefusedRecord, folder: Path) -> None:
    for _ in range(LOOKED_AT_MAX):
        note(record, NOW_US, "flood", None)
    note(record, NOW_US, "too late", THEIRS)
    assert told(folder) == [("flood", None)] * KEPT_MAX
    assert read_refused(folder).skipped == LOOKED_AT_MAX + 1 - KEPT_MAX


def test_an_id_that_nobody_has_is_counted_and_not_kept(record: RefusedRecord, folder: Path) -> None:
    note(record, NOW_US, "a", KEY)
    record.note(NOW_US, InvalidJSON("b", position=0), None, b'{"project_id":"%b"' % KEY.encode())
    note(record, NOW_US, "c", None)
    looked = read_refused(folder)
    assert [entry.project_id for entry in looked.entries] == [None] * 3
    assert looked.unknown == 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"project_id":"kx_proj_mine",}',
        b"{'project_id' : 'kx_proj_mine'}",
        b"project_id=kx_proj_mine&x=1",
        b'{\\"project_id\\": \\"kx_proj_mine\\"}',
        b'{"batch":[{"properties":{"project_id":"unknown"}}], "project_id":"kx_proj_mine"',
        b'{"project_id":"kx_proj_mine' + b" " * 1_000_000,
        b"{" + b" " * 1_000_000 + b'"project_id":"kx_proj_mine"',
        b"{project_id: kx_proj_mine}\xff",
    ],
)
def test_what_is_broken_is_tied_to_the_project_it_names(record: RefusedRecord, folder: Path, body: bytes) -> None:
    record.note(NOW_US, InvalidJSON("It is not JSON.", position=3), None, body)
    assert told(folder) == [("It is not JSON.", MINE)]


def test_without_a_file_nothing_is_kept_and_nothing_fails() -> None:
    record = RefusedRecord(None, snapshot)
    note(record, NOW_US, "a")
    record.close()


class Full(Unlimited):
    """A limit that has no place left."""

    def admit(self, project_number: int, now_ns: int) -> Verdict:
        return REFUSED


def test_what_is_limited_is_tied_to_its_project(record: RefusedRecord, folder: Path) -> None:
    limited = Ingest(snapshot, Full(), lambda: 0, Settings())
    assert isinstance(refuse(record, Project(MINE, KEY).body(event()), limited), RateLimited)
    assert [(entry.code, entry.project_id) for entry in read_refused(folder).entries] == [("rate_limited", MINE)]


# What may be seen of what was sent.


def at(body: bytes, position: int) -> str:
    found = excerpt(body, position, lambda _: False)
    assert found is not None
    return found.text


def test_structure_and_known_words_are_shown_and_values_are_not() -> None:
    body = b'{"api_key": "%b", "batch": [{"event_type": "tap", "price": 12.50,}]}' % KEY.encode()
    position = body.index(b"}]}")
    expected = b'****************************", "batch": [{"event_type": "tap", "*****": *****,}]}'
    found = excerpt(body, position, lambda _: False)
    assert found is not None
    assert found.text.encode() == expected[-len(found.text) :]
    assert found.text[found.at] == "}"


def test_the_broken_byte_is_shown_where_it_is_a_sign() -> None:
    assert at(b'{"batch": [] // none\n}', 13) == '{"batch": [] /* ****\n}'
    assert at(b"{'batch': True}", 1) == "{'batch': True}"
    assert at(b'{"batch": \xff\xfe}', 10) == '{"batch": **}'


def test_where_a_live_key_would_show_nothing_is_kept() -> None:
    assert excerpt(b"{'event_type': 1}", 1, lambda token: token == "'event_type'") is None


SPELLINGS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda key: key.encode(),
    "escaped": lambda key: "".join(f"\\u{ord(letter):04x}" for letter in key).encode(),
    "partly escaped": lambda key: f"\\u{ord(key[0]):04X}{key[1:]}".encode(),
    "twice escaped": lambda key: "".join(f"\\\\u{ord(letter):04x}" for letter in key).encode(),
    "percent-encoded": lambda key: quote(key, safe="").encode(),
    "sixteen bits": lambda key: key.encode("utf-16-le"),
    "reversed": lambda key: key[::-1].encode(),
    "base64": lambda key: base64.b64encode(key.encode()),
    "compressed": lambda key: gzip.compress(key.encode()),
    "cut": lambda key: key[:-5].encode(),
}


def parts(text: bytes, length: int) -> set[bytes]:
    return {text[start : start + length] for start in range(len(text) - length + 1)}


def refuse(record: RefusedRecord, body: bytes, ingest: Ingest = INGEST) -> RequestError | None:
    """Takes a body in as a worker does; notes and returns why it was refused."""
    try:
        ingest.admit(body)
    except Refusal as refusal:
        record.note(NOW_US, refusal.error, refusal.project_id, refusal.body)
        return refusal.error
    return None


members = st.sampled_from(["project_id", "api_key", "bundle_id", "platform", "environment", "sent_at", "batch", "x"])


@settings(deadline=None, max_examples=60)
@given(
    key=st.sampled_from([KEY, OTHER_KEY]),
    spelling=st.sampled_from(sorted(SPELLINGS)),
    places=st.sets(members, min_size=1),
    dice=st.randoms(use_true_random=False),
)
def test_no_part_of_a_key_reaches_the_file(
    tmp_path_factory: pytest.TempPathFactory, key: str, spelling: str, places: set[str], dice: random.Random
) -> None:
    """In any spelling, in any member, also as a name; whole bodies, and bodies with a byte changed, or cut."""
    folder = tmp_path_factory.mktemp("keys")
    written = SPELLINGS[spelling](key)
    good: dict[str, Any] = {"project_id": MINE, "api_key": KEY, "bundle_id": "b", "platform": "web", "batch": [event()]}
    encoded = {name: json.dumps(value).encode() for name, value in good.items()}
    body = b",".join(
        b'"%b":%b' % (name.encode(), dice.choice([b'"%b"', b"%b", b'{"%b":1}', b"'%b'"]) % written)
        if name in places
        else b'"%b":%b' % (name.encode(), encoded.get(name, b"null"))
        for name in dice.sample(sorted({*good, *places}), len({*good, *places}))
    )
    body = b"{%b}" % body
    with closing(opened(folder)) as record:
        for _ in range(4):
            broken = bytearray(body)
            broken[dice.randrange(len(broken))] = dice.choice(b"\"'{}[],:\\ \xffa0")
            refuse(record, bytes(broken[: dice.choice([len(broken), dice.randrange(len(broken))])]))
        refuse(record, body)
    kept = (folder / "worker-0").read_bytes()[SLOTS_AT:]
    shown = parts(written, 6) | parts(key.encode(), 6)
    assert [part for part in shown if part in kept] == []


@pytest.mark.parametrize("member", ["platform", "environment", "sent_at"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Web", True),
        ("Production", True),
        ("1775649600", True),
        ("2026-04-08 12:00", True),
        (KEY, False),
        ("x" * 99, False),
    ],
)
def test_a_value_is_repeated_only_where_it_cannot_be_a_key(
    record: RefusedRecord, folder: Path, member: str, value: str, shown: bool
) -> None:
    if member == "sent_at" and value == "2026-04-08 12:00":
        value = "2026-04-08 12:00:60"
    error = refuse(record, Project(MINE, KEY).body(event(), **{member: value}))
    assert isinstance(error, InvalidRequest)
    assert value[:60] in error.message
    ((message, project_id),) = told(folder)
    assert project_id == MINE
    assert (value[:20].lower() in message.lower()) == shown
    assert message.startswith(f"`{member}` is ")


def test_a_media_type_is_repeated_where_it_is_a_usual_one(record: RefusedRecord, folder: Path) -> None:
    for media_type in ("multipart/form-data; boundary=x", KEY):
        message = f"`Content-Type: {media_type}` is not supported."
        record.note(NOW_US, UnsupportedMediaType(message, quoted=media_type))
    assert told(folder) == [
        ("`Content-Type: multipart/form-data` is not supported.", None),
        ("`Content-Type: ***` is not supported.", None),
    ]


# A real server.


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {"KIXO_BODY_STALL_S": "3", "KIXO_BODY_BYTES_MAX": "100000"}
    with running(tmp_path_factory.mktemp("server"), environment, workers=2) as server:
        yield server


def refusals(server: Server) -> list[RefusedRequest]:
    return read_refused(server.folder / "run" / "refused").entries


def more_refusals(server: Server, count: int) -> bool:
    return len(refusals(server)) > count


def test_every_kind_of_refusal_is_written_down_with_its_project_where_that_can_be_told(own_server: Server) -> None:
    project = own_server.project()
    post: Callable[..., httpx.Response] = own_server.http.post
    body = project.body(event())
    requests: list[tuple[str, str | None, dict[str, Any]]] = [
        ("invalid_json", project.id, {"content": body[:-1]}),
        ("invalid_request", project.id, {"content": project.body(platform="amiga")}),
        ("unauthorized", project.id, {"content": project.body(event(), api_key="kx_key_wrong")}),
        ("unauthorized", None, {"content": project.body(event(), project_id="kx_proj_nobody")}),
        ("too_many_events", project.id, {"content": project.body(*[7] * 1001)}),
        ("body_too_large", None, {"content": bytes(100_001)}),
        ("unsupported_media_type", None, {"content": body, "headers": {"Content-Type": "text/html"}}),
        ("unsupported_encoding", None, {"content": body, "headers": {"Content-Encoding": "lz4"}}),
    ]
    for code, project_id, request in requests:
        before = refusals(own_server)
        answer = post("/v1/batch", **request)
        assert answer.json()["code"] == code
        wait_until(partial(more_refusals, own_server, len(before)))
        newest = refusals(own_server)[-1]
        assert (newest.code, newest.status, newest.project_id) == (code, answer.status_code, project_id)


def test_a_body_that_stalls_is_written_down(own_server: Server) -> None:
    with Wire(own_server) as wire:
        assert wire.send(head("Transfer-Encoding: chunked"), chunk(b"{")).answer().status == 408
    wait_until(lambda: "timeout" in [entry.code for entry in refusals(own_server)])


def test_what_is_accepted_or_rejected_event_by_event_is_not_refused(own_server: Server) -> None:
    project = own_server.project()
    for events in ([event()], [7], []):
        own_server.http.post("/v1/batch", json=project.batch(*events))
    own_server.http.post("/v1/batch", content=b"{" + project.body())
    wait_until(lambda: project.id in [entry.project_id for entry in refusals(own_server)])
    assert [entry.code for entry in refusals(own_server) if entry.project_id == project.id] == ["invalid_json"]


def test_a_server_whose_record_cannot_be_made_takes_events(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "refused").write_text("not a folder")
    with running(tmp_path, {}) as server:
        project = server.project()
        assert server.http.post("/v1/batch", json=project.batch(event())).status_code == 200
        assert server.http.post("/v1/batch", content=b"{").status_code == 400
    assert "refused_requests_unrecorded" in (tmp_path / "stderr").read_text()
