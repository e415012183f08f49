"""The command line: which commands there are, and how one ends.

    status  0  done
            1  a defect of ours, with a traceback; or the client failed `kixo conformance`
            2  to  9  an `OperatorError`, see `kixo.errors`; 2 is also an unknown command or argument
          130  interrupted
          141  the reader of our output went away

A command is imported when it runs, so that `kixo project list` does not wait for DuckDB to load.
"""

import sys
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import NamedTuple

from cyclopts import App, CycloptsError, Parameter

from kixo import __version__
from kixo.errors import OperatorError
from kixo.output import close_stdout, print_error

INTERRUPTED = 130
READER_GONE = 141


class Command(NamedTuple):
    """A command: its words, the function that does it as `module:function`, and what it does."""

    words: str
    function: str
    sentence: str


GROUPS = {
    "project": "Projects: who may send events.",
    "key": "Keys: what a project's apps send events with.",
    "token": "Read tokens: what scripts ask the private port with.",
    "console": "Run the console alone, as one machine of several; and the ways into it.",
    "move": "From one machine to several, and back.",
    "rejected": "Rejected events: what is wrong with them, and how they come in after a fix.",
}
COMMANDS = (
    Command("serve", "kixo.cli.serve:serve", "Take events, keep them, and answer questions about them."),
    Command("ingest", "kixo.cli.serve:ingest", "Take events into the log, as one machine of several."),
    Command("load", "kixo.cli.serve:load", "Fill the tables from the log, as one machine of several."),
    Command("console", "kixo.cli.serve:console", "Run the console alone, as one machine of several."),
    Command("query", "kixo.cli.query:query", "Ask the tables in SQL, read-only, while the server runs."),
    Command("send", "kixo.cli.send:send", "Send the events of a file: JSON lines, CSV or Parquet."),
    Command("export", "kixo.cli.export:export", "Write events as JSON lines, CSV or Parquet."),
    Command("tail", "kixo.cli.tail:tail", "Follow events as they arrive, accepted and rejected."),
    Command("audit", "kixo.cli.audit:audit", "Recompute from log and tables what became of every event."),
    Command("bench", "kixo.cli.bench:bench", "Measure this machine: durable events a second, latency, memory."),
    Command("conformance", "kixo.cli.conformance:conformance", "Prove a client: run it against scripted answers."),
    Command("project create", "kixo.cli.project:create", "Make a project."),
    Command("project list", "kixo.cli.project:show", "List all projects."),
    Command("key create", "kixo.cli.key:create", "Make a key of a project and show it, this once."),
    Command("key list", "kixo.cli.key:show", "List all keys, or those of one project; never the keys themselves."),
    Command("key revoke", "kixo.cli.key:revoke", "Revoke a key; running servers refuse it within 2 seconds."),
    Command("token create", "kixo.cli.token:create", "Make a read token and show it, this once."),
    Command("token list", "kixo.cli.token:show", "List all read tokens; never the tokens themselves."),
    Command("token revoke", "kixo.cli.token:revoke", "Revoke a read token, at once."),
    Command("console login-link", "kixo.cli.console:login_link", "Make a link that opens the console, once."),
    Command("console sign-out", "kixo.cli.console:sign_out", "End every session of the console."),
    Command("move copy", "kixo.cli.move:copy", "Copy an installation to other places while it works."),
    Command("move finish", "kixo.cli.move:finish", "Hand over to what was copied, once the old side has stopped."),
    Command("rejected list", "kixo.cli.rejected:show", "List rejected events by reason and app, with a sample."),
    Command("rejected replay", "kixo.cli.rejected:replay", "Judge rejected events again, and store those that pass."),
)


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns the status of the process; what is wrong is one line on stderr."""
    try:
        status = build()(arguments)
        sys.stdout.flush()
    except CycloptsError as error:
        error.verbose = False
        print_error(f"{error} 'kixo --help' lists the commands, 'kixo COMMAND --help' what they take.")
        return 2
    except OperatorError as error:
        print_error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        close_stdout()
        return READER_GONE
    return status if isinstance(status, int) else 0


def build() -> App:
    """The commands of the table as an application that returns what a command returns, and raises what it raises."""
    app = App(
        name="kixo",
        help="Kixo's Batch API: take product-analytics events, keep them, ask about them.",
        version=__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=()),
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    groups = {name: App(name=name, help=sentence) for name, sentence in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for command in COMMANDS:
        group_name, _, word = command.words.rpartition(" ")
        if command.words in groups:
            # Not imported when it runs, as the parser has no such way; it loads what every command does, and no more.
            groups[word].default(resolve_name(command.function))
            continue
        parent = groups[group_name] if group_name else app
        parent.command(command.function, name=word, help=command.sentence)
    return app
