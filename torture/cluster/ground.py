"""What a cluster stands on: one network for all on loopback, or a network of its own for each part.

In the second form each part has a network namespace, as if it were a machine, and the namespaces meet on a bridge on
which the driver is too. A cut between two of them loses packets in silence, as a broken switch does: each gets a wrong
hardware address for the other. It takes root.
"""

import os
import secrets
import subprocess
from dataclasses import dataclass, field

from services.program import LOOPBACK
from torture.skipped import Skipped

NOWHERE = "02:00:00:00:00:01"


class Loopback:
    """All parts on 127.0.0.1, each at ports of its own."""

    def host(self, _name: str) -> str:
        """The address of a part."""
        return LOOPBACK

    def prefix(self, _name: str) -> tuple[str, ...]:
        """The words before the command of a part."""
        return ()

    def close(self) -> None:
        """Nothing: nothing was made."""


@dataclass
class Namespaces:
    """A network for each part that is asked for, all in one subnet of 254 addresses; gone after `close`."""

    mark: str = field(default_factory=lambda: secrets.token_hex(3))
    hosts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if os.geteuid():
            raise Skipped("Networks of their own for the parts can be made by root only.")
        self.bridge = f"kx{self.mark}"
        self._subnet = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(256)}"
        try:
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("addr", "add", f"{self.gate}/24", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            raise Skipped(f"This machine lets nobody make networks: {error}") from error

    @property
    def gate(self) -> str:
        """The address of the driver."""
        return f"{self._subnet}.1"

    def host(self, name: str) -> str:
        """The address of a part, whose network is made when it is first asked for."""
        if name not in self.hosts:
            self.hosts[name] = f"{self._subnet}.{len(self.hosts) + 2}"
            self._make(name, len(self.hosts))
        return self.hosts[name]

    def prefix(self, name: str) -> tuple[str, ...]:
        """The words that start a command in the network of a part."""
        return ("ip", "netns", "exec", self._space(name))

    def cut(self, one: str, other: str) -> None:
        """From now on what one of the two sends to the other is lost."""
        for near, far in ((one, other), (other, one)):
            self._within(
                near, "neigh", "replace", self.hosts[far], "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent"
            )

    def heal(self, one: str, other: str) -> None:
        """They reach each other again."""
        for near, far in ((one, other), (other, one)):
            self._within(near, "neigh", "del", self.hosts[far], "dev", "eth0")

    def close(self) -> None:
        """Takes away all that was made."""
        for name in self.hosts:
            subprocess.run(["ip", "netns", "del", self._space(name)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)

    def _make(self, name: str, number: int) -> None:
        space, outer, inner = self._space(name), f"{self.bridge}a{number}", f"{self.bridge}b{number}"
        _ip("netns", "add", space)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", outer, "master", self.bridge, "up")
        _ip("link", "set", inner, "netns", space)
        self._within(name, "link", "set", inner, "name", "eth0")
        self._within(name, "addr", "add", f"{self.hosts[name]}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self._within(name, "link", "set", device, "up")

    def _within(self, name: str, *words: str) -> None:
        _ip("-n", self._space(name), *words)

    def _space(self, name: str) -> str:
        return f"{self.bridge}-{name}"


Ground = Loopback | Namespaces


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
