#!/usr/bin/env python3
"""Writes the tables of the docs anew from the definitions they describe; `--check` only says which are out of date.

A table stands between `<!-- table: name -->` and `<!-- end -->`. Whatever else a page says is left as it is.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import Parameter as Argument
from pathlib import Path
from typing import Any

from kixo.cli import COMMANDS, INTERRUPTED, READER_GONE, Command, build
from kixo.client.options import option_rows
from kixo.conformance.case import load
from kixo.errors import REQUEST_ERRORS, OperatorError
from kixo.event import EVENT_TYPES, REJECTION_CODES
from kixo.http.browser import script_integrity
from kixo.lake.schema import TABLES, Table
from kixo.metrics import CATALOGUE, Metric
from kixo.places import SECRETS
from kixo.query.questions import QUESTIONS, Parameter
from kixo.query.views import COMPUTED, View
from kixo.settings import MIB, setting_fields

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"(<!-- table: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
GIB = 1024 * MIB
# What cyclopts would call the negative of a flag and of a list; the application as a whole has none.
NEGATIVE = ("--no-", "--empty-")


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [names, ["---"] * len(names), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def settings() -> str:
    """Every setting, with its default and range."""
    rows = [
        (f"`{row.name}`", _amount(row, row.default), _range(row), row.metadata["unit"], row.metadata["sentence"])
        for row in setting_fields()
    ]
    return table(("setting", "default", "allowed", "unit", "what it does"), rows)


def _range(row: Any) -> str:
    low, high = row.metadata["low"], row.metadata["high"]
    if low is None:
        return ""
    return f"{_amount(row, low)} to {_amount(row, high)}" if high is not None else f"{_amount(row, low)} or more"


def _amount(row: Any, value: object) -> str:
    return _sized(value, row.metadata["unit"])


def _sized(value: object, unit: str) -> str:
    text = f"`{value}`"
    if unit != "bytes" or not isinstance(value, int) or value < MIB:
        return text
    return f"{text} ({value // GIB} GiB)" if value % GIB == 0 else f"{text} ({value // MIB} MiB)"


def secrets() -> str:
    """Every secret, with the variables that it comes from."""
    rows = [
        (f"`KIXO_{secret.name}`" + f" or `KIXO_{secret.name}_FILE`" * secret.in_file, secret.sentence)
        for secret in SECRETS
    ]
    return table(("variable", "what it is"), rows)


def options() -> str:
    """Every option of the Python client."""
    rows = [(f"`{name}`", _sized(default, unit), unit, sentence) for name, default, unit, sentence in option_rows()]
    return table(("option", "default", "unit", "what it is"), rows)


def commands() -> str:
    """Every command with what it takes."""
    return "\n".join(map(_command, COMMANDS))


def _command(command: Command) -> str:
    arguments = arguments_of(command)
    own = [argument for argument in arguments if not _is_setting(argument)]
    text = f"### `kixo {command.words}`\n\n{command.sentence}\n\n```text\n{_usage(command, own)}\n```\n\n"
    if own:
        rows = [(f"`{', '.join(names_of(argument))}`", _help(argument)) for argument in own]
        text += table(("argument or flag", "what it does"), rows) + "\n"
    shared = [name for argument in arguments if _is_setting(argument) for name in names_of(argument)]
    if len(shared) > len(setting_fields()):
        return text + "Also `--config`, and a flag for every [setting](#settings).\n"
    return text + (f"Also {', '.join(f'`{name}`' for name in shared)}.\n" if shared else "")


def arguments_of(command: Command) -> list[Any]:
    """What a command takes, hidden flags left out, as cyclopts sees it."""
    node = build()
    for word in command.words.split():
        node = node[word]
    return [argument for argument in node.assemble_argument_collection() if argument.parameter.show is not False]


def names_of(argument: Any) -> list[str]:
    """An argument's names; it has a negative one only where the command says so."""
    negative = argument.parameter.negative or ()
    return [name for name in argument.names if not name.startswith(NEGATIVE) or name in negative]


def _usage(command: Command, own: list[Any]) -> str:
    places = [argument for argument in own if argument.field_info.kind is Argument.POSITIONAL_ONLY]
    words = [name if _is_required(argument) else f"[{name}]" for argument in places for name in names_of(argument)]
    return " ".join(["kixo", command.words, *words, "[FLAGS]"])


def _is_setting(argument: Any) -> bool:
    return bool(argument.parameter.group[0].name == "Settings")


def _is_required(argument: Any) -> bool:
    return argument.field_info.default is Argument.empty


def _help(argument: Any) -> str:
    default, text = argument.field_info.default, str(argument.parameter.help)
    if _is_required(argument) or default is False or default in (None, "", ()) or "[default" in text:
        return text
    return f"{text} [default: {default}]"


def metrics() -> str:
    """Every metric, by the name it is exposed as."""
    rows = [(f"`{metric.exposed_name}`", metric.kind, _labels(metric), metric.sentence) for metric in CATALOGUE]
    return table(("metric", "kind", "labels", "what it says"), rows)


def _labels(metric: Metric) -> str:
    if any(name == "answer" for name, _ in metric.labels):
        return "`status`, `code`"
    return "; ".join(f"`{name}`: {', '.join(values)}" for name, values in metric.labels)


def errors() -> str:
    """Every answer that is an error."""
    rows = [
        (error.status, f"`{error.code}`", "yes" if error.retryable else "no", error.summary())
        for error in REQUEST_ERRORS
    ]
    return table(("status", "`code`", "repeat?", "meaning"), rows)


def rejections() -> str:
    """Every reason for which an event is rejected."""
    return table(("`code`", "meaning"), [(f"`{code}`", sentence) for code, sentence in REJECTION_CODES.items()])


def questions() -> str:
    """Every ready-made question, with what can be chosen."""
    rows = [
        (f"`{question.name}`", question.sentence, "; ".join(map(_parameter, question.parameters)))
        for question in QUESTIONS
    ]
    return table(("question", "what it tells", "what can be chosen"), rows)


def _parameter(parameter: Parameter) -> str:
    bounds = f" ({parameter.least} to {parameter.greatest} {parameter.unit})" if parameter.kind == "integer" else ""
    choices = f" ({' or '.join(parameter.choices)})" if parameter.choices else ""
    return f"{parameter.label.lower()}{bounds or choices}".replace(" )", ")")


def types() -> str:
    """The event types that the SDKs send."""
    return ", ".join(f"`{name}`" for name in EVENT_TYPES) + ".\n"


def exits() -> str:
    """Every status a command can end with."""
    rows: list[tuple[int, str]] = [
        (0, "Done."),
        (1, "A defect of the program, with a traceback; or a client failed `kixo conformance`."),
    ]
    for error in OperatorError.__subclasses__():
        rows.append((error.exit_code, str(error.__doc__).split("\n", maxsplit=1)[0]))
    rows += [(INTERRUPTED, "Interrupted, or a second signal ended the server at once.")]
    rows += [(READER_GONE, "The reader of the output went away, as in `kixo tail | head`.")]
    by_code: dict[int, list[str]] = {}
    for code, sentence in rows:
        by_code.setdefault(code, []).append(sentence)
    return table(("exit code", "meaning"), [(code, " ".join(found)) for code, found in by_code.items()])


def tables() -> str:
    """The tables of the lake and the computed views, with their columns."""
    return "\n".join([*map(_lake_table, TABLES), *map(_view, COMPUTED)])


def _lake_table(found: Table) -> str:
    rows = [(f"`{c.name}`", c.type, "yes" if c.nullable else "", c.sentence) for c in found.columns]
    return f"#### `{found.name}`\n\n{found.sentence}\n\n" + table(("column", "type", "null", "what it holds"), rows)


def _view(view: View) -> str:
    rows = [(f"`{name}`", sentence) for name, sentence in view.columns]
    return f"#### `{view.name}` (view)\n\n{view.sentence}\n\n" + table(("column", "what it holds"), rows)


def checks() -> str:
    """What the conformance kit checks."""
    rows = [(f"`{check.name}`", check.what, check.why) for check in load().checks]
    return table(("check", "what has to be so", "why it matters"), rows)


def cases() -> str:
    """The cases of the conformance kit."""
    return table(("case", "what happens", "why"), [(f"`{case.name}`", case.what, case.why) for case in load().cases])


def integrity() -> str:
    """The script tag that runs exactly this version of the browser SDK."""
    source = '<script src="https://events.example.com/kixo.js" crossorigin="anonymous"'
    return f'```html\n{source}\n  integrity="{script_integrity()}"></script>\n```\n'


BLOCKS: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        settings,
        secrets,
        options,
        commands,
        metrics,
        errors,
        rejections,
        questions,
        types,
        exits,
        tables,
        checks,
        cases,
        integrity,
    )
}


def written_anew(page: str) -> str:
    """A page with all of its tables as they have to be."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{BLOCKS[found[2]]()}\n{found[3]}", page)


def outdated() -> Iterator[tuple[Path, str]]:
    """The pages that are not as they have to be, and how that is."""
    for path in PAGES:
        page = path.read_text("utf-8")
        if (fresh := written_anew(page)) != page:
            yield path, fresh


def main() -> int:
    """Returns 1 where `--check` finds a page out of date."""
    found = list(outdated())
    for path, page in found:
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv:
            path.write_text(page, "utf-8")
    return 1 if found and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
