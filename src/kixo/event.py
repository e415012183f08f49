"""What a client sends: the batch and its events, with every limit of the contract.

The structs below are the one definition. Requests are validated by decoding into them, and `/openapi.json` is
generated from them.
"""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct, field

PROPERTIES_BYTES_MAX = 64 * 1024
PROPERTIES_DEPTH_MAX = 100
PROJECT_ID_LENGTH_MAX = 128
BUNDLE_ID_LENGTH_MAX = 255
EVENT_TYPE_LENGTH_MAX = 128
EVENT_NAME_LENGTH_MAX = 2048
DEVICE_ID_LENGTH_MAX = 255
SESSION_ID_LENGTH_MAX = 255
EVENT_ID_LENGTH_MAX = 128
ERRORS_SHOWN_MAX = 100

PLATFORMS = ("ios", "android", "web")
ENVIRONMENTS = ("production", "staging", "development")
ENVIRONMENT_DEFAULT = "production"

# What Kixo's SDKs send. Any other type is accepted as it is.
EVENT_TYPES = (
    "screen_view",
    "page_view",
    "tap",
    "click",
    "session_start",
    "session_end",
    "scroll_depth",
    "rage_click",
    "dead_click",
    "error",
    "network",
    "performance",
    "heatmap_click",
    "push_received",
    "push_open",
    "push_silent",
    "custom",
)


def _no_properties() -> Raw:
    # A factory, because the generator of the schema cannot show a `Raw` as a default.
    return Raw(b"{}")


Timestamp = Annotated[
    datetime,
    Meta(description="ISO 8601; without an offset it means UTC.", examples=["2026-04-08T12:00:00Z"]),
]


class Event(Struct, gc=False):
    """One event of a batch."""

    event_type: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=EVENT_TYPE_LENGTH_MAX,
            description="Event type. Kixo's SDKs send: "
            + ", ".join(EVENT_TYPES)
            + ". Others are accepted as they are.",
            examples=["screen_view"],
        ),
    ]
    event_name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=EVENT_NAME_LENGTH_MAX,
            description="Human-readable event name.",
            examples=["HomeScreen"],
        ),
    ]
    device_id: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=DEVICE_ID_LENGTH_MAX,
            description="Unique device identifier.",
            examples=["d_001"],
        ),
    ]
    session_id: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=SESSION_ID_LENGTH_MAX,
            description="Session identifier.",
            examples=["s_001"],
        ),
    ]
    timestamp: Timestamp
    properties: Annotated[
        Raw,
        Meta(
            description=f"Arbitrary key-value pairs: at most {PROPERTIES_BYTES_MAX} bytes of JSON, "
            f"nested at most {PROPERTIES_DEPTH_MAX} deep.",
            extra_json_schema={"type": ["object", "null"], "additionalProperties": True},
            examples=[{"referrer": "https://google.com"}],
        ),
    ] = field(default_factory=_no_properties)
    event_id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=EVENT_ID_LENGTH_MAX,
                description="The event's identity: an event sent twice with the same id counts once.",
                examples=["018f2b1e-7c1a-7d3e-9b57-0c5f2f6a1d10"],
            ),
        ]
        | None
    ) = None


class Envelope(Struct, gc=False):
    """What a request says about all of its events."""

    project_id: Annotated[str, Meta(description="Your Kixo project ID.", examples=["kx_proj_abc123"])]
    api_key: Annotated[str, Meta(description="Your Kixo API key.", examples=["kx_key_xyz789"])]
    bundle_id: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=BUNDLE_ID_LENGTH_MAX,
            description="App bundle identifier.",
            examples=["com.example.app"],
        ),
    ]
    platform: Annotated[Literal["ios", "android", "web"], Meta(description="Where the app runs.")]


class BatchRequest(Envelope, gc=False):
    """The body of `POST /v1/batch`."""

    batch: Annotated[list[Event], Meta(description="The events, 0 to 1,000 of them.")]
    environment: Annotated[
        Literal["production", "staging", "development"] | None,
        Meta(description="Defaults to production; null means absent."),
    ] = None
    sent_at: (
        Annotated[
            datetime,
            Meta(
                description="When the batch was sent, ISO 8601; used to correct the device's clock.",
                examples=["2026-04-08T12:00:01Z"],
            ),
        ]
        | None
    ) = None


class Rejection(Struct, frozen=True, omit_defaults=True):
    """Why one event of a batch was not taken."""

    index: Annotated[int, Meta(ge=0, description="The event's place in the batch, from 0.")]
    field: Annotated[str | None, Meta(description="The member that is wrong; null: the event itself.")]
    code: Annotated[str, Meta(description="The stable reason, such as invalid_timestamp.")]
    message: Annotated[str, Meta(description="What is wrong, the limit and the value, and what to do.")]


class BatchAnswer(Struct, frozen=True, omit_defaults=True):
    """The answer to a batch of which at least one event was taken, or that was empty."""

    status: Literal["ok"]
    accepted: Annotated[int, Meta(ge=0, description="Events taken.")]
    rejected: Annotated[int, Meta(ge=0, description="Events not taken; absent when there are none.")] = 0
    errors: Annotated[list[Rejection], Meta(max_length=ERRORS_SHOWN_MAX, description="The first 100 reasons.")] = []


class DryRunRow(Struct, frozen=True):
    """The row of the table `events` that an event would become; `properties` as JSON."""

    project_id: str
    environment: str
    bundle_id: str
    platform: str
    event_type: str
    event_name: str
    device_id: str
    session_id: str
    timestamp: Annotated[str, Meta(description="When it happened, corrected for the device's clock.")]
    client_timestamp: Annotated[str, Meta(description="When it happened by the device's clock, in UTC.")]
    sent_at: str | None
    received_at: Annotated[str, Meta(description="When the headers of this request arrived.")]
    clock_rule: Annotated[str, Meta(description="Which rule gave `timestamp`.", examples=["within_tolerance"])]
    event_id: str | None
    identity: Annotated[str, Meta(description="The 16 bytes by which copies are known, as hexadecimal digits.")]
    properties: Annotated[Raw, Meta(extra_json_schema={"type": "object", "additionalProperties": True})]


class DryRunEvent(Struct, frozen=True, omit_defaults=True):
    """What would become of one event: a `row`, or a reason (`field`, `code` and `message`)."""

    index: Annotated[int, Meta(ge=0, description="The event's place in the batch, from 0.")]
    outcome: Literal["accepted", "rejected"]
    row: DryRunRow | None = None
    clock: Annotated[str | None, Meta(description="What the clock rule did, and why, in words.")] = None
    identity_from: Annotated[
        Literal["event_id", "content"] | None, Meta(description="What the identity was made of.")
    ] = None
    field: str | None = None
    code: str | None = None
    message: str | None = None


class DryRunAnswer(Struct, frozen=True, omit_defaults=True):
    """The answer to `?dry_run=true`: that of the real call, and what would become of each event."""

    status: Literal["ok"]
    accepted: Annotated[int, Meta(ge=0, description="Events that would be taken.")]
    dry_run: Literal[True]
    events: list[DryRunEvent]
    rejected: Annotated[int, Meta(ge=0, description="Events that would not; absent when there are none.")] = 0
    errors: Annotated[list[Rejection], Meta(max_length=ERRORS_SHOWN_MAX, description="The first 100 reasons.")] = []


# Every reason for which an event is rejected, with a sentence for the docs.
REJECTION_CODES: dict[str, str] = {
    "invalid_event": "The event is not a JSON object.",
    "missing": "A required member is absent.",
    "wrong_type": "A member is not of the type it has to be.",
    "empty": "A member is an empty string.",
    "too_long": "A string has more characters than it may have.",
    "invalid_timestamp": "`timestamp` is not an ISO 8601 date and time.",
    "too_large": "`properties` is more than 64 KiB of JSON.",
    "too_deep": "`properties` is nested more than 100 deep.",
}
