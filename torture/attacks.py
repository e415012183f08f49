"""The attacks there are, by name. To add one, write a module and a line here."""

from collections.abc import Callable
from typing import NamedTuple

from torture.kills import kill_at_random
from torture.trial import Orders
from torture.verdict import Verdict


class Attack(NamedTuple):
    """An attack: its name, what it does in a sentence, and how to run it; `short`: whether CI runs it, in little."""

    name: str
    sentence: str
    run: Callable[[Orders], Verdict]
    short: bool = True


ATTACKS: tuple[Attack, ...] = (
    Attack("kill", "`kill -9` of each process and of all at once, SIGSTOP and SIGTERM, at random.", kill_at_random),
)
