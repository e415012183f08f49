"""Which processes of the server run: the children of the supervisor, told apart by the module that they run."""

from collections import Counter
from pathlib import Path

from kixo.metrics import RESTARTS

MODULE = "kixo.server."


def running_roles(supervisor_pid: int) -> Counter[str]:
    """How many processes of each role there are; a role of which there is none counts 0. Zombies are none."""
    found = Counter(dict.fromkeys(RESTARTS.labels[0][1], 0))
    for pid in _children(supervisor_pid):
        # One that has ended and was not waited for has no command line.
        role = next((word.removeprefix(MODULE) for word in _command(pid) if word.startswith(MODULE)), "")
        if role in found:
            found[role] += 1
    return found


def _children(pid: int) -> list[str]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [child for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def _command(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
