"""What moved out of a data folder, `moved.json` in it: places by the setting that names them.

A server or command that would use the old, local form of such a place is refused: no other machine would see what it
does.
"""

from msgspec import DecodeError, json

from kixo.errors import DataFolderError
from kixo.files import write_atomically
from kixo.layout import Layout
from kixo.settings import ENVIRONMENT_PREFIX, Settings

CARD = "moved.json"


def mark_moved(layout: Layout, places: dict[str, str]) -> None:
    """Writes down that the places have moved to these URLs; raises `OSError`."""
    write_atomically(layout.root / CARD, json.encode(places))


def unmark_moved(layout: Layout) -> None:
    """Takes the mark away."""
    (layout.root / CARD).unlink(missing_ok=True)


def read_moved(layout: Layout) -> dict[str, str]:
    """The places that have moved, with their URLs; raises `DataFolderError`."""
    path = layout.root / CARD
    try:
        return json.decode(path.read_bytes(), type=dict[str, str])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, DecodeError) as error:
        raise DataFolderError(f"{path} cannot be read: {error}.", "Mend or restore it.") from error


def check_not_moved(settings: Settings) -> None:
    """Raises `DataFolderError` where the settings name the local form of a place that moved away."""
    places = read_moved(Layout(settings.data_dir))
    for place, url in places.items():
        if not getattr(settings, place, ""):
            variable = ENVIRONMENT_PREFIX + place.upper()
            raise DataFolderError(
                f"The {place} of {settings.data_dir} was moved to {url}, and {variable} is not set.",
                f"Set {variable}={url}, or choose another --data-dir.",
            )
