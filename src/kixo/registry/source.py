"""The snapshot that a worker authenticates with, and how it stays new, also while the registry is away."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from msgspec import DecodeError, Struct, msgpack
from xxhash import xxh3_64_digest

from kixo.errors import OperatorError, RegistryLocked, RegistryUnreachable
from kixo.files import write_atomically
from kixo.registry import Registry
from kixo.registry.store import Mark
from kixo.snapshot import Sender, Snapshot

# How long a worker waits for a registry that somebody holds: it keeps its snapshot and looks again at the next poll.
POLL_WAIT_S = 0.02
CHECKSUM_BYTES = 8


class Refresh(NamedTuple):
    """What came of a look at the registry: whether the snapshot is another, and why none could be had."""

    changed: bool
    fault: OperatorError | None


class _Kept(Struct, array_like=True):
    registry: str
    revision: int
    projects: dict[str, int]
    keys: dict[bytes, tuple[int, int]]


class KeptSnapshot:
    """A file under `run/` with the last snapshot, for a worker that starts while the registry's server is away.

    It holds the checksum of what follows (XXH3-64), then MessagePack: the registry's URL, which has no password in it,
    the revision, projects, and keys by their SHA-256; never a key. The time of the file says when its content was last
    known to be current. All workers of a node write the same one, whole, under another name first.
    """

    def __init__(self, path: Path, registry: str) -> None:
        self._path = path
        self._registry = registry

    def write(self, snapshot: Snapshot) -> None:
        """Keeps the snapshot in place of the one before; raises `OSError`."""
        keys = {digest: (sender.project, sender.key) for digest, sender in snapshot.keys.items()}
        content = msgpack.encode(_Kept(self._registry, snapshot.revision, dict(snapshot.projects), keys))
        write_atomically(self._path, xxh3_64_digest(content) + content)

    def confirm(self) -> None:
        """Says that it is current now; raises `OSError`."""
        os.utime(self._path)

    def read(self) -> tuple[Snapshot, float] | None:
        """The snapshot and when it was current, in seconds since 1970; None where there is none of this registry."""
        try:
            confirmed_s, data = self._path.stat().st_mtime, self._path.read_bytes()
            checksum, content = data[:CHECKSUM_BYTES], data[CHECKSUM_BYTES:]
            kept = msgpack.decode(content, type=_Kept)
        except (OSError, DecodeError):
            return None
        if checksum != xxh3_64_digest(content) or kept.registry != self._registry:
            return None
        keys = {digest: Sender(project, key, digest) for digest, (project, key) in kept.keys.items()}
        return Snapshot(kept.revision, kept.projects, keys), confirmed_s


class SnapshotSource:
    """The current snapshot, and the kept connection by which it stays new.

    `open_registry` opens the worker's own registry, without making one and with a short wait (`POLL_WAIT_S`). The
    first snapshot has to be had, of the registry or of the file that is `kept`: without one every sender would be told
    that its key is wrong, and drop its events. `now_s` tells seconds since 1970.
    """

    def __init__(
        self, open_registry: Callable[[], Registry], now_s: Callable[[], float], kept: KeptSnapshot | None = None
    ) -> None:
        self._open = open_registry
        self._now_s = now_s
        self._kept = kept
        self._registry: Registry | None = None
        self._mark: Mark | None = None
        try:
            self._registry = open_registry()
            self.snapshot = self._take(self._registry)
        except OperatorError as fault:
            self.close()
            self.snapshot = self._last_known(fault)

    def close(self) -> None:
        """Lets go of the registry."""
        if self._registry is not None:
            self._registry.close()
            self._registry = None

    def age_s(self) -> float:
        """How long ago the snapshot was last known to be current."""
        return max(self._now_s() - self._confirmed_s, 0.0)

    def refresh(self) -> Refresh:
        """Takes a new snapshot if the registry changed; on a fault the old one stays, and the fault is returned."""
        try:
            if self._registry is None or self._registry.replaced():
                self._reopen()
            elif self._registry.mark() == self._mark:
                self._confirm()
                return Refresh(changed=False, fault=None)
            assert self._registry is not None
            self.snapshot = self._take(self._registry)
        except OperatorError as fault:
            return Refresh(changed=False, fault=fault)
        return Refresh(changed=True, fault=None)

    def _take(self, registry: Registry) -> Snapshot:
        # The mark before the snapshot: a change in between is then seen at the next look.
        mark = registry.mark()
        snapshot = registry.snapshot()
        self._mark = mark._replace(revision=snapshot.revision)
        self._confirm(snapshot)
        return snapshot

    def _confirm(self, fresh: Snapshot | None = None) -> None:
        self._confirmed_s = self._now_s()
        if self._kept is None:
            return
        try:
            if fresh is not None:
                self._kept.write(fresh)
            self._kept.confirm()
        except OSError:
            # Of a full disk others tell. The file is only for the day on which the registry is away as well.
            return

    def _last_known(self, fault: OperatorError) -> Snapshot:
        away = isinstance(fault, RegistryUnreachable | RegistryLocked)
        found = self._kept.read() if away and self._kept is not None else None
        if found is None:
            raise fault
        snapshot, self._confirmed_s = found
        return snapshot

    def _reopen(self) -> None:
        # In two steps, so that a fault leaves the old one to be looked at again.
        fresh = self._open()
        self.close()
        self._registry = fresh


def kept_snapshot(path: Path, registry: str) -> KeptSnapshot | None:
    """The file for a registry on another machine; None for one that is as near as the file would be."""
    return KeptSnapshot(path, registry) if registry else None
