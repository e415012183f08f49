"""What a worker knows of projects and keys: an immutable copy of the registry that answers in about a microsecond."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import NamedTuple

KEY_LENGTH_MIN, KEY_LENGTH_MAX = 8, 255

Credential = tuple[int, int, bytes]
"""The number of a key's project, the key's own number, and its hash."""

# What stands in for a key we do not know. No project has the number 0.
NO_KEY: Credential = (0, 0, bytes(32))
NO_PROJECT = -1


class Sender(NamedTuple):
    """Who sends, by their numbers, both from 1."""

    project: int
    key: int


def key_hash(api_key: str) -> bytes:
    """The SHA-256 of a key, 32 bytes. Hashes no more than it takes to tell that a key is too long to be one."""
    return sha256(api_key[: KEY_LENGTH_MAX + 1].encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every project and live key at one `revision` of the registry.

    `projects` gives a project's number by its id, `keys` a key's credential by its hash.
    """

    revision: int
    projects: Mapping[str, int]
    keys: Mapping[bytes, Credential]

    def authenticate(self, project_id: str, api_key: str) -> int | None:
        """The project's number, from 1, or None where the pair is not a project and one of its live keys."""
        sender = self.identify(project_id, api_key)
        return None if sender is None else sender.project

    def identify(self, project_id: str, api_key: str) -> Sender | None:
        """The project and the key by their numbers, or None where the pair is not a project and one of its live keys.

        Time tells nothing of any key: the table is searched by hash, which a caller cannot steer towards that of
        an unknown key, and the same steps are taken whether the project, the key or both are unknown.
        """
        digest = key_hash(api_key)
        owner, key, kept = self.keys.get(digest, NO_KEY)
        number = self.projects.get(project_id, NO_PROJECT)
        return Sender(number, key) if compare_digest(digest, kept) & (owner == number) else None
