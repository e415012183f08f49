"""Every situation of the contract: status, code, headers, body, and the order in which the checks run."""

import asyncio
import gzip
import json
import shutil
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import brotli
import httpx
import pytest
import zstandard

from kixo.errors import BodyTooLarge, Unavailable
from kixo.http.application import Application, Notes
from kixo.http.body import BodyReader
from kixo.metric_file import MetricFile
from kixo.registry import open_registry
from kixo.settings import Settings
from tests.conftest import (
    MIB,
    PATIENCE_S,
    Project,
    Server,
    Wire,
    chunk,
    event,
    head,
    log_reader,
    owner_of,
    request,
    running,
)

BODY_BYTES_MAX = 10 * MIB
EXPOSED = "Kixo-Durability, Kixo-Position, RateLimit, RateLimit-Policy, Retry-After"
POLICY = '"project";q=100;w=1'
LIMIT_HEADERS = {"ratelimit", "ratelimit-policy"}


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


DEFLATERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda body: bytes(brotli.compress(body, quality=1)),
    "zstd": zstandard.compress,
}


def post(client: httpx.Client, body: bytes, **headers: str) -> httpx.Response:
    return client.post("/v1/batch", content=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def refused(answer: httpx.Response, status: int, code: str, *members: str) -> None:
    """The body has exactly the members of every error and those named."""
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"status", "code", "message", *members}
    assert answer.json()["status"] == "error"
    assert answer.headers["content-type"] == "application/json"


def test_success_carries_durability_and_the_limit(client: httpx.Client, project: Project) -> None:
    for left in (99, 98):
        answer = post(client, project.body(event()))
        assert answer.status_code == 200
        assert answer.headers["kixo-durability"] == "fsync"
        assert answer.headers["ratelimit-policy"] == POLICY
        assert answer.headers["ratelimit"] == f'"project";r={left};t=1'
        assert "retry-after" not in answer.headers


def places(server: Server, project: Project) -> list[str]:
    """Where in the log the requests of a project stand, as `Kixo-Position` writes it."""
    with log_reader(server.folder) as reader:
        return [
            f"{partition}:{frame.offset}"
            for partition in reader.partitions()
            for frame in reader.read(partition, 0, 2**40)
            if owner_of(frame.payload).project_id == project.id
        ]


def test_whatever_was_stored_is_answered_with_its_place_in_the_log(server: Server, project: Project) -> None:
    told = []
    for _ in range(8):
        # A new connection each time, so that both workers come up.
        with httpx.Client(base_url=server.url) as client:
            answers = [post(client, project.body(*events)) for events in ([event()], [event(), 7], [7])]
        assert [answer.status_code for answer in answers] == [200, 200, 400]
        told += [answer.headers["kixo-position"] for answer in answers]
    assert sorted(told) == sorted(places(server, project))
    assert len(set(told)) == 24


def test_what_was_not_stored_has_no_place(client: httpx.Client, project: Project) -> None:
    bodies = [project.body(), project.body(platform="amiga"), project.body(api_key="kx_key_other"), b"{"]
    answers = [post(client, body) for body in bodies]
    assert [answer.status_code for answer in answers] == [200, 400, 401, 400]
    assert [answer for answer in answers if "kixo-position" in answer.headers] == []


def test_every_answer_can_be_read_from_any_origin(client: httpx.Client, project: Project) -> None:
    answers = [post(client, project.body(event())), post(client, b"{"), client.get("/nowhere"), client.get("/healthz")]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-expose-headers"] == EXPOSED
    assert EXPOSED.lower().split(", ") == sorted(["kixo-durability", "kixo-position", *LIMIT_HEADERS, "retry-after"])


def test_a_preflight_is_answered_204_with_what_a_sender_needs(client: httpx.Client) -> None:
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Headers": "content-type,content-encoding"}
    answer = client.options("/v1/batch", headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "Content-Type, Content-Encoding"
    assert answer.headers["access-control-expose-headers"] == EXPOSED


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/batch/", "/V1/BATCH", "//v1/batch", "/v1/batches", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_path_is_not_found(client: httpx.Client, method: str, path: str) -> None:
    refused(client.request(method, path), 404, "not_found")


def test_a_query_does_not_change_the_path(client: httpx.Client, project: Project) -> None:
    assert client.post("/v1/batch?debug=1", content=project.body(event())).status_code == 200


@pytest.mark.parametrize(
    ("path", "allow", "methods"),
    [
        ("/v1/batch", "POST, OPTIONS", ["GET", "PUT", "PATCH", "DELETE", "TRACE", "PURGE"]),
        ("/healthz", "GET, HEAD", ["POST", "DELETE", "OPTIONS"]),
        ("/readyz", "GET, HEAD", ["POST"]),
        ("/openapi.json", "GET, HEAD", ["PUT"]),
    ],
)
def test_another_method_is_answered_with_those_allowed(
    client: httpx.Client, path: str, allow: str, methods: list[str]
) -> None:
    for method in methods:
        answer = client.request(method, path)
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allow


def test_alive_ready_and_schema_are_answered(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.get("/openapi.json").json()["openapi"] == "3.1.0"
    assert (client.head("/healthz").status_code, client.head("/healthz").content) == (200, b"")


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", "text/plain;charset=UTF-8", "", None],
)
def test_json_plain_text_and_no_media_type_are_read(
    client: httpx.Client, project: Project, media_type: str | None
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = client.post("/v1/batch", content=project.body(event()), headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "media_type",
    ["text/html", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", "json"],
)
def test_another_media_type_is_not_supported(client: httpx.Client, refused_project: Project, media_type: str) -> None:
    answer = post(client, refused_project.body(event()), content_type=media_type)
    refused(answer, 415, "unsupported_media_type")
    assert media_type in answer.json()["message"]


@pytest.mark.parametrize("encoding", [*DEFLATERS, "GZIP", "x-gzip", "identity"])
def test_every_encoding_is_inflated(client: httpx.Client, server: Server, project: Project, encoding: str) -> None:
    plain = project.body(event(event_name=encoding))
    deflate = DEFLATERS.get(encoding, bytes if encoding == "identity" else gzip.compress)
    answer = post(client, deflate(plain), content_encoding=encoding)
    assert answer.json() == {"status": "ok", "accepted": 1}
    assert server.payloads(project)[0]["batch"][0]["event_name"] == encoding


def test_deflate_is_read_with_and_without_its_wrapper(client: httpx.Client, project: Project) -> None:
    assert post(client, raw_deflate(project.body(event())), content_encoding="deflate").status_code == 200


@pytest.mark.parametrize("encoding", ["compress", "gzip, br", "lzma", "*"])
def test_another_encoding_is_not_supported(client: httpx.Client, refused_project: Project, encoding: str) -> None:
    answer = post(client, refused_project.body(event()), content_encoding=encoding)
    refused(answer, 415, "unsupported_encoding")
    assert f"`Content-Encoding: {encoding}`" in answer.json()["message"]


@pytest.mark.parametrize("encoding", DEFLATERS)
def test_data_that_is_damaged_or_cut_is_not_json(client: httpx.Client, refused_project: Project, encoding: str) -> None:
    whole = DEFLATERS[encoding](refused_project.body(*[event()] * 50))
    for body in (whole[: len(whole) // 2], b"not compressed at all", b""):
        refused(post(client, body, content_encoding=encoding), 400, "invalid_json", "position")


@pytest.mark.parametrize(
    ("body", "position"),
    [
        (b"", 0),
        (b"{", 1),
        (b'{"a":1,}', 7),
        (b'{"a":"\xff"}', 6),
        (b"[]", 0),
        (b'"text"', 0),
        (b"null", 0),
    ],
)
def test_what_is_not_a_json_object_is_answered_with_the_position(
    client: httpx.Client, body: bytes, position: int
) -> None:
    answer = post(client, body)
    refused(answer, 400, "invalid_json", "position")
    assert answer.json()["position"] == position
    assert f"at byte {position}" in answer.json()["message"]
    assert not LIMIT_HEADERS & set(answer.headers)


def test_a_wrong_envelope_of_a_known_project_carries_its_limit_and_does_not_count(
    client: httpx.Client, project: Project
) -> None:
    for body in (project.body(platform="amiga"), project.body(batch=None)):
        answer = post(client, body)
        refused(answer, 400, "invalid_request", "field")
        assert answer.headers["ratelimit"] == '"project";r=100;t=0'
        assert answer.headers["ratelimit-policy"] == POLICY
    stranger = post(client, Project(project.id, "kx_key_nobody").body(platform="amiga"))
    assert not LIMIT_HEADERS & set(stranger.headers)


def test_an_unknown_project_and_an_unknown_foreign_or_revoked_key_get_one_and_the_same_answer(
    client: httpx.Client, server: Server, project: Project
) -> None:
    revoked, other = server.project(), server.project()
    with open_registry(Settings(data_dir=server.folder)) as registry:
        registry.revoke_key(revoked.key)
    deadline = time.monotonic() + PATIENCE_S
    while post(client, revoked.body()).status_code != 401:
        assert time.monotonic() < deadline
    answers = [
        post(client, sender.body(event()))
        for sender in (
            Project("kx_proj_nobody", project.key),
            Project(project.id, "kx_key_nobody"),
            Project(project.id, other.key),
            Project(project.id, ""),
            Project("", ""),
            Project(project.id, project.key.upper()),
            Project(project.id, project.key + "\0"),
            Project(project.id, "k" * 100_000),
            revoked,
        )
    ]
    for answer in answers:
        refused(answer, 401, "unauthorized")
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(h for h in answer.headers.items() if h[0] != "date") for answer in answers}) == 1
    assert not LIMIT_HEADERS & set(answers[0].headers)
    assert post(client, project.body(event())).status_code == 200


def test_too_many_events_carry_the_limit_and_do_not_count(client: httpx.Client, refused_project: Project) -> None:
    answer = post(client, refused_project.body(*[event()] * 1001))
    refused(answer, 429, "too_many_events", "limit", "actual")
    assert (answer.json()["limit"], answer.json()["actual"]) == (1000, 1001)
    assert answer.headers["ratelimit"] == '"project";r=100;t=0'
    assert "retry-after" not in answer.headers


def test_rejected_batches_count_and_carry_the_limit(client: httpx.Client, project: Project) -> None:
    answer = post(client, project.body(7))
    refused(answer, 400, "no_valid_events", "accepted", "rejected", "errors")
    assert answer.headers["ratelimit"] == '"project";r=99;t=1'
    assert "kixo-durability" not in answer.headers


def test_the_checks_run_in_the_order_of_the_contract(client: httpx.Client, project: Project) -> None:
    """Each request has every fault from its own on; the first one is answered."""
    stranger = Project("nobody", "nothing at all")
    large = b"{" + b" " * BODY_BYTES_MAX
    many = [7] * 1001
    html = {"Content-Type": "text/html"}
    ladder = [
        (client.post("/nowhere", content=large, headers=html), "not_found"),
        (client.put("/v1/batch", content=large, headers=html), "method_not_allowed"),
        (client.post("/v1/batch", content=large, headers=html), "unsupported_media_type"),
        (post(client, large), "body_too_large"),
        (post(client, stranger.body(*many, platform="amiga")[:-1]), "invalid_json"),
        (post(client, stranger.body(*many, platform="amiga")), "invalid_request"),
        (post(client, stranger.body(*many)), "unauthorized"),
        (post(client, project.body(*many)), "too_many_events"),
    ]
    assert [answer.json()["code"] for answer, _ in ladder] == [code for _, code in ladder]
    for _ in range(100):
        assert post(client, project.body()).status_code == 200
    assert post(client, project.body(7)).json()["code"] == "rate_limited"
    assert post(client, project.body(*many)).json()["code"] == "too_many_events"


def test_over_the_limit_the_answer_says_when_to_come_again(client: httpx.Client, project: Project) -> None:
    answers = [post(client, project.body()) for _ in range(110)]
    over = next(answer for answer in answers if answer.status_code != 200)
    refused(over, 429, "rate_limited")
    assert over.headers["retry-after"] == "1"
    assert over.headers["ratelimit"] == '"project";r=0;t=1'
    assert over.headers["ratelimit-policy"] == POLICY
    assert "100 requests" in over.json()["message"]


def test_a_body_of_exactly_the_cap_is_read(client: httpx.Client, project: Project) -> None:
    body = project.body(event())
    padded = body[:-1] + b" " * (BODY_BYTES_MAX - len(body)) + b"}"
    assert post(client, padded).json() == {"status": "ok", "accepted": 1}
    assert post(client, gzip.compress(padded), content_encoding="gzip").json() == {"status": "ok", "accepted": 1}


def pieces(size: int) -> Iterator[bytes]:
    piece = chunk(b" " * MIB)
    for _ in range(size // MIB):
        yield piece
    yield chunk(b" " * (size % MIB)) if size % MIB else b""
    yield chunk(b"")


@pytest.mark.parametrize("size", [BODY_BYTES_MAX + 1, 40 * MIB])
@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_body_is_answered_and_the_connection_survives(
    server: Server, project: Project, size: int, chunked: bool
) -> None:
    with Wire(server) as wire:
        if chunked:
            wire.send(head("Transfer-Encoding: chunked"), *pieces(size))
        else:
            wire.send(head(f"Content-Length: {size}"), b" " * size)
        answer = wire.answer()
        assert answer.status == 413
        assert {**answer.error, "message": ""} == {
            "status": "error",
            "code": "body_too_large",
            "message": "",
            "limit": BODY_BYTES_MAX,
            "actual": size,
        }
        assert wire.send(request(project.body(event()))).answer().status == 200


def test_a_cap_below_the_size_of_bodies_that_are_read_whole_is_a_cap() -> None:
    async def run() -> None:
        with closing(BodyReader(Settings(body_bytes_max=1024))) as bodies:
            stream: Any = Body(bytes(1025))
            with pytest.raises(BodyTooLarge, match="The body is 1025 bytes, 1024 bytes are allowed"):
                await bodies.read(stream, 1025)

    asyncio.run(run())


def test_what_a_body_inflates_to_counts_as_held() -> None:
    async def run() -> None:
        with closing(BodyReader(Settings(inflight_bytes_max=MIB))) as bodies:
            bodies.hold(bytes(MIB))
            with pytest.raises(Unavailable, match="holds as many bodies as it may"):
                bodies.hold(b"x")
            bodies.release(bytes(MIB))
            bodies.hold(b"x")

    asyncio.run(run())


class Body:
    """A body that comes as one piece."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __call__(self) -> bytes:
        return self._content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


@pytest.mark.parametrize("encoding", DEFLATERS)
def test_a_bomb_is_cut_at_the_cap_and_the_connection_survives(server: Server, project: Project, encoding: str) -> None:
    bomb = DEFLATERS[encoding](b" " * (50 * MIB))
    with Wire(server) as wire:
        answer = wire.send(request(bomb, f"Content-Encoding: {encoding}")).answer()
        assert (answer.status, answer.error["code"], answer.error["limit"]) == (413, "body_too_large", BODY_BYTES_MAX)
        assert wire.send(request(project.body(event()))).answer().status == 200


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (head("Content-Length: 20971520", path="/nowhere"), "not_found"),
        (head("Content-Length: 20971520", method="PUT"), "method_not_allowed"),
        (head("Content-Length: 20971520", "Content-Type: text/html"), "unsupported_media_type"),
    ],
)
def test_a_large_body_that_nobody_wants_is_read_on_so_that_its_sender_hears_why(
    server: Server, project: Project, refusal: bytes, code: str
) -> None:
    with Wire(server) as wire:
        assert wire.send(refusal, b" " * (20 * MIB)).answer().error["code"] == code
        assert wire.send(request(project.body(event()))).answer().status == 200


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server at which bodies may not stand still for long."""
    with running(tmp_path_factory.mktemp("hurried"), {"KIXO_BODY_STALL_S": "0.5"}) as running_server:
        yield running_server


@pytest.mark.parametrize(
    "start",
    [
        head("Content-Length: 500") + b'{"project',
        head("Content-Length: 2000000") + b'{"project',
        head("Content-Length: 500"),
        head("Content-Length: 500", "Expect: 100-continue"),
        head("Transfer-Encoding: chunked") + chunk(b'{"project'),
        head("Transfer-Encoding: chunked") + b"5",
    ],
)
def test_a_body_that_stands_still_is_answered_408(hurried: Server, start: bytes) -> None:
    with Wire(hurried) as wire:
        answer = wire.send(start).answer()
        if answer.status == 100:
            answer = wire.answer()
        assert (answer.status, answer.error["code"]) == (408, "timeout")
        assert set(answer.error) == {"status", "code", "message"}
        assert "0.5 seconds" in answer.error["message"]
        assert wire.is_closed()


@pytest.mark.parametrize(
    ("start", "status"),
    [(head("Content-Length: 99999999"), 413), (head("Content-Length: 9", path="/nowhere"), 404)],
)
def test_a_refusal_is_told_even_where_the_refused_body_stands_still(hurried: Server, start: bytes, status: int) -> None:
    with Wire(hurried) as wire:
        assert wire.send(start).answer().status == status


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has less room on its disk than it asks for."""
    folder = tmp_path_factory.mktemp("full")
    floor = shutil.disk_usage(folder).total * 2
    with running(folder, {"KIXO_LOG_FREE_BYTES_MIN": str(floor)}) as running_server:
        yield running_server


def test_without_room_nothing_is_stored_and_the_answer_is_503(full: Server) -> None:
    project = full.project()
    for events in ([event()], [event(), 7], [7]):
        answer = full.http.post("/v1/batch", json=project.batch(*events))
        refused(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["ratelimit-policy"] == POLICY
        assert "ratelimit" in answer.headers
        assert "kixo-durability" not in answer.headers
        assert "kixo-position" not in answer.headers
    assert full.frames(project) == []


def test_without_room_the_server_is_alive_but_not_ready_and_says_why(full: Server) -> None:
    assert full.http.get("/healthz").status_code == 200
    answer = full.http.get("/readyz")
    refused(answer, 503, "unavailable")
    assert answer.json()["message"]
    assert int(answer.headers["retry-after"]) >= 1


def test_answers_are_counted_by_status_and_code(server: Server, client: httpx.Client, project: Project) -> None:
    series = 'kixo_requests_total{code="unauthorized",status="401"}'
    before = server.metric(series)
    assert post(client, Project(project.id, "kx_key_nobody").body()).status_code == 401
    assert server.metric(series) == before + 1


KEY_IN_DISGUISE = "kx\\u005fkey_"


def disguised(key: str) -> str:
    return key.replace("kx_key_", KEY_IN_DISGUISE)


@pytest.mark.parametrize("bad_events", [[], [7, {"api_key": "HERE"}]])
def test_api_keys_never_reach_the_disk_or_the_log_lines(
    server: Server, client: httpx.Client, project: Project, bad_events: list[object]
) -> None:
    good = [event(properties={"key": "HERE"}), event(event_name="HERE", properties={"nested": '{"key": "HERE"}'})]
    template = json.dumps(project.batch(*good, *bad_events, sdk="HERE")).replace(project.key, "ENVELOPE")
    writings = [project.key, disguised(project.key), "".join(f"\\u{ord(letter):04X}" for letter in project.key)]
    for envelope in writings:
        for inside in writings:
            body = template.replace("ENVELOPE", envelope).replace("HERE", inside).encode()
            assert post(client, body).json()["accepted"] == 2
    assert len(server.frames(project)) == 9
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    assert server.folder / "stderr" in files
    assert [path for path in files if holds(path, project.key)] == []


def holds(path: Path, key: str) -> bool:
    """Whether a file has the key, or what is left of it when escapes of any depth are undone."""
    data = path.read_bytes()
    tail = key.removeprefix("kx_key_").encode()
    escaped = "".join(f"u{ord(letter):04x}" for letter in key[-6:]).encode()
    return tail in data or escaped in data.lower().replace(b"\\", b"")


NAMES = ['"api_key"', '"api\\u005fkey"', '"\\u0061pi_key"']


@pytest.mark.parametrize("second", NAMES)
@pytest.mark.parametrize("first", NAMES)
def test_a_key_that_another_member_of_the_same_name_overrides_does_not_reach_the_disk_either(
    server: Server, client: httpx.Client, project: Project, first: str, second: str
) -> None:
    other = server.project()
    start, _, rest = project.body(event()).decode().partition('"api_key": ')
    body = f'{start}{first}: "{other.key}", {second}: {rest}'
    assert post(client, body.encode()).json() == {"status": "ok", "accepted": 1}
    assert len(server.frames(project)) == 1
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    assert [path for path in files if holds(path, other.key) or holds(path, project.key)] == []


def test_a_property_called_api_key_is_kept_as_it_is(server: Server, client: httpx.Client, project: Project) -> None:
    properties = {"api_key": "that of some map service"}
    assert post(client, project.body(event(properties=properties))).json() == {"status": "ok", "accepted": 1}
    ((kept,),) = (payload["events"] for payload in server.payloads(project))
    assert json.loads(kept["properties"]) == properties


KEY_OF_ANOTHER_SHAPE = "s3cr3t-w0rd"


class Doubles:
    """Everything that an application stands on, made so that its work fails on a secret."""

    durability = "fsync"

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []
        self.statuses: list[int] = []

    def rehearsal(self) -> "Doubles":
        return self

    async def read(self, *_: object) -> bytes:
        raise KeyError(KEY_OF_ANOTHER_SHAPE)

    def error(self, event: str, **values: object) -> None:
        self.lines.append({"event": event, **values})

    def response_bytes(self, status: int, *_: object) -> None:
        self.statuses.append(status)


def test_the_log_line_of_a_defect_tells_where_it_is_and_nothing_of_the_request(tmp_path: Path) -> None:
    doubles: Any = Doubles()
    with closing(MetricFile(tmp_path / "metrics")) as metrics:
        application = Application(
            doubles,
            doubles,
            doubles,
            doubles,
            Notes(metrics, doubles, doubles),
            doubles,
            lambda: 0,
            lambda: 0,
            Settings(data_dir=tmp_path),
        )
        scope = SimpleNamespace(path="/v1/batch", method="POST", headers={}, query_string="")
        asyncio.run(application.__rsgi__(scope, doubles))
    assert doubles.statuses == [500]
    (line,) = doubles.lines
    assert line["error"] == "KeyError"
    assert "test_answers.py" in str(line["where"])
    assert KEY_OF_ANOTHER_SHAPE not in str(line)
