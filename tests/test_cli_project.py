import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kixo import __version__, output
from kixo.cli import COMMANDS, GROUPS, run
from kixo.errors import StartFailed
from kixo.registry import open_registry
from kixo.settings import Settings
from tests.conftest import PATIENCE_S

EXAMPLE = ("kx_proj_abc123", "kx_key_xyz789")


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Kixo = Callable[..., Done]


@pytest.fixture
def kixo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kixo:
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KIXO_DATA_DIR", raising=False)

    def call(*arguments: str) -> Done:
        status = run(arguments)
        return Done(status, *capsys.readouterr())

    return call


def test_a_project_and_a_key_are_made_and_work(kixo: Kixo) -> None:
    project = kixo("project", "create", "--name", "Shop", "--json").records[0]
    assert set(project) == {"id", "name", "created_at"}
    assert (project["name"], project["created_at"][-1]) == ("Shop", "Z")
    key = kixo("key", "create", project["id"], "--json").records[0]
    assert set(key) == {"id", "project_id", "hint", "created_at", "revoked_at", "api_key"}
    with open_registry(Settings()) as registry:
        assert registry.snapshot().authenticate(project["id"], key["api_key"]) == 1


def test_existing_credentials_are_taken_over(kixo: Kixo, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kixo("project", "create", "--id", EXAMPLE[0]).status == 0
    assert kixo("key", "create", EXAMPLE[0], "--key", EXAMPLE[1]).out == EXAMPLE[1] + "\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("kx_key_from_stdin\r\n"))
    assert kixo("key", "create", EXAMPLE[0], "--key", "-").out == "kx_key_from_stdin\n"
    with open_registry(Settings()) as registry:
        assert [registry.snapshot().authenticate(EXAMPLE[0], key) for key in (EXAMPLE[1], "kx_key_from_stdin")] == [
            1,
            1,
        ]


def test_a_key_alone_on_stdout_can_be_taken_by_a_script(kixo: Kixo) -> None:
    kixo("project", "create", "--id", "p")
    made = kixo("key", "create", "p")
    assert made.out.startswith("kx_key_")
    assert made.out.count("\n") == 1


def test_lists_never_show_keys(kixo: Kixo) -> None:
    kixo("project", "create", "--id", "p")
    api_key = kixo("key", "create", "p").out.strip()
    for arguments in (["key", "list"], ["key", "list", "p"], ["key", "list", "--json"]):
        listed = kixo(*arguments)
        assert api_key not in listed.out
        assert api_key[-4:] in listed.out
        assert listed.out.count("p") >= 1
    assert [record["id"] for record in kixo("project", "list", "--json").records] == ["p"]


def test_a_piped_table_keeps_every_cell_whole(kixo: Kixo) -> None:
    long_id, long_name = "p" * 128, "a name of many words " * 9
    kixo("project", "create", "--id", long_id, "--name", long_name)
    header, row = kixo("project", "list").out.splitlines()
    assert header.split() == ["project", "name", "created"]
    assert long_id in row
    assert long_name in row


def test_an_empty_list_of_records_prints_nothing(kixo: Kixo) -> None:
    kixo("project", "create", "--id", "p")
    assert kixo("key", "list", "--json") == Done(0, "", "")


def test_a_key_is_revoked_by_id_by_itself_and_from_stdin(kixo: Kixo, monkeypatch: pytest.MonkeyPatch) -> None:
    kixo("project", "create", "--id", "p")
    keys = [kixo("key", "create", "p", "--json").records[0] for _ in range(3)]
    monkeypatch.setattr(sys, "stdin", io.StringIO(keys[2]["api_key"] + "\n"))
    for argument in (keys[0]["id"], keys[1]["api_key"], "-"):
        assert kixo("key", "revoke", argument, "--json").records[0]["revoked_at"]
    with open_registry(Settings()) as registry:
        assert [registry.snapshot().authenticate("p", key["api_key"]) for key in keys] == [None] * 3


def test_an_empty_stdin_is_not_a_key(kixo: Kixo, monkeypatch: pytest.MonkeyPatch) -> None:
    kixo("project", "create", "--id", "p")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert kixo("key", "revoke", "-") == Done(2, "", "kixo: There is no key on stdin. Send it as one line.\n")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ("project lst", 2, 'Did you mean "list"'),
        ("nonsense", 2, "Unknown command"),
        ("project create --nmae x", 2, "--nmae"),
        ("key create", 2, "PROJECT requires an argument"),
        ("key create p q", 2, "Unused"),
        ("key create nobody", 2, "There is no project 'nobody'"),
        ("key create p --key short", 2, "Use 8 to 255"),
        ("key revoke kx_key_secret_thing", 2, "There is no such key"),
        ("project create --id p", 2, "There is a project p already"),
        ("project create --id a/b", 2, "cannot be a project id"),
        ("project list --data-dir nowhere", 4, "There is no registry nowhere/registry.sqlite"),
        ("project list --config nowhere.toml", 2, "There is no settings file nowhere.toml"),
    ],
)
def test_what_is_wrong_is_one_line_on_stderr_and_a_status(kixo: Kixo, arguments: str, status: int, says: str) -> None:
    kixo("project", "create", "--id", "p")
    done = kixo(*arguments.split())
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith("kixo: ")
    assert done.err.count("\n") == 1
    assert says in done.err
    assert "secret" not in done.err


def test_the_folder_comes_from_flag_environment_or_file(
    kixo: Kixo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kixo.toml").write_text('data_dir = "of-file"\n')
    kixo("project", "create", "--id", "file")
    monkeypatch.setenv("KIXO_DATA_DIR", "of-environment")
    kixo("project", "create", "--id", "environment")
    kixo("project", "create", "--id", "flag", "--data-dir", "of-flag")
    for place in ("file", "environment", "flag"):
        listed = kixo("project", "list", "--json", "--data-dir", f"of-{place}")
        assert [record["id"] for record in listed.records] == [place]


def test_the_version_is_told(kixo: Kixo) -> None:
    assert kixo("--version").out == __version__ + "\n"


def test_help_shows_every_command_with_its_sentence(kixo: Kixo) -> None:
    pages = {"": kixo("--help").out} | {group: kixo(group, "--help").out for group in GROUPS}
    for command in COMMANDS:
        group, _, word = command.words.rpartition(" ")
        assert f"│ {word} " in pages[group]
        # Long ones are wrapped.
        assert command.sentence[:25] in pages[group]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_every_command_can_be_imported_and_explains_its_data_folder(kixo: Kixo, command: Any) -> None:
    explained = kixo(*command.words.split(), "--help")
    assert explained.status == 0
    # What `kixo bench` measures has a temporary folder of its own; the others speak to a server by its address.
    assert ("--data-dir" in explained.out) == (command.words not in {"bench", "send", "conformance"})


@pytest.mark.parametrize(
    ("raised", "status", "says"),
    [
        (KeyboardInterrupt(), 130, ""),
        (StartFailed("It\nbroke \x1b[2J.", "Mend it."), 7, "kixo: It broke \\x1b[2J. Mend it.\n"),
    ],
)
def test_how_a_command_ends_is_its_status(
    kixo: Kixo, monkeypatch: pytest.MonkeyPatch, raised: BaseException, status: int, says: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("kixo.cli.project.open_registry", fail)
    assert kixo("project", "list") == Done(status, "", says)


def python(program: str, folder: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finished(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=PATIENCE_S)
    return Done(process.returncode, out, err)


def test_a_reader_that_goes_away_is_no_error(kixo: Kixo, tmp_path: Path) -> None:
    kixo("project", "create")
    process = python("import sys; from kixo.cli import run; sys.exit(run(['project', 'list']))", tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (141, "")


def test_an_interrupt_ends_a_command_without_a_traceback(kixo: Kixo, tmp_path: Path) -> None:
    kixo("project", "create", "--id", "p")
    program = (
        "import io, os, signal, sys\n"
        "from kixo.cli import run\n"
        "class Stdin(io.StringIO):\n"
        "    def readline(self, _):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        return signal.pause()\n"
        "sys.stdin = Stdin()\n"
        "sys.exit(run(['key', 'create', 'p', '--key', '-']))\n"
    )
    assert finished(python(program, tmp_path, preexec_fn=take_interrupts)) == Done(130, "", "")


def take_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_listing_projects_loads_none_of_the_heavy_packages(kixo: Kixo, tmp_path: Path) -> None:
    kixo("project", "create")
    program = (
        "import sys; from kixo.cli import run; run(['project', 'list', '--json'])\n"
        "print({'duckdb', 'pyarrow', 'deltalake', 'granian', 'starlette', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    assert finished(python(program, tmp_path)).err == "set()\n"


def test_without_the_server_extra_there_is_one_clear_sentence(tmp_path: Path) -> None:
    program = "import sys; sys.modules['duckdb'] = None; from kixo.__main__ import main; sys.exit(main())"
    done = finished(python(program, tmp_path))
    assert done == Done(2, "", "kixo: The server is not installed (duckdb). pip install 'kixo[server]'\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 😀", "plain ä 😀"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\r\nb\tc\0\x7f\x9b", "a\\x0d\\x0ab\\x09c\\x00\\x7f\\x9b"),
        ("\ud83d cut", "\\ud83d cut"),
        ("[red]no markup[/red] :smile:", "[red]no markup[/red] :smile:"),
    ],
)
def test_what_senders_write_cannot_move_the_cursor(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.print_line(text)
    assert capsys.readouterr().out == shown + "\n"
    output.print_table(("column",), [(text,)])
    assert capsys.readouterr().out.splitlines()[1].rstrip() == shown


def test_a_table_shows_nothing_for_none(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("a", "b"), [(None, 0)])
    assert capsys.readouterr().out.split() == ["a", "b", "0"]


def test_a_bar_shows_nothing_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_bar("sending", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")
