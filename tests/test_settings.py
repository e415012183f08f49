import inspect
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import get_args

import pytest
from cyclopts import Parameter

from kixo.cli import run
from kixo.cli.options import EVERY_SETTING, takes_settings
from kixo.errors import BadSetting
from kixo.settings import Settings, read_file, resolve, setting_fields, unknown_variables

NAMES = [row.name for row in setting_fields()]
NUMBERS = [row.name for row in setting_fields() if isinstance(row.default, int | float)]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(f"KIXO_{name.upper()}", raising=False)
    yield tmp_path


def test_with_nothing_said_every_setting_has_its_default() -> None:
    assert resolve({}, {}, {}) == Settings()


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_can_be_set_in_every_place(name: str) -> None:
    default = getattr(Settings(), name)
    for settings in (
        resolve({name: str(default)}, {}, {}),
        resolve({}, {f"KIXO_{name.upper()}": str(default)}, {}),
        resolve({}, {}, {name: str(default) if isinstance(default, Path) else default}),
    ):
        assert settings == Settings()
        assert type(getattr(settings, name)) is type(default)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_has_a_unit_and_a_sentence(name: str) -> None:
    metadata = next(row.metadata for row in setting_fields() if row.name == name)
    assert metadata["unit"]
    assert metadata["sentence"][0].isupper()
    assert metadata["sentence"].endswith(".")


def test_a_flag_wins_over_the_environment_which_wins_over_the_file() -> None:
    flags, environment, file = {"port": "1"}, {"KIXO_PORT": "2"}, {"port": 3}
    assert resolve(flags, environment, file).port == 1
    assert resolve({"port": None}, environment, file).port == 2
    assert resolve({}, {}, file).port == 3


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_outside_of_its_range_is_refused_with_the_range(name: str) -> None:
    row = next(row for row in setting_fields() if row.name == name)
    low, high = row.metadata["low"], row.metadata["high"]
    for value in (low - 1, *([] if high is None else [high + 1])):
        with pytest.raises(BadSetting, match=f"^--{name.replace('_', '-')} is .* It has to be .*{low}"):
            resolve({name: str(value)}, {}, {})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("port", "eighty", "not a whole number"),
        ("port", "", "not a whole number"),
        ("port", "80.5", "not a whole number"),
        ("port", "nan", "not a whole number"),
        ("stop_s_max", "soon", "not a number"),
        ("stop_s_max", "nan", "between"),
        ("stop_s_max", "inf", "between"),
        ("log_format", "xml", "auto, json or console"),
        ("log_level", "LOUD", "debug, info"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_source(name: str, value: str, message: str) -> None:
    with pytest.raises(BadSetting, match=f"KIXO_{name.upper()} is .*{message}") as caught:
        resolve({}, {f"KIXO_{name.upper()}": value}, {})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", [True, [1], {"a": 1}, 1.5, float("nan")])
def test_a_value_of_another_type_in_the_file_is_refused(value: object) -> None:
    with pytest.raises(BadSetting, match=r"kixo\.toml: port"):
        resolve({}, {}, {"port": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("port", float("inf"), id="infinity"),
        pytest.param("data_dir", 5, id="number-for-a-path"),
        pytest.param("stop_s_max", 10**400, id="beyond-a-double"),
    ],
)
def test_a_value_that_its_type_chokes_on_is_refused(name: str, value: object) -> None:
    with pytest.raises(BadSetting, match=name):
        resolve({}, {}, {name: value})


def test_an_unknown_name_in_the_file_gets_a_suggestion() -> None:
    with pytest.raises(BadSetting, match=r"unknown setting 'prot'\. Did you mean 'port'"):
        resolve({}, {}, {"prot": 1})
    with pytest.raises(BadSetting, match=r"docs/operating\.md"):
        resolve({}, {}, {"xyzzy": 1})


def test_other_variables_of_the_environment_are_nobody_s_business() -> None:
    assert resolve({}, {"KIXO_XYZZY": "1", "PORT": "2"}, {}) == Settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_a_file_is_read(empty_folder: Path) -> None:
    file = empty_folder / "kixo.toml"
    assert read_file(file, required=False) == {}
    file.write_text('port = 9000\nhost = "::1"\n')
    assert resolve({}, {}, read_file(file, required=True)) == Settings(port=9000, host="::1")


@pytest.mark.parametrize("content", [b"port = ", b"\xff"])
def test_a_file_that_is_not_toml_is_refused(empty_folder: Path, content: bytes) -> None:
    (empty_folder / "kixo.toml").write_bytes(content)
    with pytest.raises(BadSetting, match="cannot be read"):
        read_file(empty_folder / "kixo.toml", required=False)


def test_a_file_that_was_named_has_to_be_there(empty_folder: Path) -> None:
    with pytest.raises(BadSetting, match="no settings file"):
        read_file(empty_folder / "other.toml", required=True)


@takes_settings(*EVERY_SETTING)
def echo(settings: Settings, word: str = "", *, loud: bool = False) -> tuple[Settings, str, bool]:
    return settings, word, loud


def test_every_setting_becomes_a_flag_with_its_sentence_unit_and_default() -> None:
    arguments = inspect.signature(echo).parameters
    assert list(arguments) == ["word", "loud", "config", *NAMES]
    for row in setting_fields():
        flag = get_args(arguments[row.name].annotation)[1]
        assert isinstance(flag, Parameter)
        for part in (row.metadata["sentence"], row.metadata["unit"], str(row.default), f"KIXO_{row.name.upper()}"):
            assert part in (flag.help or "")


def test_a_command_gets_its_settings_and_its_own_arguments(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / "kixo.toml").write_text("port = 1\nworkers = 2\n")
    monkeypatch.setenv("KIXO_PORT", "3")
    assert echo("hello", loud=True) == (Settings(port=3, workers=2), "hello", True)
    assert echo(port="4") == (Settings(port=4, workers=2), "", False)
    (empty_folder / "other.toml").write_text("workers = 5\n")
    assert echo(config="other.toml") == (Settings(port=3, workers=5), "", False)


def test_a_command_has_no_flags_for_settings_it_does_not_take() -> None:
    @takes_settings("query_s_max")
    def query(settings: Settings) -> None: ...

    assert list(inspect.signature(query).parameters) == ["config", "data_dir", "query_s_max"]


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("KIXO_BODY_BYTE_MAX", "Did you mean 'KIXO_BODY_BYTES_MAX'?"),
        ("KIXO_DATADIR", "Did you mean 'KIXO_DATA_DIR'?"),
        ("KIXO_port", "Did you mean 'KIXO_PORT'?"),
        ("KIXO_XYZZY", "docs/operating.md lists every setting."),
    ],
)
def test_a_misspelt_variable_is_told_with_the_one_that_is_meant(variable: str, words: str) -> None:
    good = {"KIXO_PORT": "1", "KIXO_URL": "x", "KIXO_API_KEY": "x", "PATH": "x", "kixo_port": "x"}
    assert unknown_variables(good) == []
    assert unknown_variables({**good, variable: "1"}) == [f"The variable {variable} is no setting. {words}"]


def test_the_server_tells_of_a_misspelt_variable_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KIXO_DATADIR", str(tmp_path))
    # So that it ends at once.
    assert run(["serve", "--demo", "--host", "203.0.113.1", "--data-dir", str(tmp_path)]) == 2
    first, *_ = capsys.readouterr().err.splitlines()
    assert first == "kixo: The variable KIXO_DATADIR is no setting. Did you mean 'KIXO_DATA_DIR'?"
