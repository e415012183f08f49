"""How the table of settings becomes flags.

A command says which settings it takes; it gets them all resolved, from flags, environment, file and defaults, as its
first argument. Flags come as text, so that one place, `kixo.settings`, judges values wherever they come from.
"""

import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import Field
from functools import wraps
from inspect import Parameter as Argument
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

from cyclopts import Parameter

from kixo.formats import check_formats
from kixo.layout import Layout
from kixo.moved import check_not_moved
from kixo.settings import ENVIRONMENT_PREFIX, Settings, read_file, resolve, setting_fields

CONFIG_FILE = Path("kixo.toml")
CONFIG_HELP = f"A file of settings; without it, {CONFIG_FILE} in this folder if there is one."
GROUP = "Settings"
EVERY_SETTING = tuple(row.name for row in setting_fields())

P = ParamSpec("P")
R = TypeVar("R")

Json = Annotated[bool, Parameter(name="--json", help="Print JSON, one object on a line.")]


def takes_settings(*names: str) -> Callable[[Callable[Concatenate[Settings, P], R]], Callable[..., R]]:
    """Gives a command a flag for `--config`, `--data-dir` and each named setting; it is called with `Settings` first.

    The command raises `BadSetting` for a value that cannot be.
    """
    rows = [row for row in setting_fields() if row.name in {"data_dir", *names}]

    def decorate(command: Callable[Concatenate[Settings, P], R]) -> Callable[..., R]:
        @wraps(command)
        def run(*arguments: Any, config: str | None = None, **options: Any) -> R:
            flags = {row.name: options.pop(row.name, None) for row in rows}
            return command(settings_from(flags, config), *arguments, **options)

        _set_signature(run, command, rows)
        return run

    return decorate


def settings_from(flags: dict[str, object], config: str | None) -> Settings:
    """The settings that flags, the environment and the file give together; raises `BadSetting`."""
    file = read_file(CONFIG_FILE if config is None else Path(config), required=config is not None)
    settings = resolve(flags, os.environ, file)
    # Here, so that no command reads or writes a folder that a newer Kixo made.
    check_formats(Layout(settings.data_dir))
    check_not_moved(settings)
    return settings


def _set_signature(run: Callable[..., R], command: Callable[..., R], rows: Iterable[Field[Any]]) -> None:
    """Shows the parser the command's own arguments, then the flags."""
    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())[1:]
    flags = [_flag("config", CONFIG_HELP), *(_flag(row.name, _help(row)) for row in rows)]
    run.__dict__["__signature__"] = signature.replace(parameters=[*own, *flags])
    run.__annotations__ = {argument.name: argument.annotation for argument in (*own, *flags)}
    # Else the parser looks through to the command, which has no flags.
    del run.__dict__["__wrapped__"]


def _flag(name: str, sentence: str) -> Argument:
    flag = Parameter(help=sentence, group=GROUP, show_default=False)
    return Argument(name, Argument.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, flag])


def _help(row: Field[Any]) -> str:
    variable = ENVIRONMENT_PREFIX + row.name.upper()
    return f"{row.metadata['sentence']} ({row.metadata['unit']}; default {row.default}; {variable})"
