"""Which version of the folder layout a lake has: the file `kixo.json` in it.

Version 1: one Delta table each in `events`, `rejected` and `loads`; files named `<data version>-<id>.parquet`.
"""

from pathlib import Path

import msgspec

from kixo.errors import DataFolderError
from kixo.files import write_atomically

FORMAT = 1
FORMAT_FILE = "kixo.json"


class LakeFormat(msgspec.Struct, frozen=True):
    """The content of `kixo.json`; `format` is the version of the layout."""

    format: int


def check_format(lake: Path) -> None:
    """Raises `DataFolderError` where a newer version of Kixo made the lake, or `kixo.json` cannot be read."""
    path = lake / FORMAT_FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=LakeFormat).format
    except FileNotFoundError:
        return
    except (OSError, msgspec.MsgspecError) as error:
        raise DataFolderError(f"{path} cannot be read: {error}.", "Restore it from a backup.") from error
    if found > FORMAT:
        raise DataFolderError(
            f"{lake} has format {found}; this version of Kixo knows formats up to {FORMAT}.",
            "Use the newer version of Kixo that made it.",
        )


def write_format(lake: Path) -> None:
    """Writes `kixo.json` where there is none."""
    if not (lake / FORMAT_FILE).exists():
        write_atomically(lake / FORMAT_FILE, msgspec.json.encode(LakeFormat(FORMAT)))
