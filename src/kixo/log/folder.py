"""The folder of a local log: `log.json` with the log's id, and one folder of segments for each partition."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kixo.errors import DataFolderError
from kixo.files import make_folder
from kixo.format_card import ensure_card, read_card
from kixo.log import segment

CARD = "log.json"
FORMAT = 1

Report = Callable[[str, int], None]
"""Told of bytes that were cut or skipped: a sentence, and how many bytes."""


def ensure_log(folder: Path) -> str:
    """The id of the log in `folder`, which is made if it is not there; raises `DataFolderError`."""
    try:
        make_folder(folder)
        ensure_card(folder / CARD, FORMAT, log_id=uuid.uuid4().hex)
    except OSError as error:
        raise DataFolderError(f"The log folder {folder} cannot be used: {error.strerror}.", "Mend it.") from error
    return read_log_id(folder)


def read_log_id(folder: Path) -> str:
    """The id of the log in `folder`; raises `DataFolderError` where there is none or it is newer than we read."""
    if not folder.is_dir():
        raise DataFolderError(f"There is no log in {folder.parent}.", "Correct --data-dir, or start `kixo serve` once.")
    card = read_card(folder / CARD, "log", FORMAT)
    if card is None or "log_id" not in card:
        raise DataFolderError(
            f"There is no readable log in {folder}: {CARD} is missing or damaged.",
            f"Check --data-dir, or restore {CARD} from a backup.",
        )
    return str(card["log_id"])


def check_format(folder: Path) -> None:
    """Raises `DataFolderError` where a newer Kixo wrote the log, or one of its segments."""
    read_card(folder / CARD, "log", FORMAT)
    # What cannot be read, or was released meanwhile, is told of where it is needed.
    with suppress(OSError):
        for path in (path for number in partitions(folder) for path in segments(folder / str(number))):
            _check_segment(path)


def _check_segment(path: Path) -> None:
    with suppress(OSError), path.open("rb") as file:
        segment.unpack_header(file.read(segment.HEADER_BYTES))


def partitions(folder: Path) -> list[int]:
    """The numbers of the partitions of the log in `folder`, in order."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def segments(folder: Path) -> list[Path]:
    """The segments of a partition folder, oldest first; none where the folder is not there."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == segment.SUFFIX and path.stem.isdecimal())
    except FileNotFoundError:
        return []
