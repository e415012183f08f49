"""The docs keep their word: what can be checked in them is checked here, or the build fails."""

import inspect
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import Field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cyclopts import App, CycloptsError, Parameter

from kixo import Client
from kixo import event as limits
from kixo.cli import COMMANDS, INTERRUPTED, READER_GONE, build
from kixo.client import Options
from kixo.clock import RULES
from kixo.conformance import case as conformance
from kixo.conformance.trace import Report
from kixo.errors import REQUEST_ERRORS, OperatorError, RequestError
from kixo.lake.schema import TABLES, Table
from kixo.metrics import CATALOGUE
from kixo.places import lake_place, limits_place, log_place, registry_place, secret_variables
from kixo.query.views import COMPUTED, View
from kixo.settings import ENVIRONMENT_PREFIX, resolve, setting_fields
from kixo.timestamp import format_us, parse_us
from tests.conftest import Project, Server
from tests.test_layers import LAYERS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
EXPECTED = {
    "api",
    "architecture",
    "browser",
    "conformance",
    "console",
    "import-export",
    "operating",
    "performance",
    "python",
    "quickstart",
    "reliability",
    "scale",
    "security",
}
GENERATOR = ROOT / "scripts" / "docs_tables.py"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SHELL = {"sh", "console"}
# What `kixo send` reads, which is no setting of a server.
OTHER_VARIABLES = {"KIXO_URL", "KIXO_PROJECT_ID", "KIXO_API_KEY"}
SHELL_OPERATORS = {"<", ">", "|", "&&"}
# What nobody but the person at this machine could make sense of, and what is not ours to name.
FORBIDDEN = re.compile(
    r"/work\b|/root\b|/home/|/tmp/|/usr/|/Users/|[A-Za-z]:\\|pypi|pythonhosted|index-url", re.IGNORECASE
)


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of every table row of a page."""
    lines = (line for line in text.splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next."""
    start = text.index(f"\n{heading}\n") + len(heading) + 2
    following = re.search(r"^#", text[start:], re.MULTILINE)
    return text[start : start + following.start()] if following else text[start:]


def command_lines(text: str) -> Iterator[str]:
    """The commands in a page's shell blocks; in `console` blocks those after the prompt."""
    for language, block in FENCE.findall(text):
        if language in SHELL:
            for line in block.replace("\\\n", " ").splitlines():
                yield from [line.removeprefix("$ ")] if language == "sh" or line.startswith("$ ") else []


def kixo_words(line: str) -> list[str] | None:
    """The arguments of a `kixo` command, without what the shell takes for itself; None for other commands."""
    line = re.sub(r"^env( -u \w+)+ ", "", line)
    if not re.match(r"(\.venv/bin/)?kixo\b", line):
        return None
    words = shlex.split(line)[1:]
    return words[: next((place for place, word in enumerate(words) if word in SHELL_OPERATORS), len(words))]


def anchors(text: str) -> set[str]:
    """The anchors that a page's headings get."""
    headings = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(FENCE.sub("", text))]
    return {heading.strip().replace(" ", "-") for heading in headings}


COMMAND_LINES = [
    (path.name, line) for path in PAGES for line in command_lines(path.read_text("utf-8")) if kixo_words(line)
]
RELATIVE_LINKS = [
    (path, target)
    for path in PAGES
    for target in LINK.findall(path.read_text("utf-8"))
    if not re.match(r"[a-z]+:", target)
]


def test_every_page_is_there() -> None:
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} >= EXPECTED
    assert len(PAGES) >= len(EXPECTED) + 2


def test_the_tables_are_those_of_the_definitions() -> None:
    done = subprocess.run([sys.executable, str(GENERATOR), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"Run {GENERATOR.relative_to(ROOT)}. Out of date: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("row", setting_fields(), ids=lambda row: row.name)
def test_every_setting_is_there_with_its_default_unit_and_sentence(row: Field[Any]) -> None:
    (found,) = [cells for cells in rows(page("operating")) if cells[0] == f"`{row.name}`"]
    assert f"`{row.default}`" in found[1]
    assert found[3:] == [row.metadata["unit"], row.metadata["sentence"]]


def test_where_settings_come_from_is_shown_by_one_that_exists() -> None:
    shown = re.findall(rf"{ENVIRONMENT_PREFIX}([A-Z_]+)=", page("operating"))
    assert shown
    assert {name.lower() for name in shown} <= {row.name for row in setting_fields()}


def test_every_variable_of_a_page_for_operators_is_one_that_is_read() -> None:
    settings = {ENVIRONMENT_PREFIX + row.name.upper() for row in setting_fields()}
    for name in ("operating", "scale", "deploy"):
        shown = set(re.findall(rf"\b{ENVIRONMENT_PREFIX}[A-Z0-9_]+\b", page(name)))
        assert shown - OTHER_VARIABLES <= settings | set(secret_variables()), name


def test_the_places_that_the_page_on_more_machines_sets_can_be_read() -> None:
    exported = {words[0]: words[1] for words in exports(page("scale"))}
    settings = resolve({}, {name: value for name, value in exported.items() if name not in secret_variables()}, {})
    readers = {"log": log_place, "lake": lake_place, "registry": registry_place, "limits": limits_place}
    for place, read in readers.items():
        assert read(getattr(settings, place)) is not None, place


def test_the_runbook_names_what_the_program_writes() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "src" / "kixo").rglob("*.py"))
    text = page("scale")
    for name in re.findall(r"`(?!kixo_)([a-z]+(?:_[a-z]+)+)`", text):
        assert re.search(rf"\b{name}\b", code), name
    sentences = re.findall(r"“([^”]+)”", text.replace("\n", " "))
    assert len(sentences) > 5
    for part in [part for sentence in sentences for part in re.split(r"…|\d+|\(", sentence)]:
        assert part.strip(" .)") in code, part


def exports(text: str) -> Iterator[list[str]]:
    """The names and values of the variables that a page's shell blocks export."""
    for line in command_lines(text):
        if line.startswith("export "):
            yield shlex.split(line)[1].split("=", 1)


def leaf(words: str) -> App:
    app = build()
    for word in words.split():
        app = app[word]
    return app


@pytest.mark.parametrize("words", [command.words for command in COMMANDS])
def test_every_command_is_there_with_all_it_takes(words: str) -> None:
    text = section(page("operating"), f"### `kixo {words}`")
    settings = {"--config", *(f"--{row.name.replace('_', '-')}" for row in setting_fields())}
    for argument in leaf(words).assemble_argument_collection():
        parameter: Parameter = argument.parameter
        all_settings = "a flag for every [setting]" in text and argument.names[0] in settings
        if parameter.show is not False and not all_settings:
            assert f"`{argument.names[0]}" in text


@pytest.mark.parametrize("name", [metric.name + "_total" * (metric.kind == "counter") for metric in CATALOGUE])
def test_every_metric_is_there_as_it_is_exposed(name: str) -> None:
    assert [cells for cells in rows(page("operating")) if cells[0] == f"`{name}`"]


def test_every_metric_that_is_named_exists() -> None:
    exposed = {metric.name + "_total" * (metric.kind == "counter") for metric in CATALOGUE}
    for path in PAGES:
        assert set(re.findall(r"`(kixo_\w+)", path.read_text("utf-8"))) <= exposed, path


@pytest.mark.parametrize("error", REQUEST_ERRORS, ids=lambda error: error.code)
def test_every_error_code_is_there_with_its_status(error: type[RequestError]) -> None:
    found = [cells for cells in rows(page("api")) if cells[:2] == [str(error.status), f"`{error.code}`"]]
    assert [cells[2:] for cells in found] == [["yes" if error.retryable else "no", error.summary()]]


@pytest.mark.parametrize("code", limits.REJECTION_CODES)
def test_every_rejection_code_is_there(code: str) -> None:
    assert [f"`{code}`", limits.REJECTION_CODES[code]] in rows(page("api"))


@pytest.mark.parametrize("rule", RULES)
def test_every_clock_rule_is_there(rule: str) -> None:
    assert [cells for cells in rows(page("api")) if cells[0] == f"`{rule}`"]


def test_every_event_type_is_there() -> None:
    text = section(page("api"), "### Event types")
    assert set(re.findall(r"`(\w+)`", text)) >= set(limits.EVENT_TYPES)


@pytest.mark.parametrize(
    ("member", "limit"),
    [
        ("bundle_id", limits.BUNDLE_ID_LENGTH_MAX),
        ("event_type", limits.EVENT_TYPE_LENGTH_MAX),
        ("event_name", limits.EVENT_NAME_LENGTH_MAX),
        ("device_id", limits.DEVICE_ID_LENGTH_MAX),
        ("session_id", limits.SESSION_ID_LENGTH_MAX),
        ("event_id", limits.EVENT_ID_LENGTH_MAX),
        ("properties", limits.PROPERTIES_BYTES_MAX),
        ("properties", limits.PROPERTIES_DEPTH_MAX),
    ],
)
def test_every_limit_of_a_member_is_there(member: str, limit: int) -> None:
    assert [cells for cells in rows(page("api")) if cells[0] == f"`{member}`" and f"{limit:,}" in cells[-1]]


def test_every_member_of_a_request_is_there() -> None:
    members = {*limits.BatchRequest.__struct_fields__, *limits.Event.__struct_fields__}
    assert {cells[0].strip("`") for cells in rows(page("api"))} >= members


TIME_ROWS = [cells for cells in rows(section(page("api"), "### Time formats")) if re.fullmatch("`.+`", cells[1])]


@pytest.mark.parametrize("cells", TIME_ROWS, ids=lambda cells: cells[0])
def test_every_form_of_time_is_read_as_the_docs_say(cells: list[str]) -> None:
    assert format_us(parse_us(cells[1].strip("`"))) == cells[2]


def test_times_that_the_docs_refuse_are_refused() -> None:
    text = section(page("api"), "### Time formats")
    refused = [word for word in re.findall(r"`([0-9][^`]*)`", text[text.index("Not accepted") :]) if word]
    assert len(refused) >= 5
    for word in refused:
        with pytest.raises(ValueError, match=r".+"):
            parse_us(word)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_of_every_table_is_there(table: Table) -> None:
    found = rows(section(page("architecture"), f"#### `{table.name}`"))[2:]
    assert [(row[0], row[-1]) for row in found] == [(f"`{column.name}`", column.sentence) for column in table.columns]


@pytest.mark.parametrize("view", COMPUTED, ids=lambda view: view.name)
def test_every_column_of_every_view_is_there(view: View) -> None:
    found = rows(section(page("architecture"), f"#### `{view.name}` (view)"))[2:]
    assert found == [[f"`{name}`", sentence] for name, sentence in view.columns]


@pytest.mark.parametrize(
    "struct",
    [conformance.Case, conformance.Tracked, conformance.Answer, conformance.Options, Report],
    ids=lambda struct: str(struct.__name__),
)
def test_every_member_of_the_conformance_kit_is_there(struct: type[msgspec.Struct]) -> None:
    for member in struct.__struct_fields__:
        assert f"`{member}`" in page("conformance") or f'"{member}"' in page("conformance")


def test_every_exit_code_is_there() -> None:
    codes = {0, 1, INTERRUPTED, READER_GONE, *(error.exit_code for error in OperatorError.__subclasses__())}
    found = rows(section(page("operating"), "### Exit codes"))[2:]
    assert {int(cells[0]) for cells in found} == codes


def test_the_layers_are_those_that_imports_are_held_to() -> None:
    found = rows(section(page("architecture"), "## Modules"))[2:]
    assert tuple(tuple(re.findall(r"`([\w.]+)`", cells[1])) for cells in found) == LAYERS


@pytest.mark.parametrize(("path", "target"), RELATIVE_LINKS, ids=lambda value: getattr(value, "name", value))
def test_every_relative_link_resolves(path: Path, target: str) -> None:
    file, _, anchor = target.partition("#")
    found = (path.parent / file).resolve() if file else path
    assert found.is_file()
    assert found.is_relative_to(ROOT)
    if anchor:
        assert anchor in anchors(found.read_text("utf-8"))


@pytest.mark.parametrize(("name", "line"), COMMAND_LINES)
def test_every_command_that_is_shown_is_one_the_program_takes(name: str, line: str) -> None:
    try:
        build().parse_args(kixo_words(line), print_error=False, exit_on_error=False)
    except CycloptsError as error:
        pytest.fail(f"{name}: {line}: {error}")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_example_in_python_or_json_is_well_formed(path: Path) -> None:
    for language, block in FENCE.findall(path.read_text("utf-8")):
        if language == "python":
            compile(block, path.name, "exec")
        if language == "json":
            json.loads(block)


def test_the_client_page_starts_with_five_lines_that_work(server: Server, project: Project) -> None:
    language, block = FENCE.findall(page("python"))[0]
    lines = [line for line in block.splitlines() if line]
    assert language == "python"
    assert len(lines) <= 5
    assert "kx_proj_abc123" in block
    assert "http://127.0.0.1:8000" in block
    mine = block.replace("kx_proj_abc123", project.id).replace("kx_key_xyz789", project.key)
    script = mine.replace("http://127.0.0.1:8000", server.url)
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "delivered: True\n"
    assert len(server.frames(project)) == 1


def test_every_option_of_the_client_is_there() -> None:
    documented = {cells[0].strip("`") for cells in rows(section(page("python"), "## Options"))}
    assert set(Options.__struct_fields__) <= documented


def test_the_methods_of_the_client_are_shown_as_they_are() -> None:
    text = page("python")
    for name, _ in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            assert f"`{name}(" in text, name
    shown = re.search(r"`track\((.*?)\)`", text)
    assert shown is not None
    names = list(inspect.signature(Client.track).parameters)[1:]
    assert re.findall(r"[a-z_]+", re.sub(r"=[^,]+", "", shown[1])) == names


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = {word for path in PAGES for word in re.findall(r"\bmake ([a-z]+)`", path.read_text("utf-8"))}
    shown |= {line.split()[1] for path in PAGES for line in command_lines(path.read_text()) if line.startswith("make ")}
    assert {"serve", "test"} <= shown <= targets


def test_the_readme_begins_with_one_sentence_and_the_two_commands() -> None:
    title, sentence, block, *_ = (ROOT / "README.md").read_text("utf-8").split("\n\n")
    assert title.startswith("# ")
    assert sentence.count(".") == 1
    assert block == "```sh\nmake serve\nmake test\n```"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_nothing_of_this_machine_stands_in_the_docs(path: Path) -> None:
    assert FORBIDDEN.findall(path.read_text("utf-8")) == []
