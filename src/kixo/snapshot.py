"""What a worker knows of projects and keys: an immutable copy of the registry that answers in about a microsecond."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import NamedTuple

KEY_LENGTH_MIN, KEY_LENGTH_MAX = 8, 255


class Sender(NamedTuple):
    """Who may send: the numbers of a project and of a key of it, both from 1, and the key's hash."""

    project: int
    key: int
    digest: bytes


# What stands in for a key we do not know. No project has the number 0.
NO_KEY = Sender(0, 0, bytes(32))
NO_PROJECT = -1


def key_hash(api_key: str) -> bytes:
    """The SHA-256 of a key, 32 bytes. Hashes no more than it takes to tell that a key is too long to be one."""
    return sha256(api_key[: KEY_LENGTH_MAX + 1].encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every project and live key at one `revision` of the registry.

    `projects` gives a project's number by its id, `keys` who sends with a key by its hash.
    """

    revision: int
    projects: Mapping[str, int]
    keys: Mapping[bytes, Sender]

    def authenticate(self, project_id: str, api_key: str) -> int | None:
        """The project's number, from 1, or None where the pair is not a project and one of its live keys."""
        sender = self.identify(project_id, api_key)
        return None if sender is None else sender.project

    def identify(self, project_id: str, api_key: str) -> Sender | None:
        """The project and its key, or None where the pair is not a project and one of its live keys.

        Time tells nothing of any key: the table is searched by hash, which a caller cannot steer towards that of
        an unknown key, and the same steps are taken whether the project, the key or both are unknown.
        """
        digest = key_hash(api_key)
        sender = self.keys.get(digest, NO_KEY)
        number = self.projects.get(project_id, NO_PROJECT)
        return sender if compare_digest(digest, sender.digest) & (sender.project == number) else None
