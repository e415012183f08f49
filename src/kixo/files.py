"""Files and folders that must survive a power cut, and files that only one process may hold.

A file's content and its name are two things: the content is durable after an fsync of the file, the name after an
fsync of its folder, and the name of a new folder after an fsync of the folder above.
"""

import fcntl
import os
import shutil
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable; raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Makes a file's bytes durable, whoever wrote them; raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Makes a folder and those above it, where they are not there, and its name durable; raises `OSError`.

    Its name is synced in any case: whoever made it may have been killed before doing so.
    """
    made = not path.is_dir()
    if made:
        if not path.parent.is_dir():
            make_folder(path.parent)
        path.mkdir(mode, exist_ok=True)
    try:
        sync_folder(path.parent)
    except PermissionError:
        # The folder above one that an operator made need not be open to us.
        if made:
            raise


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Puts a whole file in place: readers see the old bytes or the new ones, also after a power cut."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    sync_folder(path.parent)


def lock_folder(folder: Path, *, wait: bool) -> int:
    """Locks a folder until the descriptor that is returned is closed.

    Raises `BlockingIOError` where another process holds it and nobody waits, else `OSError`.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_unlocked(folder: Path) -> None:
    """Removes a folder that no process has locked: whoever made it has died. Leaves what cannot be removed."""
    try:
        lock = lock_folder(folder, wait=False)
    except OSError:
        # Held by its owner, somebody else's, or gone just now.
        return
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def try_lock(path: Path) -> int | None:
    """Locks a file, which is made if it is not there, until the descriptor is closed; None where another holds it.

    Raises `OSError`.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return lock
