"""The Python client: `track` queues an event, and one thread in the background sends what is queued.

    track ──► tracked ──► outbox ──► store ──► delivery ──► sender ──► transport
              to JSON     bounded    memory    when and     one        HTTP
                                     or spool  what next    attempt

`worker` is the thread that drives the delivery. Nothing here imports anything of the server.
"""

from kixo.client.client import AsyncClient, Client
from kixo.client.options import Options
from kixo.client.report import Stats
from kixo.client.surroundings import Answer, Surroundings, Transport
from kixo.client.tracked import TrackedEvent
from kixo.errors import BadOption
from kixo.event import Rejection

__all__ = [
    "Answer",
    "AsyncClient",
    "BadOption",
    "Client",
    "Options",
    "Rejection",
    "Stats",
    "Surroundings",
    "TrackedEvent",
    "Transport",
]
