"""Who gets into the console, and who does not: every lock of the private port, attacked."""

import base64
import hmac
import json
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from itsdangerous import URLSafeTimedSerializer
from starlette.requests import Request

from kixo.console.gate import BODY_BYTES_MAX
from kixo.console.hosts import is_known_host
from kixo.console.navigation import PAGES
from kixo.registry import open_registry
from kixo.registry.login import create_login_token, session_secret
from kixo.registry.tokens import create_read_token, revoke_read_token
from kixo.settings import Settings
from tests.conftest import PATIENCE_S, Project, Server, running
from tests.console.entering import csrf_token, logged_in, login_link
from tests.test_server import kixo

CLOSED = ("/", *(page.path for page in PAGES), "/logout", "/api/query", "/nothing", "/openapi.json", "/registry.sqlite")


@pytest.fixture(scope="module")
def project(served: Server) -> Project:
    return served.project()


@pytest.fixture
def client(served: Server) -> Iterator[httpx.Client]:
    with logged_in(served) as found:
        yield found


@pytest.fixture
def anonymous(served: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.console_url, timeout=PATIENCE_S) as found:
        yield found


def secret_of(server: Server) -> bytes:
    with open_registry(Settings(data_dir=server.folder)) as registry:
        return session_secret(registry)


def cookie_of(client: httpx.Client) -> tuple[str, str]:
    (found,) = [cookie for cookie in client.cookies.jar if cookie.name.startswith("kixo_session_")]
    return found.name, str(found.value)


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_without_a_session_nothing_is_shown_and_nothing_told(anonymous: httpx.Client, path: str, method: str) -> None:
    answer = anonymous.request(method, path)
    assert answer.status_code == 401
    assert "kx_proj" not in answer.text
    if path.startswith("/api/") and method != "HEAD":
        assert answer.json()["code"] == "unauthorized"
    elif method != "HEAD":
        assert "kixo console login-link" in answer.text


def test_metrics_and_liveness_need_no_session(anonymous: httpx.Client) -> None:
    assert "kixo_requests_total" in anonymous.get("/metrics").text
    assert anonymous.get("/healthz").json() == {"status": "ok"}


def test_a_link_works_once(served: Server, anonymous: httpx.Client) -> None:
    link = login_link(served)
    assert anonymous.head(link).status_code == 401
    first = anonymous.get(link)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    assert anonymous.get(PAGES[0].path).status_code == 200
    second = anonymous.get(link)
    assert second.status_code == 401
    assert "kixo console login-link" in second.text
    assert "set-cookie" not in second.headers


@pytest.mark.parametrize("token", ["", "kx_login_" + "a" * 32, "%00", "a" * 10_000, "%ed%a0%80"])
def test_a_token_that_was_never_given_lets_nobody_in(anonymous: httpx.Client, token: str) -> None:
    answer = anonymous.get(f"/login?token={token}")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_an_expired_link_lets_nobody_in(served: Server, anonymous: httpx.Client) -> None:
    with open_registry(Settings(data_dir=served.folder)) as registry:
        token = create_login_token(registry, -1)
    assert anonymous.get(f"/login?token={token}").status_code == 401


def test_the_cookie_is_one_that_no_script_sees_and_no_other_site_sends(served: Server, anonymous: httpx.Client) -> None:
    plain = anonymous.get(login_link(served)).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(plain.split("; "))
    assert "Secure" not in plain
    behind_tls = anonymous.get(login_link(served), headers={"X-Forwarded-Proto": "https"}).headers["set-cookie"]
    assert "Secure" in behind_tls.split("; ")


def test_a_link_on_another_site_leads_through_a_page_of_ours(served: Server, anonymous: httpx.Client) -> None:
    answer = anonymous.get(login_link(served), headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert 'http-equiv="refresh"' in answer.text
    assert anonymous.get(PAGES[0].path).status_code == 200


def forged(secret: bytes, value: object) -> str:
    serializer = URLSafeTimedSerializer(
        secret, salt="kixo session", serializer=json, signer_kwargs={"digest_method": sha256}
    )
    return str(serializer.dumps(value))


def test_a_forged_cookie_is_no_session(served: Server, client: httpx.Client, project: Project) -> None:
    name, good = cookie_of(client)
    head, _, signature = good.rpartition(".")
    payload, _, time = head.rpartition(".")
    other = base64.urlsafe_b64encode(b'"other"').decode().rstrip("=")
    wrong = [
        "",
        "x",
        head,
        f"{head}.",
        f"{head}.{signature[:-2]}AA",
        f"{other}.{time}.{signature}",
        f"{payload}.zzzzzz.{signature}",
        forged(b"", "id"),
        forged(project.key.encode(), "id"),
        forged(bytes(32), "id"),
        forged(secret_of(served), ["not", "an", "id"]),
        project.key,
        hmac.new(b"", b"", sha256).hexdigest(),
    ]
    with httpx.Client(base_url=served.console_url) as stranger:
        for value in wrong:
            assert stranger.get("/projects", headers={"Cookie": f"{name}={value}"}).status_code == 401, value
        assert stranger.get("/projects", headers={"Cookie": f"{name}={good}"}).status_code == 200


def test_a_flash_message_is_no_session(served: Server, client: httpx.Client) -> None:
    name, _ = cookie_of(client)
    flash = URLSafeTimedSerializer(
        secret_of(served), salt="kixo flash", serializer=json, signer_kwargs={"digest_method": sha256}
    ).dumps("id")
    with httpx.Client(base_url=served.console_url) as stranger:
        assert stranger.get("/projects", headers={"Cookie": f"{name}={flash}"}).status_code == 401


def test_signing_out_ends_every_session_at_once(tmp_path: Path) -> None:
    with running(tmp_path, {}, projects=1) as server, logged_in(server) as one, logged_in(server) as other:
        link = login_link(server)
        assert [each.get("/projects").status_code for each in (one, other)] == [200, 200]
        assert kixo("console", "sign-out", "--data-dir", tmp_path).returncode == 0
        assert [each.get("/projects").status_code for each in (one, other)] == [401, 401]
        assert one.get(link).status_code == 401
        with logged_in(server) as again:
            assert again.get("/projects").status_code == 200


def test_a_session_ends_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, {"KIXO_SESSION_S": "60"}, projects=1) as server, logged_in(server) as client:
        assert "Max-Age=60;" in client.get(login_link(server)).headers["set-cookie"]
        name, _ = cookie_of(client)
        old = URLSafeTimedSerializer(
            secret_of(server), salt="kixo session", serializer=json, signer_kwargs={"digest_method": sha256}
        )
        signer = old.make_signer(old.salt)
        monkeypatch.setattr(signer, "get_timestamp", lambda: 1_000_000_000)
        value = signer.sign(old.dump_payload("id")).decode()
        assert client.get("/projects", headers={"Cookie": f"{name}={value}"}).status_code == 401


def test_logging_out_takes_the_cookie(client: httpx.Client) -> None:
    answer = client.post("/logout", data={"csrf": csrf_token(client)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert client.get("/projects").status_code == 401


def test_an_ingest_key_opens_nothing(served: Server, client: httpx.Client, project: Project) -> None:
    name, _ = cookie_of(client)
    for headers in (
        {"Authorization": f"Bearer {project.key}"},
        {"Authorization": f"Basic {base64.b64encode(f'{project.id}:{project.key}'.encode()).decode()}"},
        {"Cookie": f"{name}={project.key}"},
        {"X-Api-Key": project.key},
        {"X-CSRF-Token": project.key},
    ):
        with httpx.Client(base_url=served.console_url, headers=headers) as sender:
            for path in ("/", "/projects", "/health", "/api/query", "/api/events"):
                assert sender.get(path).status_code == 401
                assert sender.post(path, json={"api_key": project.key}).status_code == 401
            assert sender.get(f"/login?token={project.key}").status_code == 401


def test_a_read_token_opens_the_api_and_no_page(served: Server) -> None:
    with open_registry(Settings(data_dir=served.folder)) as registry:
        record, token = create_read_token(registry)
        bearer = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=served.console_url, headers=bearer) as reader:
            assert reader.get("/api/nothing").json()["code"] == "not_found"
            for path in ("/", "/projects", "/logout", f"/login?token={token}"):
                assert reader.get(path).status_code == 401
            revoke_read_token(registry, record.id)
            assert reader.get("/api/nothing").json()["code"] == "unauthorized"


OTHERS = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://["},
    {"Origin": "", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("headers", OTHERS, ids=str)
def test_a_form_of_another_site_is_refused_even_with_the_right_token(
    client: httpx.Client, headers: dict[str, str]
) -> None:
    answer = client.post("/logout", data={"csrf": csrf_token(client)}, headers=headers)
    assert answer.status_code == 403
    assert client.get("/projects").status_code == 200


def test_who_says_nothing_of_where_it_comes_from_is_refused(served: Server, client: httpx.Client) -> None:
    name, value = cookie_of(client)
    token = csrf_token(client)
    with httpx.Client(base_url=served.console_url, cookies={name: value}) as silent:
        assert silent.post("/logout", data={"csrf": token}).status_code == 403


def test_a_form_needs_the_token_of_its_session(served: Server, client: httpx.Client) -> None:
    token = csrf_token(client)
    with logged_in(served) as other:
        foreign = csrf_token(other)
    assert foreign != token
    for wrong in ("", "x", foreign, token[:-1], token.upper(), token + "0"):
        assert client.post("/logout", data={"csrf": wrong}).status_code == 403
        assert client.post("/logout", headers={"X-CSRF-Token": wrong}).status_code == 403
    assert client.post("/logout").status_code == 403
    assert client.post("/logout", json={"csrf": token}).status_code == 403
    assert client.post(f"/logout?csrf={token}").status_code == 403
    assert client.post("/logout", files={"csrf": (None, token)}).status_code == 403
    assert client.delete("/projects").status_code == 403
    assert client.get("/projects").status_code == 200
    assert client.post("/logout", headers={"X-CSRF-Token": token}).status_code == 303


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8001",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]",
        "[::1].evil.example",
        "[::1]x",
        "127.0.0.1:80@evil.example",
        "localhost:evil.example",
        "",
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/", "/login", "/static/base.css", "/api/query"])
def test_a_name_that_nobody_gave_it_is_refused_for_every_path(anonymous: httpx.Client, host: str, path: str) -> None:
    answer = anonymous.get(path, headers={"Host": host})
    assert answer.status_code == 400
    assert "kixo_requests" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "127.9.9.9", "[::1]:8001", "[::1]"])
def test_every_name_of_this_machine_is_known(anonymous: httpx.Client, host: str) -> None:
    assert anonymous.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"GET /projects HTTP/1.0\r\n\r\n", 401),
        (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 400),
        (b"GET http://evil.example/healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 400),
    ],
)
def test_a_request_without_one_clear_name_is_taken_from_old_programs_only(
    served: Server, head: bytes, status: int
) -> None:
    address = httpx.URL(served.console_url)
    with socket.create_connection((address.host, address.port or 80), timeout=PATIENCE_S) as wire:
        wire.sendall(head)
        assert int(wire.makefile("rb").readline().split()[1]) == status


def asked_by(host: str, **settings: str) -> bool:
    scope = {"type": "http", "headers": [(b"host", host.encode())]}
    return is_known_host(Request(scope), Settings(**settings))  # type: ignore[arg-type]


def test_names_that_the_settings_give_are_known_and_no_others() -> None:
    assert asked_by("kixo.example.com", console_url="https://kixo.example.com")
    assert asked_by("kixo.example.com:443", console_url="https://kixo.example.com:443")
    assert asked_by("metrics.internal:8001", console_names="other, Metrics.internal")
    assert asked_by("box", console_host="box")
    assert not asked_by("example.com", console_url="https://kixo.example.com")
    assert not asked_by("192.168.1.5")
    assert not asked_by("0.0.0.0", console_host="127.0.0.1")


def test_a_port_that_is_open_to_all_interfaces_is_known_by_any_address_and_no_strange_name() -> None:
    for wildcard, address in (("0.0.0.0", "192.168.1.5:8001"), ("::", "[fe80::1]:8001")):
        assert asked_by(address, console_host=wildcard)
        assert not asked_by("evil.example", console_host=wildcard)


def test_every_answer_has_the_headers_that_bind_a_browser(served: Server, client: httpx.Client) -> None:
    paths = ["/projects", "/nothing", "/login", "/metrics", "/healthz", "/api/nothing", "/static/nothing"]
    answers = [client.get(path) for path in paths] + [client.post("/projects"), client.get("/", headers={"Host": "x"})]
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        nonce = re.fullmatch(r"'self' 'nonce-([\w-]{22})'", policy.pop("style-src"))
        assert nonce is not None
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "img-src": "'self' data:",
            "connect-src": f"'self' {served.url}",
            "font-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'self'",
            "frame-ancestors": "'none'",
        }
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
    assert len({answer.headers["content-security-policy"] for answer in answers}) == len(answers)


def test_pages_have_nothing_inline_and_nothing_from_elsewhere(client: httpx.Client) -> None:
    for page in PAGES:
        text = client.get(page.path).text
        assert not re.search(r"<script(?![^>]*(\bsrc=|application/json))", text)
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
        assert not re.search(r'(src|href|action)="(https?:)?//', text)


def test_assets_are_kept_for_ever_and_come_compressed(client: httpx.Client, anonymous: httpx.Client) -> None:
    (path,) = re.findall(r'href="(/static/base-[0-9a-f]{16}\.css)"', client.get("/projects").text)
    answer = anonymous.get(path)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    plain = anonymous.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == answer.text


@pytest.mark.parametrize(
    "path",
    ["base.css", "", "..", "../templates/layout.html", "..%2f..%2fregistry.sqlite", "%2e%2e/gate.py", "//etc/passwd"],
)
def test_no_path_below_static_leads_anywhere_else(served: Server, path: str) -> None:
    host = httpx.URL(served.console_url)
    target = f"/static/{path}".encode()
    request = httpx.Request("GET", host, extensions={"target": target})
    with httpx.Client() as client:
        answer = client.send(request)
    assert answer.status_code in {401, 404}
    assert "block" not in answer.text or "{%" not in answer.text


def test_a_body_that_is_too_large_is_refused(client: httpx.Client) -> None:
    token = csrf_token(client)
    answer = client.post("/logout", data={"csrf": token, "x": "x" * BODY_BYTES_MAX})
    assert answer.status_code == 413
    assert client.post("/logout", content=b"csrf=\xff", headers=FORM).status_code == 400
    assert client.get("/projects").status_code == 200


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_what_goes_wrong_is_a_page_for_people_and_json_for_programs(client: httpx.Client) -> None:
    page, data = client.get("/nothing"), client.get("/api/nothing")
    assert (page.status_code, data.status_code) == (404, 404)
    assert "<h1>Not found</h1>" in page.text
    assert data.json() == {"status": "error", "code": "not_found", "message": "There is nothing at this path."}
    wrong = client.put("/logout", headers={"X-CSRF-Token": csrf_token(client)})
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert client.get("/projects?project=nobody").status_code == 404
    assert client.get("/projects?environment=nowhere").status_code == 404


def test_a_registry_that_cannot_be_read_is_told_and_metrics_go_on(tmp_path: Path) -> None:
    with running(tmp_path, {}, projects=1) as server, logged_in(server) as client:
        registry = tmp_path / "registry.sqlite"
        away = registry.rename(tmp_path / "away")
        answer = client.get("/projects")
        assert answer.status_code == 503
        assert "There is no registry" in answer.text
        assert client.get("/api/query").json()["code"] == "unavailable"
        assert client.get("/metrics").status_code == 200
        away.rename(registry)
        assert client.get("/projects").status_code == 200


def test_a_restored_registry_is_in_force_at_once(tmp_path: Path) -> None:
    with running(tmp_path, {}, projects=1) as server, logged_in(server) as client:
        registry, backup = tmp_path / "registry.sqlite", tmp_path / "backup"
        # By SQLite: the file alone may lack what is in its write-ahead log.
        with closing(sqlite3.connect(registry)) as source, closing(sqlite3.connect(backup)) as copy:
            source.backup(copy)
        made = client.post("/projects", data={"csrf": csrf_token(client), "name": "Made later"})
        assert "Made later" in client.get(made.headers["location"]).text
        assert kixo("console", "sign-out", "--data-dir", tmp_path).returncode == 0
        assert client.get("/projects").status_code == 401
        for beside in tmp_path.glob("registry.sqlite-*"):
            beside.unlink()
        backup.rename(registry)
        assert "Made later" not in client.get("/projects").text
        assert client.get("/projects").status_code == 200


def test_the_first_start_shows_a_link_and_later_ones_say_how_to_get_one(tmp_path: Path) -> None:
    with running(tmp_path, {}, projects=1) as server:
        assert server.process.stdout is not None
        told = b"".join(server.process.stdout.readline() for _ in range(4)).decode()
        (link,) = re.findall(r"http://127\.0\.0\.1:\d+/login\?token=kx_login_[a-z0-9]{32}", told)
        assert httpx.get(link).status_code == 303
    with running(tmp_path, {}, projects=1) as server:
        assert server.process.stdout is not None
        assert server.process.stdout.readline().decode().strip().endswith(f"console login-link --data-dir {tmp_path}")


def test_a_login_link_is_made_while_the_server_runs(served: Server, anonymous: httpx.Client) -> None:
    link = kixo("console", "login-link", "--data-dir", served.folder).stdout.strip()
    assert link.startswith(f"{served.console_url}/login?token=")
    assert anonymous.get(link).status_code == 303
