"""A frame as a record of Kafka.

key      the project id, UTF-8
value    the payload: JSON, as `kixo.stored` describes it
headers  all values are ASCII text:

    kixo-format          1; another number is another form of this record
    kixo-kind            as-sent or judged: which of its two forms the payload has
    kixo-received-at-us  when the request's headers arrived, in microseconds since 1970
    kixo-accepted        how many events of it were accepted
    kixo-rejected        how many were not
    content-type         application/json

So a consumer that knows nothing of Kixo can count events without reading a value. The record's timestamp is when it was
written.
"""

from collections.abc import Mapping
from typing import Any

from kixo.errors import DataFolderError
from kixo.log import Frame
from kixo.stored import AS_SENT, JUDGED

FORMAT = 1
KINDS = {AS_SENT: b"as-sent", JUDGED: b"judged"}
# More than the headers and Kafka's own bytes of a record come to.
OVERHEAD_BYTES = 1024

Header = tuple[str, str | bytes | None]

_FORMAT: Header = ("kixo-format", b"%d" % FORMAT)
_TYPE: Header = ("content-type", b"application/json")
_KINDS: dict[int, Header] = {kind: ("kixo-kind", name) for kind, name in KINDS.items()}
_KIND_OF = {name: kind for kind, name in KINDS.items()}


def pack_headers(received_at_us: int, kind: int, accepted: int, rejected: int) -> list[Header]:
    """The headers of a frame's record."""
    return [
        _FORMAT,
        _KINDS[kind],
        ("kixo-received-at-us", b"%d" % received_at_us),
        ("kixo-accepted", b"%d" % accepted),
        ("kixo-rejected", b"%d" % rejected),
        _TYPE,
    ]


def unpack(message: Any) -> Frame | None:
    """The frame of a consumed message; None where it is no record of ours.

    Raises `DataFolderError` for a record of a newer Kixo.
    """
    headers: Mapping[str, bytes] = dict(message.headers() or ())
    value = message.value()
    try:
        if int(headers["kixo-format"]) > FORMAT:
            raise DataFolderError(
                f"A record of the topic {message.topic()} has format {int(headers['kixo-format'])}, and this Kixo knows"
                f" formats up to {FORMAT}.",
                "Use the newer Kixo that wrote it.",
            )
        return Frame(
            message.offset(),
            int(headers["kixo-received-at-us"]),
            _KIND_OF[headers["kixo-kind"]],
            int(headers["kixo-accepted"]),
            int(headers["kixo-rejected"]),
            value or b"",
        )
    except (KeyError, ValueError, TypeError):
        return None
