"""Format cards: which version of a layout a folder has.

A folder that outlives the program that made it has a card in it: a JSON object whose member `format` is a whole
number. It rises when older programs would misread the folder, so a program refuses a number that it does not know.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import DecodeError, json

from kixo.errors import DataFolderError
from kixo.files import write_atomically


def read_card(path: Path, thing: str, known: int) -> dict[str, Any] | None:
    """The members of the card of a `thing`, such as "log"; None where there is no card.

    Raises `DataFolderError` where its format is newer than `known`, or it cannot be read.
    """
    return read_card_by(path.read_bytes, str(path), thing, known)


def read_card_by(read: Callable[[], bytes], path: str, thing: str, known: int) -> dict[str, Any] | None:
    """The same for a card that `read` gives; `path` says in errors where it is."""
    try:
        card = json.decode(read(), type=dict[str, Any])
        found = int(card["format"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataFolderError(
            f"{path} cannot be read: {error.strerror or error}.", "Mend its permissions or its disk."
        ) from error
    except (DecodeError, KeyError, TypeError, ValueError) as error:
        raise DataFolderError(f"{path} is damaged.", "Restore it from a backup.") from error
    if found > known:
        folder, _, _ = path.rpartition("/")
        raise DataFolderError(
            f"The {thing} in {folder} has format {found}, and this Kixo knows formats up to {known}.",
            "Use the newer Kixo that wrote it.",
        )
    return card


def ensure_card(path: Path, format: int, **members: str) -> None:
    """Writes the card where there is none; raises `OSError`."""
    if not path.exists():
        write_atomically(path, encode_card(format, **members))


def encode_card(format: int, **members: str) -> bytes:
    """The content of a card."""
    return json.encode({"format": format, **members})
