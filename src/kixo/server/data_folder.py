"""The data folder, held by one server at a time."""

import os

from kixo.errors import DataFolderError
from kixo.files import make_folder, try_lock
from kixo.layout import Layout
from kixo.server_card import ServerCard, write_server_card


class DataFolder:
    """The data folder, held by this process until it is closed. Raises `DataFolderError`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = -1
        layout.check_name()
        try:
            layout.check_format()
            # One that was there before keeps its mode: who shares the tables with others decides that there.
            make_folder(layout.root, 0o700)
            layout.run.mkdir(exist_ok=True)
            self._lock = _lock(layout)
            layout.mark_format()
            layout.server_card.unlink(missing_ok=True)
        except OSError as error:
            raise DataFolderError(
                f"The data folder {layout.root} cannot be used: {error.strerror}.",
                "Choose another --data-dir, or mend its permissions and disk.",
            ) from error

    def close(self) -> None:
        """Lets go of the folder."""
        self._layout.server_card.unlink(missing_ok=True)
        os.close(self._lock)

    def announce(self, card: ServerCard) -> None:
        """Writes `run/server.json`, by which other programs find the running server."""
        write_server_card(self._layout, card)


def _lock(layout: Layout) -> int:
    lock = try_lock(layout.server_lock)
    if lock is None:
        raise DataFolderError(
            f"Another Kixo server uses the data folder {layout.root}.", "Stop it, or choose another --data-dir."
        )
    return lock
