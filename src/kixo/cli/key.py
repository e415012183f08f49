"""`kixo key`: with `--json`, a key has the members `id`, `project_id`, `hint`, `created_at` and `revoked_at`.

`revoked_at` is null while the key lives. `kixo key create` adds `api_key`, the key itself, which is not kept.
"""

import sys
from typing import Annotated

from cyclopts import Parameter

from kixo.cli.options import Json, takes_settings
from kixo.errors import BadArgument
from kixo.output import print_json, print_line, print_table
from kixo.registry import open_registry
from kixo.registry.tables import KeyRecord
from kixo.settings import Settings
from kixo.timestamp import format_us

FROM_STDIN = "-"
# More than any key, so that one that is too long is seen to be.
STDIN_LENGTH_MAX = 4096


@takes_settings()
def create(
    settings: Settings,
    project: Annotated[str, Parameter(help="The project's id.")],
    /,
    *,
    key: Annotated[
        str | None,
        Parameter(
            help="A key that apps have already; - reads it from stdin, where no process list shows it.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Makes a key and shows it, this once."""
    taken_over = None if key is None else read_key(key)
    with open_registry(settings) as registry:
        made, api_key = registry.create_key(project, taken_over)
    if json:
        print_json({**record(made), "api_key": api_key})
        return
    print_line(api_key)
    if sys.stdout.isatty():
        print_line(f"Keep it: it is not shown again. To revoke it: kixo key revoke {made.id}")


@takes_settings()
def show(
    settings: Settings,
    project: Annotated[str | None, Parameter(help="The id of the one project to list.")] = None,
    /,
    *,
    json: Json = False,
) -> None:
    """Lists keys, revoked ones too, oldest first."""
    with open_registry(settings, migrate=False) as registry:
        keys = registry.list_keys(project)
    _print(keys, json)


@takes_settings()
def revoke(
    settings: Settings,
    key: Annotated[
        str, Parameter(help="The key's id, or the key itself; - reads it from stdin.", allow_leading_hyphen=True)
    ],
    /,
    *,
    project: Annotated[str | None, Parameter(help="Only if it is a key of this project.")] = None,
    json: Json = False,
) -> None:
    """Revokes a key; one that was revoked before stays as it is."""
    with open_registry(settings) as registry:
        revoked = registry.revoke_key(read_key(key), project)
    _print([revoked], json)


def read_key(argument: str) -> str:
    """The key that an argument gives, or the first line of stdin for `-`; raises `BadArgument`."""
    if argument != FROM_STDIN:
        return argument
    line = sys.stdin.readline(STDIN_LENGTH_MAX).rstrip("\r\n")
    if not line:
        raise BadArgument("There is no key on stdin.", "Send it as one line.")
    return line


def record(key: KeyRecord) -> dict[str, object]:
    """A key as scripts see it."""
    return {
        "id": key.id,
        "project_id": key.project_id,
        "hint": key.hint,
        "created_at": format_us(key.created_at_us),
        "revoked_at": None if key.revoked_at_us is None else format_us(key.revoked_at_us),
    }


def _print(keys: list[KeyRecord], json: bool) -> None:
    records = [record(key) for key in keys]
    if not json:
        print_table(("key", "project", "ends in", "created", "revoked"), [list(found.values()) for found in records])
        return
    for found in records:
        print_json(found)
