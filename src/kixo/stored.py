"""What the log keeps of a batch, in one of two forms.

`AS_SENT`: every event was taken, and the payload is the request's body with its API key blanked out. Ingest has
proved by a typed decode that it is well-formed, so `SentBatch` reads it without checking anything again. Where a
member stands twice the last one wins, here as there, because both use the same decoder.

`JUDGED`: ingest had to look at the events one by one. The payload is a `JudgedBatch`: the events that were taken,
with the text of their `timestamp` and `properties` as sent, and those that were not, with the reason.

A replay of rejected events (`kixo.rejected`) writes the same form, with the times of the request that they came in.
`origin` names that request, and each event keeps its place in it.
"""

from msgspec import Raw, Struct, json

from kixo.depth import at_any_depth

AS_SENT = 0
JUDGED = 1


class SentEvent(Struct, gc=False):
    """An event of an `AS_SENT` payload. `properties` is the JSON as sent, `timestamp` the text as sent."""

    event_type: str
    event_name: str
    device_id: str
    session_id: str
    timestamp: str
    properties: Raw = Raw(b"{}")
    event_id: str | None = None


class SentBatch(Struct, gc=False):
    """An `AS_SENT` payload. `environment` None means production."""

    project_id: str
    bundle_id: str
    platform: str
    batch: list[SentEvent]
    environment: str | None = None
    sent_at: str | None = None


class JudgedEvent(Struct, gc=False, omit_defaults=True):
    """An accepted event of a `JUDGED` payload. `index` is its place in the request's batch, from 0.

    `repeat` is how many equal events of its request stand in other frames, for one that is replayed without them.
    """

    index: int
    event_type: str
    event_name: str
    device_id: str
    session_id: str
    timestamp: str
    properties: str = "{}"
    event_id: str | None = None
    repeat: int = 0


class RejectedEvent(Struct, gc=False):
    """A rejected event of a `JUDGED` payload: where it stood, why it was rejected, and its JSON text as sent."""

    index: int
    field: str | None
    code: str
    message: str
    event: str


class Origin(Struct, frozen=True):
    """The request whose rejected events a frame holds: its log, partition and offset."""

    log_id: str
    partition: int
    offset: int


class JudgedBatch(Struct, gc=False, omit_defaults=True):
    """A `JUDGED` payload. `sent_at` is the text as sent; `origin` is None but in a replay."""

    project_id: str
    environment: str
    bundle_id: str
    platform: str
    sent_at: str | None
    events: list[JudgedEvent]
    rejected: list[RejectedEvent]
    origin: Origin | None = None


class Owner(Struct, gc=False):
    """The one member of either form that a count per project needs."""

    project_id: str


# A member that nobody knows may be nested as deep as the decoder of ingest could just go; a reader of the log may
# stand deeper in its own stack and could not.
decode_sent = at_any_depth(json.Decoder(SentBatch).decode)
decode_judged = json.Decoder(JudgedBatch).decode
decode_owner = at_any_depth(json.Decoder(Owner).decode)
encode_judged = json.Encoder().encode
