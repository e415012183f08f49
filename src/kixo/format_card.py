"""Format cards: which version of a layout a folder has.

A folder that outlives the program that made it has a card in it: a JSON object whose member `format` is a whole
number. It rises when older programs would misread the folder, so a program refuses a number that it does not know.
"""

from pathlib import Path
from typing import Any

from msgspec import DecodeError, json

from kixo.errors import DataFolderError
from kixo.files import write_atomically


def read_card(path: Path, thing: str, known: int) -> dict[str, Any] | None:
    """The members of the card of a `thing`, such as "log"; None where there is no card.

    Raises `DataFolderError` where its format is newer than `known`, or it cannot be read.
    """
    try:
        card = json.decode(path.read_bytes(), type=dict[str, Any])
        found = int(card["format"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataFolderError(
            f"{path} cannot be read: {error.strerror}.", "Mend its permissions or its disk."
        ) from error
    except (DecodeError, KeyError, TypeError, ValueError) as error:
        raise DataFolderError(f"{path} is damaged.", "Restore it from a backup.") from error
    if found > known:
        raise DataFolderError(
            f"The {thing} in {path.parent} has format {found}, and this Kixo knows formats up to {known}.",
            "Use the newer Kixo that wrote it.",
        )
    return card


def ensure_card(path: Path, format: int, **members: str) -> None:
    """Writes the card where there is none; raises `OSError`."""
    if not path.exists():
        write_atomically(path, json.encode({"format": format, **members}))
