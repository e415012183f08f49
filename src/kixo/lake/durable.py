"""New names that are on the disk when the call returns.

A file's content and its name are two things: the content is durable after an fsync of the file, the name after an
fsync of its folder, and the name of a new folder after an fsync of the folder above.
"""

import os
from pathlib import Path

from kixo.files import sync_folder


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, durably; nothing where it is there."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


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
