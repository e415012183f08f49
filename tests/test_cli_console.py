"""`kixo token` and `kixo console` at the terminal."""

import json
from pathlib import Path

import pytest

from kixo.layout import Layout
from kixo.registry import open_registry
from kixo.registry.login import session_secret, use_login_token
from kixo.registry.tokens import find_live_read_token
from kixo.server_card import ServerCard, write_server_card
from kixo.settings import Settings
from tests.test_cli_project import Kixo, kixo

__all__ = ["kixo"]


@pytest.fixture
def begun(kixo: Kixo) -> Kixo:
    """The same, in a folder with a project."""
    kixo("project", "create", "--id", "p")
    return kixo


def test_a_read_token_is_made_and_can_be_taken_by_a_script(begun: Kixo) -> None:
    token = begun("token", "create", "--name", "Dashboard").out.strip()
    made = begun("token", "create", "--json").records[0]
    assert set(made) == {"id", "name", "hint", "created_at", "revoked_at", "token"}
    with open_registry(Settings()) as registry:
        found = find_live_read_token(registry, token)
        assert found is not None
        assert found.name == "Dashboard"
        assert find_live_read_token(registry, made["token"]) is not None


def test_lists_of_read_tokens_never_show_them(begun: Kixo) -> None:
    token = begun("token", "create").out.strip()
    for arguments in (["token", "list"], ["token", "list", "--json"]):
        listed = begun(*arguments).out
        assert token not in listed
        assert token[-4:] in listed


def test_a_read_token_is_revoked_by_its_id_and_by_itself(begun: Kixo) -> None:
    made = [begun("token", "create", "--json").records[0] for _ in range(2)]
    for argument in (made[0]["id"], made[1]["token"]):
        assert begun("token", "revoke", argument, "--json").records[0]["revoked_at"]
    with open_registry(Settings()) as registry:
        assert [find_live_read_token(registry, each["token"]) for each in made] == [None, None]
    assert begun("token", "revoke", "t_nobody").status == 2


def test_a_login_link_works_once_and_points_to_where_the_console_would_be(begun: Kixo) -> None:
    link = begun("console", "login-link").out.strip()
    address, _, token = link.partition("/login?token=")
    assert address == "http://127.0.0.1:8001"
    with open_registry(Settings()) as registry:
        assert use_login_token(registry, token)
    assert begun("console", "login-link", "--console-port", "9001").out.startswith("http://127.0.0.1:9001/login?")


def test_a_login_link_points_to_the_console_that_runs_or_to_the_proxy_before_it(begun: Kixo) -> None:
    layout = Layout(Path("kixo-data"))
    layout.run.mkdir(exist_ok=True)
    write_server_card(layout, ServerCard(1, "http://127.0.0.1:1", "http://127.0.0.1:2345", 1))
    assert begun("console", "login-link", "--console-port", "0").out.startswith("http://127.0.0.1:2345/login?")
    link = begun("console", "login-link", "--console-url", "https://kixo.example.com", "--json").records[0]
    assert link["url"].startswith("https://kixo.example.com/login?token=")
    assert link["seconds"] == 900


def test_a_login_link_to_nowhere_is_not_made(begun: Kixo) -> None:
    done = begun("console", "login-link", "--console-port", "0")
    assert (done.status, done.out) == (2, "")
    assert "Start the server" in done.err


def test_signing_out_makes_another_secret(begun: Kixo) -> None:
    with open_registry(Settings()) as registry:
        before = session_secret(registry)
        assert begun("console", "sign-out").status == 0
        assert session_secret(registry) != before


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--console-url", "kixo.example.com"),
        ("--console-url", "https://kixo.example.com/path"),
        ("--console-url", "javascript:alert(1)"),
        ("--console-url", "https://a b"),
        ("--login-token-s", "nan"),
    ],
)
def test_an_address_that_cannot_be_is_refused(begun: Kixo, flag: str, value: str) -> None:
    done = begun("console", "login-link", flag, value)
    assert (done.status, done.out) == (2, "")
    assert flag in done.err


def test_a_card_that_is_no_card_is_taken_for_none(begun: Kixo) -> None:
    layout = Layout(Path("kixo-data"))
    layout.run.mkdir(exist_ok=True)
    for content in (b"", b"{}", b"[1]", json.dumps({"pid": "x"}).encode()):
        layout.server_card.write_bytes(content)
        assert begun("console", "login-link").out.startswith("http://127.0.0.1:8001/")
