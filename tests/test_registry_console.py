"""What the registry keeps for the console: who may enter, who may read, saved queries, and what was replayed."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from kixo.errors import BadArgument
from kixo.layout import Layout
from kixo.registry import Registry, replays, tokens
from kixo.registry.file import RegistryFile, create
from kixo.registry.login import (
    LOGIN_TOKENS_MAX,
    create_login_token,
    has_session_secret,
    renew_session_secret,
    session_secret,
    use_login_token,
)
from kixo.registry.replays import find_replays, list_replays, record_replays
from kixo.registry.saved import delete_saved_query, find_saved_query, list_saved_queries, save_query
from kixo.registry.schema import set_up
from kixo.registry.tokens import create_read_token, find_live_read_token, list_read_tokens, revoke_read_token

NOW_US = 1_775_650_000_000_000


class Clock:
    def __init__(self) -> None:
        self.us = NOW_US

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Layout(tmp_path / "data").registry


def opened(path: Path, clock: Clock, seed: int = 7) -> Registry:
    create(path, set_up)
    return Registry(RegistryFile(path, 5.0), projects_max=10, now_us=clock, randomness=Random(seed))


@pytest.fixture
def registry(path: Path, clock: Clock) -> Iterator[Registry]:
    with opened(path, clock) as registry:
        yield registry


def everything(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_the_secret_is_made_once_and_is_the_same_for_every_process(
    registry: Registry, path: Path, clock: Clock
) -> None:
    assert not has_session_secret(registry)
    secret = session_secret(registry)
    assert len(secret) == 32
    with opened(path, clock, seed=8) as other:
        assert session_secret(other) == session_secret(registry) == secret
        assert has_session_secret(other)


def test_a_renewed_secret_is_another_and_ends_links_too(registry: Registry) -> None:
    secret, token = session_secret(registry), create_login_token(registry, 60)
    renew_session_secret(registry)
    assert session_secret(registry) != secret
    assert not use_login_token(registry, token)


def test_a_login_token_lets_in_once(registry: Registry) -> None:
    token, other = create_login_token(registry, 60), create_login_token(registry, 60)
    assert token != other
    assert [use_login_token(registry, token) for _ in range(2)] == [True, False]
    assert use_login_token(registry, other)


def test_of_many_who_use_a_login_token_at_once_one_gets_in(registry: Registry, path: Path, clock: Clock) -> None:
    token = create_login_token(registry, 60)

    def use(seed: int) -> bool:
        with opened(path, clock, seed) as mine:
            return use_login_token(mine, token)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(use, range(16))) == 1


def test_a_login_token_expires(registry: Registry, clock: Clock) -> None:
    token, longer = create_login_token(registry, 60), create_login_token(registry, 61)
    clock.us += 60_000_000
    assert not use_login_token(registry, token)
    assert use_login_token(registry, longer)


@pytest.mark.parametrize("token", ["", "kx_login_", "kx_key_xyz789", "\ud800", "x" * 1_000_000, "' OR 1=1 --"])
def test_what_is_no_login_token_lets_nobody_in(registry: Registry, token: str) -> None:
    create_login_token(registry, 60)
    assert not use_login_token(registry, token)


def test_login_tokens_are_bounded_and_old_ones_go(registry: Registry, path: Path, clock: Clock) -> None:
    tokens = []
    for _ in range(LOGIN_TOKENS_MAX + 1):
        clock.us += 1
        tokens.append(create_login_token(registry, 60))
    assert not use_login_token(registry, tokens[0])
    assert use_login_token(registry, tokens[1])
    clock.us += 61_000_000
    create_login_token(registry, 60)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM login_tokens").fetchone() == (1,)


def test_neither_login_nor_read_tokens_are_in_the_file(registry: Registry, path: Path) -> None:
    tokens = [create_login_token(registry, 60), create_read_token(registry)[1]]
    for token in tokens:
        assert token.encode() not in everything(path)


def test_what_the_console_keeps_gives_workers_no_new_snapshot(registry: Registry) -> None:
    session_secret(registry)
    use_login_token(registry, create_login_token(registry, 60))
    save_query(registry, "name", "SELECT 1")
    record_replays(registry, "log", [((0, 1, 2), "accepted")])
    revoke_read_token(registry, create_read_token(registry)[0].id)
    assert registry.revision() == 0


def test_a_read_token_is_made_shown_found_and_listed(registry: Registry) -> None:
    record, token = create_read_token(registry, "Dashboard")
    assert token.startswith("kx_read_")
    assert len(token) == 40
    assert (record.name, record.hint, record.created_at_us, record.revoked_at_us) == (
        "Dashboard",
        token[-4:],
        NOW_US,
        None,
    )
    assert find_live_read_token(registry, token) == record
    assert list_read_tokens(registry) == [record]


@pytest.mark.parametrize("by_id", [True, False])
def test_a_revoked_read_token_is_found_no_more_and_stays_in_the_list(registry: Registry, by_id: bool) -> None:
    record, token = create_read_token(registry)
    other, other_token = create_read_token(registry)
    revoked = revoke_read_token(registry, record.id if by_id else token)
    assert revoked.revoked_at_us == NOW_US
    assert revoke_read_token(registry, record.id) == revoked
    assert find_live_read_token(registry, token) is None
    assert find_live_read_token(registry, other_token) == other
    assert revoked in list_read_tokens(registry)


def test_what_is_no_read_token_is_not_found_and_not_repeated(registry: Registry) -> None:
    project = registry.create_project()
    _, api_key = registry.create_key(project.id)
    record, token = create_read_token(registry)
    for wrong in ("", "kx_read_", api_key, record.id, token.upper(), token + " ", "kx_read_" + "x" * 1_000_000):
        assert find_live_read_token(registry, wrong) is None
    with pytest.raises(BadArgument, match="no such read token") as caught:
        revoke_read_token(registry, "kx_read_unknown")
    assert "unknown" not in str(caught.value)


def test_read_tokens_have_good_names_and_are_bounded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x" * 201, "two\nlines", "\x1b[2J"):
        with pytest.raises(BadArgument, match="token's name"):
            create_read_token(registry, name)
    monkeypatch.setattr(tokens, "READ_TOKENS_MAX", 1)
    create_read_token(registry)
    with pytest.raises(BadArgument, match="which is the most"):
        create_read_token(registry)


def test_a_query_is_saved_changed_and_deleted(registry: Registry, clock: Clock) -> None:
    second = save_query(registry, "Second", "SELECT 2", "line")
    first = save_query(registry, " First ", "SELECT 1")
    assert list_saved_queries(registry) == [first, second]
    assert (first.name, first.chart, second.chart) == ("First", "", "line")
    clock.us += 1
    changed = save_query(registry, "First", "SELECT 11", "bar", id=first.id)
    assert (changed.sql, changed.chart, changed.created_at_us, changed.changed_at_us) == (
        "SELECT 11",
        "bar",
        NOW_US,
        NOW_US + 1,
    )
    assert find_saved_query(registry, first.id) == changed
    assert delete_saved_query(registry, second.id) == second
    assert list_saved_queries(registry) == [changed]
    assert find_saved_query(registry, second.id) is None


def test_a_query_that_cannot_be_saved_says_why(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = save_query(registry, "Name", "SELECT 1")
    other = save_query(registry, "Other", "SELECT 1")
    for arguments, reason in (
        (("", "SELECT 1"), "query's name"),
        (("x" * 201, "SELECT 1"), "query's name"),
        (("two\nlines", "SELECT 1"), "query's name"),
        (("new", " "), "1 characters"),
        (("new", "x" * 100_001), "100001 characters"),
        (("new", "SELECT 1", "x" * 2001), "2001 characters"),
        (("Name", "SELECT 1"), "already"),
        (("Name", "SELECT 1", "", other.id), "already"),
        (("new", "SELECT 1", "", "q_nobody"), "no such saved query"),
    ):
        with pytest.raises(BadArgument, match=reason):
            save_query(registry, *arguments)
    with pytest.raises(BadArgument, match="no such saved query"):
        delete_saved_query(registry, "q_nobody")
    monkeypatch.setattr("kixo.registry.saved.SAVED_QUERIES_MAX", 2)
    with pytest.raises(BadArgument, match="which is the most"):
        save_query(registry, "Third", "SELECT 1")
    assert list_saved_queries(registry) == [saved, other]


def test_replays_are_kept_by_place_and_the_last_one_counts(registry: Registry, clock: Clock) -> None:
    record_replays(
        registry, "log", [((0, 7, 1), "invalid_timestamp"), ((0, 7, 0), "accepted"), ((1, 3, 0), "accepted")]
    )
    record_replays(registry, "other", [((0, 7, 1), "accepted")])
    clock.us += 5
    record_replays(registry, "log", [((0, 7, 1), "accepted")])
    found = find_replays(registry, "log", [(0, 7, 1), (1, 3, 0), (9, 9, 9)])
    assert {place: (replay.outcome, replay.replayed_at_us) for place, replay in found.items()} == {
        (0, 7, 1): ("accepted", NOW_US + 5),
        (1, 3, 0): ("accepted", NOW_US),
    }
    assert [replay.place for replay in list_replays(registry, "log")] == [(0, 7, 0), (0, 7, 1), (1, 3, 0)]
    assert find_replays(registry, "log", []) == {}


def test_many_replays_are_kept_at_once_and_their_number_is_bounded(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [(0, offset, index) for offset in range(1000) for index in range(5)]
    record_replays(registry, "log", [(place, "accepted") for place in places])
    assert len(find_replays(registry, "log", places)) == 5000
    monkeypatch.setattr(replays, "REPLAYS_MAX", 5000)
    with pytest.raises(BadArgument, match="Replay fewer"):
        record_replays(registry, "log", [((1, 1, 1), "accepted")])
    assert find_replays(registry, "log", [(1, 1, 1)]) == {}
