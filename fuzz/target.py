"""What has to hold for any bytes whatever: one function, for the fuzzer and for the tests.

A body is looked at as ingest looks at it, and what it would store as the loader reads it. The two paths of ingest have
to agree on every event, the key must be gone from what is stored, and nothing but the errors of the contract may be
raised. The first byte of the input chooses a content encoding, so that the inflaters are tried as well.
"""

from collections.abc import Sequence

from kixo import decode, stored
from kixo.depth import depth_of
from kixo.errors import RequestError
from kixo.event import PROPERTIES_DEPTH_MAX
from kixo.inflate import ENCODINGS, inflate
from kixo.ingest import Admission, Ingest, Refusal, blank
from kixo.limits import Unlimited
from kixo.loader.pieces import cut_pieces
from kixo.loader.requests import PlacedFrame
from kixo.loader.rows import Rules, event_rows
from kixo.log import Frame
from kixo.settings import Settings
from kixo.snapshot import Sender, Snapshot, key_hash
from kixo.stored import JudgedEvent, RejectedEvent, SentBatch
from kixo.timestamp import DAY_US

PROJECT, KEY = "kx_proj_abc123", "kx_key_xyz789"
INFLATED_BYTES_MAX = 256 * 1024
NOW_US = 1_775_649_600_000_000

Stored = tuple[tuple[object, ...], Sequence[JudgedEvent], Sequence[RejectedEvent]]
"""An envelope, the events that were taken, and those that were not."""


def make_ingest() -> Ingest:
    """The path in, with one project and one key."""
    digest = key_hash(KEY)
    snapshot = Snapshot(1, {PROJECT: 1}, {digest: Sender(1, 1, digest)})
    return Ingest(lambda: snapshot, Unlimited(), lambda: 0, Settings())


def try_one(ingest: Ingest, data: bytes) -> str:
    """Looks at one input; what became of it, in a word. Raises `AssertionError` where a promise is not kept."""
    if not data:
        return "empty"
    encoding = ("", *ENCODINGS)[data[0] % (len(ENCODINGS) + 1)]
    try:
        body = inflate(data[1:], encoding, INFLATED_BYTES_MAX)
    except RequestError as error:
        return error.code
    assert len(body) <= INFLATED_BYTES_MAX or not encoding
    return _admit(ingest, body)


def _admit(ingest: Ingest, body: bytes) -> str:
    fast = decode.decode_request(body)
    try:
        admission = ingest.admit(body)
    except Refusal as refusal:
        # What the fast path takes can be refused for its key or its number of events, and for nothing else.
        assert fast is None or refusal.error.code in {"unauthorized", "too_many_events"}
        return refusal.error.code
    slow = _judged(body)
    _check(admission, slow)
    if fast is not None:
        assert not slow[2], "the slow path rejects what the fast one takes"
    return "judged" if fast is None else "as sent"


def _judged(body: bytes) -> Stored:
    request = decode.open_request(body)
    accepted, rejected = decode.judge_events(request.events)
    return _envelope(request), accepted, rejected


def _envelope(request: decode.OpenedRequest | stored.JudgedBatch) -> tuple[object, ...]:
    return request.project_id, request.environment, request.bundle_id, request.platform, request.sent_at


def _check(admission: Admission, slow: Stored) -> None:
    """The log has to give back what the slow path found, whichever path the request took."""
    payload = admission.payload
    assert (payload is None) == (not slow[1] and not slow[2])
    if payload is None:
        return
    content = b"".join(payload.content)
    assert KEY.encode() not in content, "the key is stored"
    assert (payload.accepted, payload.rejected) == (len(slow[1]), len(slow[2]))
    assert stored.decode_owner(content).project_id == slow[0][0]
    kept = _as_sent(content) if payload.kind == stored.AS_SENT else _as_judged(content)
    assert kept == _blanked(slow), "what is stored is not what was judged"
    _check_rows(Frame(0, NOW_US, payload.kind, payload.accepted, payload.rejected, content), slow)
    assert all(depth_of(event.properties.encode()) <= PROPERTIES_DEPTH_MAX for event in slow[1])


def _check_rows(frame: Frame, slow: Stored) -> None:
    """The loader has to make a row of each accepted event, with a time, and tell of nothing that it cannot read."""
    untold: list[object] = []
    rules = Rules(60_000_000, 400 * DAY_US, lambda *told: untold.append(told))
    rows = event_rows(cut_pieces([PlacedFrame(0, frame)], rules.tell_unreadable), rules)
    assert untold == []
    assert rows.table.num_rows == len(slow[1])
    assert sorted(rows.table["log_index"].to_pylist()) == [event.index for event in slow[1]]


def _as_sent(content: bytes) -> Stored:
    batch = stored.decode_sent(content)
    envelope = batch.project_id, batch.environment or "production", batch.bundle_id, batch.platform, batch.sent_at
    return envelope, events_as_sent(batch), []


def events_as_sent(batch: SentBatch) -> list[JudgedEvent]:
    """The events of a request that the fast path took, as the slow path would hand them over."""
    return [
        JudgedEvent(
            index,
            event.event_type,
            event.event_name,
            event.device_id,
            event.session_id,
            event.timestamp,
            "{}" if bytes(event.properties) == b"null" else bytes(event.properties).decode(),
            event.event_id,
        )
        for index, event in enumerate(batch.batch)
    ]


def _as_judged(content: bytes) -> Stored:
    batch = stored.decode_judged(content)
    return _envelope(batch), batch.events, batch.rejected


def _blanked(slow: Stored) -> Stored:
    """What was judged, without the key: both forms blank it in the same way, so encoding and back is no loss."""
    envelope, accepted, rejected = slow
    project_id, environment, bundle_id, platform, sent_at = envelope
    batch = stored.JudgedBatch(
        str(project_id),
        str(environment),
        str(bundle_id),
        str(platform),
        None if sent_at is None else str(sent_at),
        list(accepted),
        list(rejected),
    )
    return _as_judged(blank(stored.encode_judged(batch), KEY.encode()))
