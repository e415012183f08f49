"""Formats that are newer than ours: refused in one sentence by every command that needs the part, left as they are."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from kixo.cli import run
from kixo.errors import DataFolderError
from kixo.formats import check_formats
from kixo.layout import Layout
from kixo.log import segment
from kixo.log.writer import LocalLogWriter
from kixo.metric_file import layout_name
from kixo.registry.schema import SCHEMA_VERSION
from kixo.server.child import make_metric_folder
from kixo.settings import Settings
from tests.conftest import make_projects
from tests.loading import Setting, as_sent, event

COMMANDS = {
    "serve": ["--port", "0", "--console-port", "0"],
    "query": ["SELECT 1"],
    "audit": [],
    "tail": ["--from-start", "--limit", "1"],
    "project create": [],
    "project list": [],
    "key create": ["kx_proj_any"],
    "key list": [],
    "key revoke": ["k_any"],
    "token create": [],
    "token list": [],
    "token revoke": ["t_any"],
    "console login-link": [],
    "console sign-out": [],
}
OF_REGISTRY = [name for name in COMMANDS if name not in {"query", "audit", "tail"}]


def raise_card(path: Path) -> None:
    card = json.loads(path.read_bytes())
    path.write_text(json.dumps({**card, "format": 7, "new": {"member": 1}}))


def raise_segment(layout: Layout) -> None:
    (path,) = layout.log.glob("0/*.log")
    data = bytearray(path.read_bytes())
    data[8:12] = (7).to_bytes(4, "little")
    end = segment.HEADER_BYTES - 8
    data[end : end + 8] = xxh3_64_intdigest(bytes(data[:end])).to_bytes(8, "little")
    path.write_bytes(data)


def raise_registry(layout: Layout) -> None:
    with closing(sqlite3.connect(layout.registry)) as connection, connection:
        connection.execute("UPDATE state SET schema_version = 7")


PARTS: dict[str, tuple[Callable[[Layout], None], list[str]]] = {
    "data folder": (lambda layout: raise_card(layout.root / "kixo.json"), list(COMMANDS)),
    "log": (lambda layout: raise_card(layout.log / "log.json"), list(COMMANDS)),
    "segment": (raise_segment, list(COMMANDS)),
    "lake": (lambda layout: raise_card(layout.lake / "kixo.json"), list(COMMANDS)),
    "registry": (raise_registry, OF_REGISTRY),
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A data folder with something in every part, which no server uses."""
    layout = Layout(tmp_path / "data")
    make_projects(layout.root, 1)
    layout.mark_format()
    setting = Setting(layout.root)
    setting.log.append(as_sent(event("one")))
    setting.load_all()
    (layout.root / "metrics").unlink()
    layout.log.mkdir()
    (layout.log / "log.json").write_text(json.dumps({"format": 1, "log_id": setting.log.log_id}))
    writer = LocalLogWriter(
        layout.log, 0, segment_bytes=10**6, free_bytes_min=0, now_us=lambda: 0, report=lambda _what, _size: None
    )
    writer.commit(segment.pack_frame(writer.next_offset(), 0, 0, 1, 0, [b"{}"]))
    writer.close()
    return layout


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file and folder below a folder, with its time of change and what is in it."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    ("part", "command"), [(part, command) for part, (_, commands) in PARTS.items() for command in commands]
)
def test_a_newer_part_is_refused_in_one_sentence_and_nothing_is_changed(
    layout: Layout, capfd: pytest.CaptureFixture[str], part: str, command: str
) -> None:
    PARTS[part][0](layout)
    before = contents(layout.root)
    status = run([*command.split(), *COMMANDS[command], "--data-dir", str(layout.root)])
    printed = capfd.readouterr()
    assert (status, printed.out, printed.err.count("\n")) == (4, "", 1)
    known = SCHEMA_VERSION if part == "registry" else 1
    refusal = f"has format 7, and this Kixo knows formats up to {known}. Use the newer Kixo that wrote it."
    assert refusal in printed.err
    assert part in printed.err
    assert contents(layout.root) == before


def test_the_formats_of_a_folder_of_ours_are_known(layout: Layout) -> None:
    before = contents(layout.root)
    check_formats(layout)
    assert contents(layout.root) == before


def test_a_folder_that_is_not_there_yet_has_nothing_to_be_refused(tmp_path: Path) -> None:
    check_formats(Layout(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_segment_is_refused_wherever_it_stands_in_the_log(layout: Layout) -> None:
    raise_segment(layout)
    (newer,) = layout.log.glob("0/*.log")
    (newer.parent / segment.file_name(1 << 30)).write_bytes(
        segment.pack_header(segment.Header(0, 1 << 30, 0, bytes(16)))
    )
    with pytest.raises(DataFolderError, match="segment of the log has format 7"):
        check_formats(layout)


@pytest.mark.parametrize("change", ["manifest", "run"])
def test_an_index_of_a_newer_format_is_made_anew_and_copies_are_known_all_the_same(tmp_path: Path, change: str) -> None:
    setting = Setting(tmp_path)
    setting.log.append(as_sent(event("one"), event("two")))
    setting.load_all()
    if change == "manifest":
        raise_card(tmp_path / "index" / "manifest.json")
    else:
        (run_file,) = (tmp_path / "index").glob("*.run")
        run_file.write_bytes(run_file.read_bytes().replace(b"identities\x01", b"identities\x07", 1))
    setting.log.append(as_sent(event("one"), event("three")))
    setting.load_all()
    assert setting.rows("events", "event_id") == [("one",), ("three",), ("two",)]


def test_metric_files_of_another_layout_go_when_a_server_starts(tmp_path: Path) -> None:
    other, mine = tmp_path / "run" / "metrics-0badcafe", tmp_path / "run" / f"metrics-{layout_name()}"
    for folder in (other, mine):
        folder.mkdir(parents=True)
        (folder / "worker-0").write_bytes(b"counts")
    assert make_metric_folder(Settings(data_dir=tmp_path)) == mine
    assert [path.name for path in (tmp_path / "run").iterdir()] == [mine.name]
    assert (mine / "worker-0").read_bytes() == b"counts"
