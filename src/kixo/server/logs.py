"""Log lines: structured, JSON where nobody sits at a terminal, and never with a key in them."""

import io
import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from kixo.settings import Settings

_KEY = re.compile(r"kx_key_\w+")


def open_log(settings: Settings, process: str) -> Any:
    """A logger whose lines name the process."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(repr_native_str=True)
    logger = structlog.wrap_logger(
        structlog.PrintLogger(cast("TextIO", _Lenient(sys.stderr))),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _blank_keys,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
    )
    return logger.bind(process=process)


class _Lenient(io.TextIOBase):
    """A stream that drops what cannot be written: a full disk or a reader that went away must not stop the service."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, or does not."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes, or does not."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def _blank_keys(_logger: object, _method: str, values: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in values.items():
        if isinstance(value, str) and "kx_key_" in value:
            values[name] = _KEY.sub("kx_key_***", value)
    return values
