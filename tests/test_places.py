from pathlib import Path

import pytest

from kixo.errors import BadSetting
from kixo.places import (
    SECRETS,
    Address,
    FolderPlace,
    KafkaPlace,
    PostgreSQLPlace,
    RedisPlace,
    S3Place,
    lake_place,
    limits_place,
    log_place,
    registry_place,
    secret,
    secret_variables,
)
from kixo.settings import PLACES, Settings, resolve, unknown_variables

HIDDEN = "hunter2"


@pytest.mark.parametrize("name", PLACES)
def test_an_empty_text_is_the_local_form(name: str) -> None:
    assert PLACES[name]("", "here") is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("kafka://h1/t", KafkaPlace((Address("h1", 9092),), "t", tls=False)),
        ("kafka://h1:1,h2:2/a.b-c", KafkaPlace((Address("h1", 1), Address("h2", 2)), "a.b-c", tls=False)),
        ("kafka+ssl://[::1]:9093/t", KafkaPlace((Address("::1", 9093),), "t", tls=True)),
    ],
)
def test_a_log_is_a_topic_of_brokers(text: str, place: KafkaPlace) -> None:
    assert log_place(text) == place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3://bucket", S3Place("bucket", "")),
        ("s3://bucket/", S3Place("bucket", "")),
        ("s3://bucket/a/b/", S3Place("bucket", "a/b")),
        ("file:///srv/a%20lake", FolderPlace(Path("/srv/a lake"))),
        ("/srv/lake", FolderPlace(Path("/srv/lake"))),
        ("lake", FolderPlace(Path("lake"))),
    ],
)
def test_a_lake_is_a_prefix_of_a_bucket_or_a_folder(text: str, place: S3Place | FolderPlace) -> None:
    assert lake_place(text) == place


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_registry_is_a_database_with_a_user(scheme: str) -> None:
    assert registry_place(f"{scheme}://ki%40xo@h/db?sslmode=require") == PostgreSQLPlace(
        (Address("h", 5432),), "ki@xo", "db", (("sslmode", "require"),)
    )
    several = registry_place(f"{scheme}://u@h1:1,h2:2/db")
    assert several is not None
    assert several.addresses == (Address("h1", 1), Address("h2", 2))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("redis://h", RedisPlace(Address("h", 6379), 0, tls=False)),
        ("redis://h:1/3", RedisPlace(Address("h", 1), 3, tls=False)),
        ("rediss://h/", RedisPlace(Address("h", 6379), 0, tls=True)),
    ],
)
def test_limits_are_a_numbered_database(text: str, place: RedisPlace) -> None:
    assert limits_place(text) == place


def test_an_address_is_written_so_that_it_can_be_read_again() -> None:
    assert str(Address("h", 1)) == "h:1"
    assert str(Address("::1", 1)) == "[::1]:1"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log", f"kafka://user:{HIDDEN}@h/t"),
        ("log", f"kafka://{HIDDEN}@h/t"),
        ("lake", f"s3://AKIA:{HIDDEN}@bucket/p"),
        ("registry", f"postgresql://user:{HIDDEN}@h/db"),
        ("registry", f"postgresql://user@h/db?password={HIDDEN}"),
        ("registry", f"postgresql://:{HIDDEN}@h/db"),
        ("limits", f"redis://:{HIDDEN}@h/0"),
        ("limits", f"rediss://user:{HIDDEN}@h/0"),
    ],
)
def test_a_url_with_a_password_is_refused_without_repeating_it(name: str, text: str) -> None:
    for flags, environment, file in (
        ({name: text}, {}, {}),
        ({}, {f"KIXO_{name.upper()}": text}, {}),
        ({}, {}, {name: text}),
    ):
        with pytest.raises(BadSetting, match=r"others could read .* Leave it out of the URL and set ") as caught:
            resolve(flags, environment, file)
        assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log", "h1:9092"),
        ("log", f"amqp://u:{HIDDEN}@h/t"),
        ("log", "kafka://h1"),
        ("log", "kafka:///t"),
        ("log", "kafka://h1/a/b"),
        ("log", "kafka://h1/a b"),
        ("log", "kafka://h1/.."),
        ("log", "kafka://h1:99999/t"),
        ("log", "kafka://h1:0/t"),
        ("log", "kafka://h1:x/t"),
        ("log", "kafka://h1,/t"),
        ("log", "kafka://[::1/t"),
        ("log", "kafka://h/t?acks=1"),
        ("lake", "gs://bucket/p"),
        ("lake", "s3://"),
        ("lake", "s3://Bucket/p"),
        ("lake", "s3://bucket/a//b"),
        ("lake", "s3://bucket/../b"),
        ("lake", "s3://bucket/p#x"),
        ("lake", "file://elsewhere/p"),
        ("lake", "file:///"),
        ("registry", "mysql://u@h/db"),
        ("registry", "postgresql://h/db"),
        ("registry", "postgresql://u@h"),
        ("registry", "postgresql://u@h/a/b"),
        ("registry", "postgresql://u@h/db?options=x"),
        ("limits", "memcached://h"),
        ("limits", "redis://h1,h2/0"),
        ("limits", "redis://h/x"),
        ("limits", "redis://h/0?db=1"),
    ],
)
def test_a_place_that_cannot_be_is_refused_with_its_source_and_an_example(name: str, text: str) -> None:
    with pytest.raises(BadSetting, match=f"^KIXO_{name.upper()} .*[.] .*[.]$") as caught:
        resolve({}, {f"KIXO_{name.upper()}": text}, {})
    assert HIDDEN not in str(caught.value)


def test_a_good_place_is_taken_from_everywhere() -> None:
    assert resolve({}, {"KIXO_LOG": "kafka://h/t"}, {"limits": "redis://h"}) == Settings(
        log="kafka://h/t", limits="redis://h"
    )
    assert set(PLACES) == {"log", "lake", "registry", "limits"}


def test_a_secret_comes_from_its_variable_or_from_the_file_that_one_names(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from a file\n")
    assert secret("LOG_PASSWORD", {}) is None
    assert secret("LOG_PASSWORD", {"KIXO_LOG_PASSWORD": ""}) is None
    assert secret("LOG_PASSWORD", {"KIXO_LOG_PASSWORD": "said"}) == "said"
    assert secret("LOG_PASSWORD", {"KIXO_LOG_PASSWORD_FILE": str(file)}) == "from a file"
    file.write_text("renewed")
    assert secret("LOG_PASSWORD", {"KIXO_LOG_PASSWORD_FILE": str(file)}) == "renewed"


def test_the_environment_of_the_process_is_asked_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIXO_LIMITS_USER", "kixo")
    assert secret("LIMITS_USER") == "kixo"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadSetting, match=r"^KIXO_REGISTRY_PASSWORD_FILE names .*password, which "):
        secret("REGISTRY_PASSWORD", {"KIXO_REGISTRY_PASSWORD_FILE": str(file)})


def test_a_secret_in_two_places_is_refused(tmp_path: Path) -> None:
    both = {"KIXO_LOG_PASSWORD": HIDDEN, "KIXO_LOG_PASSWORD_FILE": str(tmp_path / "password")}
    with pytest.raises(BadSetting, match="Both KIXO_LOG_PASSWORD and KIXO_LOG_PASSWORD_FILE") as caught:
        secret("LOG_PASSWORD", both)
    assert HIDDEN not in str(caught.value)


def test_the_variables_of_secrets_are_known_and_suggested() -> None:
    assert len(secret_variables()) == len(SECRETS) + sum(row.in_file for row in SECRETS)
    assert unknown_variables(dict.fromkeys(secret_variables(), "x")) == []
    assert unknown_variables({"KIXO_LOG_PASSWORT": HIDDEN}) == [
        "The variable KIXO_LOG_PASSWORT is no setting. Did you mean 'KIXO_LOG_PASSWORD'?"
    ]
