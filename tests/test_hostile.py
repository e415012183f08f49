"""Hostile and broken input: each has a fixed fate, and none has an effect on others."""

import json
import resource
from collections.abc import Callable, Iterator

import httpx
import pytest

from kixo import stored
from tests.conftest import MIB, Project, Server, Wire, chunk, event, head, request, running

# An idle worker, the bodies in flight, and what the worst body costs while it is looked at.
PEAK_MAX = 700 * MIB
INFLIGHT = 64 * MIB
# The project of the demo, which every server of these tests has.
WITNESS = Project("kx_proj_abc123", "kx_key_xyz789")
HEAD_READ_S = 3.0
BODY_BYTES = 10 * MIB - 1024
CLOSED = (EOFError, ConnectionResetError, BrokenPipeError)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A single worker, so that every attack meets the worker that is then asked to go on."""
    environment = {
        "KIXO_BODY_STALL_S": "5",
        "KIXO_BODY_TOTAL_S": "20",
        "KIXO_HEAD_READ_S": str(HEAD_READ_S),
        "KIXO_INFLIGHT_BYTES_MAX": str(INFLIGHT),
        "KIXO_REQUESTS_PER_SECOND_MAX": "100000",
    }
    with running(tmp_path_factory.mktemp("hostile"), environment, projects=30) as running_server:
        yield running_server


@pytest.fixture(autouse=True)
def unharmed(hostile: Server) -> Iterator[None]:
    """After each test the same worker has to be alive, within its bounds, and able to take a good request."""
    workers = hostile.workers()
    yield
    assert post(hostile, WITNESS.body(event())).json() == {"status": "ok", "accepted": 1}
    assert hostile.workers() == workers
    assert hostile.metric('kixo_restarts_total{process="worker"}') == 0
    assert hostile.metric('kixo_requests_total{code="internal",status="500"}') == 0
    assert hostile.peak_bytes() < PEAK_MAX


@pytest.fixture
def project(hostile: Server) -> Project:
    """A project of `hostile` that has sent nothing."""
    return hostile.project()


def post(server: Server, body: bytes) -> httpx.Response:
    return server.http.post("/v1/batch", content=body)


def spliced(project: Project, text: bytes, *events: object, **members: object) -> bytes:
    """A body in which `text` stands where the value "HERE" stood."""
    return project.body(*events, **members).replace(b'"HERE"', text)


PLACES: list[dict[str, object]] = [
    {"properties": {"a": "HERE"}},
    {"properties": {"a": ["HERE"]}},
    {"unknown": "HERE"},
    {"event_name": "HERE"},
]

NOT_JSON = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1 // one",
    b"/* one */ 1",
    b"[1,]",
    b'{"a":1,}',
    b"'text'",
    b"01",
    b"+1",
    b".5",
    b"1.",
    b"0x10",
    b"True",
    b"undefined",
    b"{a:1}",
    b'"a\nb"',
    b'"a\x00b"',
    b'"\\x41"',
    b'"\\u12"',
    b'"\xff"',
    b'"\xc3"',
    b'"\xed\xa0\x80"',
    b'"\xc0\x80"',
    b'"\xf4\x90\x80\x80"',
    b"\xff",
]


@pytest.mark.parametrize("text", NOT_JSON)
def test_what_is_not_json_anywhere_is_refused(hostile: Server, text: bytes) -> None:
    bodies = [spliced(WITNESS, text, event(), event(**place)) for place in PLACES]
    for body in [*bodies, spliced(WITNESS, text, event(), unknown="HERE"), spliced(WITNESS, text, "HERE")]:
        answer = post(hostile, body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
        assert isinstance(answer.json()["position"], int)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00", b"\x1e"])
def test_a_byte_order_mark_or_any_other_before_the_object_is_refused(hostile: Server, mark: bytes) -> None:
    assert post(hostile, mark + WITNESS.body(event())).json()["code"] == "invalid_json"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_other_encodings_of_text_are_refused(hostile: Server, encoding: str) -> None:
    text = json.dumps(WITNESS.batch(event(event_name="é")), ensure_ascii=False)
    assert post(hostile, text.encode(encoding)).json()["code"] == "invalid_json"


SURROGATES = [
    (rb"\ud83d", "\ufffd"),
    (rb"\uDE00", "\ufffd"),
    (rb"\ud83d\ude00", "😀"),
    (rb"\ude00\ud83d", "\ufffd\ufffd"),
    (rb"\ud83d\ud83d\ude00", "\ufffd😀"),
    (rb"\ud83d\ude00\ude00", "😀\ufffd"),
    (rb"\ud83dabc", "\ufffdabc"),
    (rb"\ud83d\n", "\ufffd\n"),
    (rb"\\ud83d", "\\ud83d"),
    (rb"\\\ud83d", "\\\ufffd"),
    (rb"\\\\ud83d", "\\\\ud83d"),
    (rb"\ud83d\\ude00", "\ufffd\\ude00"),
]


@pytest.mark.parametrize(("escape", "shown"), SURROGATES)
def test_a_lone_surrogate_becomes_the_replacement_character_wherever_it_stands(
    hostile: Server, project: Project, escape: bytes, shown: str
) -> None:
    text = b'"' + escape + b'"'
    name = spliced(project, text, event(event_name="HERE"), event(properties={"a": "HERE"}), unknown="HERE")
    assert post(hostile, name).json() == {"status": "ok", "accepted": 2}
    assert post(hostile, name.replace(b'"batch": [', b'"batch": [7,')).json()["accepted"] == 2
    for payload in hostile.payloads(project):
        events = payload["events"]
        assert events[0]["event_name"] == shown
        assert json.loads(events[1]["properties"]) == {"a": shown}


def test_a_nul_becomes_the_replacement_character_and_stays_escaped_in_properties(
    hostile: Server, project: Project
) -> None:
    body = project.body(event(event_name="a\0b", event_id="\0", properties={"k\0": "v\0"}), bundle_id="\0")
    assert post(hostile, body).json() == {"status": "ok", "accepted": 1}
    (payload,) = hostile.payloads(project)
    (kept,) = payload["events"]
    assert (kept["event_name"], kept["event_id"], payload["bundle_id"]) == ("a\ufffdb", "\ufffd", "\ufffd")
    assert kept["properties"] == '{"k\\u0000": "v\\u0000"}'


NUMBERS = [b"1e999", b"-1e999", b"9" * 400, b"0." + b"3" * 400, b"1e-999", b"-0", b"18446744073709551616"]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_beyond_a_double_are_kept_as_text(hostile: Server, project: Project, number: bytes) -> None:
    body = spliced(project, number, event(properties={"a": "HERE"}, unknown="HERE"), unknown="HERE")
    assert post(hostile, body).json() == {"status": "ok", "accepted": 1}
    assert post(hostile, body.replace(b'"batch": [', b'"batch": [7,')).json()["accepted"] == 1
    as_sent, judged = hostile.frames(project)
    assert bytes(stored.decode_sent(as_sent.payload).batch[0].properties) == b'{"a": ' + number + b"}"
    assert stored.decode_judged(judged.payload).events[0].properties.encode() == b'{"a": ' + number + b"}"


@pytest.mark.parametrize("number", NUMBERS)
def test_such_a_number_where_a_text_is_due_rejects_one_event(hostile: Server, number: bytes) -> None:
    answer = post(hostile, spliced(WITNESS, number, event(), event(timestamp="HERE"))).json()
    assert (answer["accepted"], answer["errors"][0]["code"]) == (1, "invalid_timestamp")


def arrays(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def objects(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def mixed(depth: int) -> bytes:
    pairs = (depth - 1) // 2
    return b'[{"]":' * pairs + b'["\\"[{"]' + b"}]" * pairs


DEEP = [
    *[(nest, depth) for nest in (arrays, objects) for depth in (101, 500, 985, 995, 1005, 100_000)],
    (mixed, 1001),
    (arrays, BODY_BYTES // 2),
    (objects, BODY_BYTES // 6),
]
IDS = [f"{nest.__name__}-{depth}" for nest, depth in DEEP]


@pytest.mark.parametrize("nest", [arrays, objects])
def test_properties_may_be_a_hundred_deep(hostile: Server, nest: Callable[[int], bytes]) -> None:
    body = spliced(WITNESS, nest(99), event(properties={"a": "HERE"}))
    assert post(hostile, body).json() == {"status": "ok", "accepted": 1}
    answer = post(hostile, spliced(WITNESS, nest(100), event(), event(properties={"a": "HERE"}))).json()
    assert (answer["accepted"], answer["errors"][0]["field"], answer["errors"][0]["code"]) == (
        1,
        "properties",
        "too_deep",
    )


def test_brackets_in_texts_are_no_nesting(hostile: Server) -> None:
    properties = {"a": "[{" * 1000, "b": '\\"[[[' * 500, "c": [[] for _ in range(500)]}
    assert post(hostile, WITNESS.body(event(properties=properties))).json() == {"status": "ok", "accepted": 1}
    assert post(hostile, WITNESS.body(event(properties=properties), 7)).json()["accepted"] == 1


@pytest.mark.parametrize(("nest", "depth"), DEEP, ids=IDS)
def test_too_deep_properties_reject_their_event_alone(
    hostile: Server, nest: Callable[[int], bytes], depth: int
) -> None:
    body = spliced(WITNESS, nest(depth), event(), event(properties={"a": "HERE"}), event())
    answer = post(hostile, body[: 10 * MIB]).json()
    assert (answer["accepted"], answer["rejected"]) == (2, 1)
    assert (answer["errors"][0]["index"], answer["errors"][0]["code"]) == (1, "too_deep")


@pytest.mark.parametrize(("nest", "depth"), DEEP, ids=IDS)
def test_depth_in_members_that_nobody_knows_does_no_harm(
    hostile: Server, nest: Callable[[int], bytes], depth: int
) -> None:
    for body in (
        spliced(WITNESS, nest(depth), event(), unknown="HERE"),
        spliced(WITNESS, nest(depth), event(unknown="HERE")),
    ):
        assert post(hostile, body).json() == {"status": "ok", "accepted": 1}


@pytest.mark.parametrize(("nest", "depth"), DEEP, ids=IDS)
def test_depth_where_something_else_is_due_is_an_error_like_any_other(
    hostile: Server, nest: Callable[[int], bytes], depth: int
) -> None:
    deep = nest(depth)
    assert post(hostile, deep).json()["code"] in {"invalid_json", "invalid_request"}
    assert post(hostile, spliced(WITNESS, deep, platform="HERE")).json()["field"] == "platform"
    named = post(hostile, spliced(WITNESS, deep, event(), event(event_name="HERE"))).json()
    assert (named["accepted"], named["errors"][0]["code"]) == (1, "wrong_type")
    event_itself = post(hostile, spliced(WITNESS, deep, event(), "HERE")).json()
    assert event_itself["accepted"] == 1


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("count", [100_000, 1_000_000])
def test_brackets_that_never_close_are_not_json(hostile: Server, opening: bytes, count: int) -> None:
    start, _, _ = WITNESS.body(event(properties="HERE")).partition(b'"HERE"')
    for body in (opening * count, start + opening * count, start + b'{"a":' + opening * count + b"}]}"):
        assert post(hostile, body).json()["code"] == "invalid_json"


def test_ten_mebibytes_of_one_text(hostile: Server) -> None:
    long = b'"' + b"x" * (BODY_BYTES - 500) + b'"'
    assert post(hostile, spliced(WITNESS, long, event(), unknown="HERE")).json()["accepted"] == 1
    for name, code in (("event_name", "too_long"), ("timestamp", "invalid_timestamp"), ("properties", "wrong_type")):
        answer = post(hostile, spliced(WITNESS, long, event(**{name: "HERE"}))).json()
        assert (answer["code"], answer["errors"][0]["code"]) == ("no_valid_events", code)
        assert len(answer["message"]) < 500
    nested = post(hostile, spliced(WITNESS, long, event(properties={"a": "HERE"}))).json()
    assert nested["errors"][0]["code"] == "too_large"
    assert post(hostile, spliced(WITNESS, long, event(), bundle_id="HERE")).json()["field"] == "bundle_id"
    assert post(hostile, spliced(WITNESS, long, event(), api_key="HERE")).json()["code"] == "unauthorized"


def test_ten_mebibytes_of_escapes(hostile: Server) -> None:
    for escape in (rb"\ud800", rb"\u0000", rb"\\", rb"\""):
        text = b'"' + escape * ((BODY_BYTES - 500) // len(escape)) + b'"'
        assert post(hostile, spliced(WITNESS, text, event(), unknown="HERE")).json()["accepted"] == 1


def test_a_hundred_thousand_members_that_nobody_knows(hostile: Server) -> None:
    members: dict[str, object] = {f"member_{number}": number for number in range(100_000)}
    assert post(hostile, WITNESS.body(event(), **members)).json()["accepted"] == 1
    assert post(hostile, WITNESS.body(event(**members))).json()["accepted"] == 1
    assert post(hostile, WITNESS.body(event(), 7, **members)).json()["accepted"] == 1
    assert post(hostile, WITNESS.body(event(properties=members))).json()["errors"][0]["code"] == "too_large"


def test_a_thousand_events_of_64_kib_are_too_large_a_body_and_as_many_as_fit_are_taken(hostile: Server) -> None:
    large = event(properties={"a": "x" * (64 * 1024 - len('{"a": ""}'))})
    refused = post(hostile, WITNESS.body(*[large] * 1000))
    assert (refused.status_code, refused.json()["actual"] > 62 * MIB) == (413, True)
    assert post(hostile, WITNESS.body(*[large] * 159)).json() == {"status": "ok", "accepted": 159}


def test_five_million_events_are_counted_and_refused(hostile: Server) -> None:
    body = spliced(WITNESS, b"[" + b"1," * 5_000_000 + b"1]", batch="HERE")
    assert post(hostile, body).json()["actual"] == 5_000_001


def test_slow_bodies_hold_no_more_memory_than_all_bodies_may(hostile: Server) -> None:
    before = hostile.peak_bytes()
    piece = chunk(b" " * MIB)
    wires = []
    try:
        for number in range(30):
            wires.append(Wire(hostile))
            if number % 2:
                wires[-1].send(head(f"Content-Length: {10 * MIB}"), b" " * (10 * MIB - 1))
            else:
                wires[-1].send(head("Transfer-Encoding: chunked"), *[piece] * 9)
        statuses = {wire.answer().status for wire in wires}
    finally:
        for wire in wires:
            wire.__exit__()
    assert statuses == {408, 503}
    assert hostile.peak_bytes() - before < 3 * INFLIGHT


def test_promised_bodies_that_never_come_keep_nobody_out(hostile: Server) -> None:
    wires = [Wire(hostile).send(head(f"Content-Length: {MIB}")) for _ in range(200)]
    try:
        assert post(hostile, WITNESS.body(event())).json() == {"status": "ok", "accepted": 1}
        assert {wire.answer().status for wire in wires} == {408}
    finally:
        for wire in wires:
            wire.__exit__()


@pytest.mark.parametrize("start", [b"", b"POST", head()[:-2], head("X: " + "x" * 1000)[:-4]])
def test_slow_heads_and_silent_connections_are_closed_and_keep_nobody_out(hostile: Server, start: bytes) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wires = [Wire(hostile).send(start) for _ in range(min(300, soft // 4))]
    try:
        assert post(hostile, WITNESS.body(event())).json() == {"status": "ok", "accepted": 1}
        assert all(wire.is_closed() for wire in wires)
    finally:
        for wire in wires:
            wire.__exit__()


def test_an_idle_connection_is_closed(hostile: Server) -> None:
    with Wire(hostile).send(request(WITNESS.body(event()))) as wire:
        assert wire.answer().status == 200
        assert wire.is_closed()


@pytest.mark.parametrize(
    "start",
    [
        head("Content-Length: 500") + b'{"project',
        head("Content-Length: 2000000") + b'{"project',
        head("Transfer-Encoding: chunked") + chunk(b'{"project'),
        head("Transfer-Encoding: chunked") + b"ff\r\nshort",
    ],
)
def test_a_body_that_ends_too_early_is_told_so_and_is_no_defect(hostile: Server, start: bytes) -> None:
    with Wire(hostile).send(start).half_close() as wire:
        answer = wire.answer()
        assert (answer.status, answer.error["code"]) == (400, "invalid_json")
    for _ in range(10):
        Wire(hostile).send(start).__exit__()


def test_requests_sent_ahead_are_answered_in_order(hostile: Server) -> None:
    good, bad = request(WITNESS.body(event())), request(WITNESS.body(7))
    with Wire(hostile).send(good + bad + head(method="GET", path="/nowhere") + good) as wire:
        assert [wire.answer().status for _ in range(4)] == [200, 400, 404, 200]


def smuggled(project: Project) -> dict[str, bytes]:
    body = project.body(event())
    hidden = request(project.body(event(event_name="smuggled")))
    both = head("Content-Length: 4", "Transfer-Encoding: chunked")
    return {
        "length and chunks": both + chunk(body) + chunk(b"") + hidden,
        "chunks and length": head("Transfer-Encoding: chunked", "Content-Length: 4") + chunk(b"") + hidden,
        "two lengths": head("Content-Length: 4", f"Content-Length: {len(body)}") + body + hidden,
        "a list of lengths": head(f"Content-Length: 4, {len(body)}") + body + hidden,
        "a length with a sign": head(f"Content-Length: +{len(body)}") + body + hidden,
        "a negative length": head("Content-Length: -1") + body + hidden,
        "a length beyond all numbers": head("Content-Length: 99999999999999999999") + body + hidden,
        "a length in hexadecimal": head("Content-Length: 0x10") + body + hidden,
        "a blank before the colon": head("Transfer-Encoding : chunked") + chunk(b"") + hidden,
        "an unknown coding": head("Transfer-Encoding: xchunked") + chunk(b"") + hidden,
        "chunks not last": head("Transfer-Encoding: chunked, identity") + chunk(b"") + hidden,
        "a folded header": head("X: a\r\n Transfer-Encoding: chunked", "Content-Length: 1")[:-2] + b"\r\n{" + b"",
        "a chunk of no size": head("Transfer-Encoding: chunked") + b"\r\n" + hidden,
        "a chunk of nonsense": head("Transfer-Encoding: chunked") + b"zz\r\n" + hidden,
        "a chunk beyond all numbers": head("Transfer-Encoding: chunked") + b"f" * 20 + b"\r\n" + hidden,
        "a chunk longer than said": head("Transfer-Encoding: chunked") + b"1\r\n" + hidden,
        "a bare line end in a header": b"POST /v1/batch HTTP/1.1\r\nHost: a\rTransfer-Encoding: chunked\r\n\r\n"
        + hidden,
    }


def test_no_request_is_smuggled_in_the_body_of_another(hostile: Server, project: Project) -> None:
    """Whatever the first request is taken for, the connection ends with it."""
    for shape, data in smuggled(project).items():
        with Wire(hostile) as wire:
            try:
                assert wire.send(data).half_close().answer().status in {200, 400, 413}, shape
                assert wire.is_closed(), shape
            except CLOSED:
                pass
    kept = [found["event_name"] for payload in hostile.payloads(project) for found in payload["batch"]]
    assert "smuggled" not in kept


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 1000,
        bytes(100_000),
        head(*[f"X-{number}: 1" for number in range(2000)]),
        head("X: " + "x" * MIB),
        head(path="/" + "x" * MIB),
        head(path="/v1/\xff"),
    ],
)
def test_what_is_no_request_is_refused_or_cut(hostile: Server, nonsense: bytes) -> None:
    with Wire(hostile) as wire:
        try:
            assert wire.send(nonsense).answer().status in range(400, 500)
            assert wire.is_closed()
        except CLOSED:
            pass


@pytest.mark.parametrize("name", ["Content-Type", "Content-Encoding", "Expect", "Connection", "X-Anything"])
def test_header_values_of_any_bytes_are_no_defect(hostile: Server, name: str) -> None:
    with Wire(hostile).send(request(WITNESS.body(event()), f"{name}: \xff\xfe")) as wire:
        assert wire.answer().status in {200, 400, 415, 417}
