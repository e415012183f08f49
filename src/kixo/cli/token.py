"""`kixo token`: with `--json`, a read token has the members `id`, `name`, `hint`, `created_at` and `revoked_at`.

`revoked_at` is null while the token lives. `kixo token create` adds `token`, the token itself, which is not kept.
"""

import sys
from typing import Annotated

from cyclopts import Parameter

from kixo.cli.key import read_key
from kixo.cli.options import Json, takes_settings
from kixo.output import print_json, print_line, print_table
from kixo.registry import open_registry
from kixo.registry.tokens import ReadToken, create_read_token, list_read_tokens, revoke_read_token
from kixo.settings import Settings
from kixo.timestamp import format_us


@takes_settings()
def create(
    settings: Settings,
    *,
    name: Annotated[str, Parameter(help="What it is for.")] = "",
    json: Json = False,
) -> None:
    """Makes a read token and shows it, this once."""
    with open_registry(settings) as registry:
        made, token = create_read_token(registry, name)
    if json:
        print_json({**record(made), "token": token})
        return
    print_line(token)
    if sys.stdout.isatty():
        print_line(f"Keep it: it is not shown again. To revoke it: kixo token revoke {made.id}")


@takes_settings()
def show(settings: Settings, *, json: Json = False) -> None:
    """Lists read tokens, revoked ones too, oldest first."""
    with open_registry(settings) as registry:
        tokens = list_read_tokens(registry)
    _print(tokens, json)


@takes_settings()
def revoke(
    settings: Settings,
    token: Annotated[str, Parameter(help="The token's id, or the token itself; - reads it from stdin.")],
    /,
    *,
    json: Json = False,
) -> None:
    """Revokes a read token; one that was revoked before stays as it is."""
    with open_registry(settings) as registry:
        revoked = revoke_read_token(registry, read_key(token))
    _print([revoked], json)


def record(token: ReadToken) -> dict[str, object]:
    """A read token as scripts see it."""
    return {
        "id": token.id,
        "name": token.name,
        "hint": token.hint,
        "created_at": format_us(token.created_at_us),
        "revoked_at": None if token.revoked_at_us is None else format_us(token.revoked_at_us),
    }


def _print(tokens: list[ReadToken], json: bool) -> None:
    records = [record(token) for token in tokens]
    if not json:
        print_table(("token", "name", "ends in", "created", "revoked"), [list(found.values()) for found in records])
        return
    for found in records:
        print_json(found)
