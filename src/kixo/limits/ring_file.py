"""The limit of requests in a file that the processes of one machine share: a ring of times for each project.

The times of the last N admissions of each project lie in a ring in a file that all workers map. A request is admitted
if fewer than N of them are within the second before it. Refused requests leave no trace.

    byte 0      header: magic, N
    byte 4096   slot of project 1, of project 2, …, each of 2 + N words of 64 bits:
                head   admissions so far: the next one goes to ring[head % N]
                tail   how many of those are known to be older than a second
                ring   N times, nanoseconds of CLOCK_MONOTONIC, rising from tail to head

- A slot is changed under a byte-range lock of its first byte. Projects never wait for one another, and the kernel lets
  go of the locks of a process that dies. These locks do not tell threads apart: one thread per process.
- Head moves before the time is written. A process that is killed in between leaves an old time at a place that counts
  as an admission which was never answered; it is passed over within a second, and no time that counts is lost.
- An admission's time is that of the caller, or that of the admission before it where a process was overtaken on its
  way to the lock. A time from further ahead is of another boot (the clock restarts near 0): the ring is emptied.
- The file is sparse. The blocks of a slot are claimed before its first write, because a full disk would answer a
  write to mapped memory with SIGBUS.
"""

import errno
import mmap
import os
from fcntl import LOCK_EX, LOCK_UN, lockf
from pathlib import Path
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from kixo.errors import Unavailable
from kixo.limits import REFUSED, SECOND_NS, Verdict

HEADER = Struct("<16sQ")
MAGIC = b"kixo limits 1\n"
SLOTS_AT = 4096
WORD = 8
HEAD, TAIL, RING = 0, 1, 2
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class RingFile:
    """A `RequestLimit` in a memory-mapped file, for the processes of one machine.

    Best kept in memory (tmpfs): on a disk, a write may have to wait while the kernel writes the page out. A file made
    for another `requests_per_second_max` is replaced. Where no other process counts at the same time, `shared` may be
    false: an admission then does without its two system calls. Raises `OSError` where the file cannot be had.
    """

    __slots__ = (
        "_admitted",
        "_allowed",
        "_claimed",
        "_descriptor",
        "_map",
        "_requests_max",
        "_shared",
        "_slot_words",
        "_words",
    )

    def __init__(self, path: Path, *, projects_max: int, requests_per_second_max: int, shared: bool = True) -> None:
        self._shared = shared
        self._requests_max = self._allowed = requests_per_second_max
        self._slot_words = RING + requests_per_second_max
        self._descriptor = _open(path, HEADER.pack(MAGIC, requests_per_second_max))
        size = SLOTS_AT + projects_max * self._slot_words * WORD
        try:
            # Never made smaller: another process may have mapped it, and would get SIGBUS beyond the end.
            if os.fstat(self._descriptor).st_size < size:
                os.ftruncate(self._descriptor, size)
            self._map = mmap.mmap(self._descriptor, size)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._words = memoryview(self._map)[SLOTS_AT:].cast("Q")
        self._claimed = bytearray(projects_max + 1)
        # Made once, so that the hot path makes none.
        self._admitted = tuple(Verdict(True, left, 1, 0) for left in range(requests_per_second_max))

    def close(self) -> None:
        """Lets go of the memory; the file keeps the counts."""
        self._words.release()
        self._map.close()
        os.close(self._descriptor)

    def allow(self, share: int) -> None:
        """From now on admits no more than a share of the limit, at least one, in any rolling second."""
        self._allowed = share

    def admit(self, project_number: int, now_ns: int) -> Verdict:
        """See `RequestLimit`."""
        slot = self._slot(project_number)
        if not self._shared:
            return self._admit(slot, now_ns)
        lock_at = SLOTS_AT + slot * WORD
        lockf(self._descriptor, LOCK_EX, 1, lock_at)
        try:
            return self._admit(slot, now_ns)
        finally:
            lockf(self._descriptor, LOCK_UN, 1, lock_at)

    def peek(self, project_number: int, now_ns: int) -> Verdict:
        """See `RequestLimit`."""
        slot = self._slot(project_number)
        lock_at = SLOTS_AT + slot * WORD
        lockf(self._descriptor, LOCK_EX, 1, lock_at)
        try:
            _, used, _ = self._look(slot, now_ns)
        finally:
            lockf(self._descriptor, LOCK_UN, 1, lock_at)
        if used >= self._allowed:
            return REFUSED
        return Verdict(True, self._allowed - used, 1 if used else 0, 0)

    def is_full(self, project_number: int, now_ns: int) -> bool:
        """See `RequestLimit`."""
        return not self.peek(project_number, now_ns).admitted

    def retract(self, project_number: int, admitted_ns: int, now_ns: int) -> None:
        """See `RequestLimit`."""
        if now_ns - admitted_ns >= SECOND_NS:
            return
        slot = self._slot(project_number)
        lock_at = SLOTS_AT + slot * WORD
        lockf(self._descriptor, LOCK_EX, 1, lock_at)
        try:
            self._drop(slot, admitted_ns)
        finally:
            lockf(self._descriptor, LOCK_UN, 1, lock_at)

    def _drop(self, slot: int, admitted_ns: int) -> None:
        """Closes the gap that the first admission at or after a time leaves, if the ring still counts it."""
        words, ring, requests_max = self._words, slot + RING, self._requests_max
        head, tail = words[slot], words[slot + TAIL]
        place = next((n for n in range(tail, head) if words[ring + n % requests_max] >= admitted_ns), head)
        if place == head:
            return
        for n in range(place, head - 1):
            words[ring + n % requests_max] = words[ring + (n + 1) % requests_max]
        words[slot] = head - 1

    def _admit(self, slot: int, now_ns: int) -> Verdict:
        head, used, now_ns = self._look(slot, now_ns)
        if used >= self._allowed:
            return REFUSED
        self._words[slot] = head + 1
        self._words[slot + RING + head % self._requests_max] = now_ns
        return self._admitted[self._allowed - used - 1]

    def _slot(self, project_number: int) -> int:
        """The first word of a project's slot, ready to be written."""
        if not 0 < project_number < len(self._claimed):
            message = "This server was started with a lower projects_max. It has to be started again."
            raise Unavailable(message, retry_after_s=5)
        slot = (project_number - 1) * self._slot_words
        if not self._claimed[project_number]:
            _claim(self._descriptor, SLOTS_AT + slot * WORD, self._slot_words * WORD)
            self._claimed[project_number] = 1
        return slot

    def _look(self, slot: int, now_ns: int) -> tuple[int, int, int]:
        """The head, the admissions within the last second, and the time in force; moves the tail."""
        words, ring, requests_max = self._words, slot + RING, self._requests_max
        head, tail = words[slot], words[slot + TAIL]
        last_ns = words[ring + (head - 1) % requests_max]
        if last_ns > now_ns + SECOND_NS or not 0 <= head - tail <= requests_max:
            words[slot + TAIL] = head
            return head, 0, now_ns
        now_ns = max(now_ns, last_ns)
        old_tail, old_ns = tail, now_ns - SECOND_NS
        while tail < head and not old_ns < words[ring + tail % requests_max] <= now_ns:
            tail += 1
        if tail != old_tail:
            words[slot + TAIL] = tail
        return head, head - tail, now_ns


def read_admissions(path: Path, projects: int, requests_per_second_max: int) -> NDArray[np.int64]:
    """The times in the rings of the first so many projects, a row for each; 0 where none was written yet.

    For onlookers: without a lock, so that nobody waits for them, and a time that is just being written may be missed.
    Without a file of that limit every row is 0. Raises `OSError`.
    """
    words = RING + requests_per_second_max
    found = np.zeros(projects * words, "<i8")
    try:
        with path.open("rb") as file:
            if file.read(HEADER.size) == HEADER.pack(MAGIC, requests_per_second_max):
                file.seek(SLOTS_AT)
                read = np.frombuffer(file.read(found.nbytes), np.uint8)
                found.view(np.uint8)[: len(read)] = read
    except FileNotFoundError:
        pass
    return found.reshape(projects, words)[:, RING:].astype(np.int64)


def _open(path: Path, header: bytes) -> int:
    """A descriptor of the file with that header, made or made anew if need be."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _is_ready(descriptor, path, header):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_ready(descriptor: int, path: Path, header: bytes) -> bool:
    """Whether the file is still the one at `path` and has the header; a file with another one is removed."""
    lockf(descriptor, LOCK_EX, 1, 0)
    try:
        if not _is_at(path, descriptor):
            return False
        found = os.pread(descriptor, len(header), 0)
        if not found:
            os.pwrite(descriptor, header, 0)
        elif found != header:
            # Unlinked, not cut: processes of the other layout keep a file of their own.
            path.unlink()
            return False
        return True
    finally:
        lockf(descriptor, LOCK_UN, 1, 0)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _claim(descriptor: int, offset: int, length: int) -> None:
    try:
        os.posix_fallocate(descriptor, offset, length)
    except OSError as error:
        # Some file systems cannot do it; then there is nothing to be done beforehand.
        if error.errno in NO_ROOM:
            raise Unavailable("The disk is full, so the request could not be counted.", retry_after_s=5) from error
