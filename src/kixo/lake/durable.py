"""New files that are on the disk, content and name, when the call returns."""

import os
from pathlib import Path

from kixo.files import sync_folder


def create_durably(path: Path, data: bytes) -> None:
    """Puts a new file in place whole or not at all; raises `FileExistsError` where there is one."""
    beside = path.with_name(f"_{path.name}.{os.getpid()}.tmp")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        # A link fails where the name is taken; a rename would replace the other's file.
        path.hardlink_to(beside)
    finally:
        beside.unlink()
    sync_folder(path.parent)
