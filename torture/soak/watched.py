"""A few clients of which every event is accounted for: copies of all kinds, bad events, clocks that are wrong.

The bulk of the traffic is compared by its counts. These clients are compared event by event, by the oracle that the
attacks have, over their own projects.
"""

from collections.abc import Callable, Sequence

from kixo.bench.traffic import Credential
from kixo.timestamp import now_us
from torture.account import Account
from torture.client import Client, Habits, Traffic
from torture.event import Source

CLIENTS = 4
# So that what an hour's account holds of them stays in memory: some hundred thousand events.
HABITS = Habits(CLIENTS, pause_s=2.0)
HOUR_US = 3_600_000_000
# Right, slow by days, fast by hours, slow by seconds.
SKEWS_US = (0, -50 * HOUR_US, 5 * HOUR_US, -20_000_000)


class Watched:
    """The clients, with the account of what they were told. `traffic` starts and ends them."""

    def __init__(self, url: Callable[[], str], credentials: Sequence[Credential], seed: int) -> None:
        self.projects = [credential.project_id for credential in credentials]
        self.source = Source(seed, now_us(), SKEWS_US)
        self.account = Account()
        self.traffic = Traffic(
            [
                Client(number, credential, url, self.source, self.account, HABITS)
                for number, credential in enumerate(credentials)
            ]
        )
