"""Every error of the project, in one tree.

    KixoError
    ├── RequestError                 answered to a client, with an HTTP status and a stable code
    │   ├── InvalidJSON              400 invalid_json
    │   ├── InvalidRequest           400 invalid_request
    │   ├── NoValidEvents            400 no_valid_events
    │   ├── Unauthorized             401 unauthorized
    │   ├── Forbidden                403 forbidden; the private port only
    │   ├── NotFound                 404 not_found
    │   ├── MethodNotAllowed         405 method_not_allowed
    │   ├── BodyTimeout              408 timeout
    │   ├── BodyTooLarge             413 body_too_large
    │   ├── UnsupportedMediaType     415 unsupported_media_type
    │   ├── UnsupportedEncoding      415 unsupported_encoding
    │   ├── TooManyEvents            429 too_many_events
    │   ├── RateLimited              429 rate_limited
    │   ├── Internal                 500 internal
    │   ├── Unavailable              503 unavailable
    │   └── NotYetVisible            504 not_yet_visible; the private port only
    ├── OperatorError                shown to the person at the terminal, with an exit code and a next step
    │   ├── BadSetting               2
    │   ├── BadArgument              2
    │   ├── QueryFailed              2
    │   │   ├── QueryTooLong         its time is over
    │   │   ├── QueryTooLarge        its memory is used up
    │   │   ├── QueryStopped         somebody stopped it
    │   │   ├── QueryLost            its process ended
    │   │   └── TooManyQueries       too many wait already
    │   ├── AuditFailed              3
    │   ├── DataFolderError          4
    │   ├── AddressInUse             5
    │   ├── RegistryLocked           6
    │   ├── StartFailed              7
    │   ├── SendFailed               8
    │   ├── EventsRejected           9
    │   └── RegistryUnreachable      10
    └── BadOption                    raised where an app makes a client of what cannot be

The docstring of a `RequestError` stands in the public documents; its message says what is wrong, the limit and the
measured value, and what to do.
The message of an `OperatorError` says what happened; `next_step` says what to do about it.
"""

from typing import ClassVar


class KixoError(Exception):
    """The root of every error that Kixo raises on purpose."""


class RequestError(KixoError):
    """An answer other than success.

    `status` is the HTTP status, `code` the stable machine-readable reason, `retryable` whether sending the same
    request again can help, `members` the further members of the JSON answer, and `retry_after_s` the value of
    the `Retry-After` header in whole seconds (None: no such header). `quoted` is what the message repeats of the
    request, which may be anything, a key too: the sender may see it, nobody else.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: int | None = None,
        allow: str | None = None,
        quoted: str | None = None,
        **members: object,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.allow = allow
        self.quoted = quoted
        self.members = members

    @classmethod
    def summary(cls) -> str:
        """What the code means and what to do, for people: the docstring of the error."""
        return cls.__doc__ or cls.code

    def answer(self) -> dict[str, object]:
        """The JSON object that is sent to the client."""
        return {"status": "error", "code": self.code, "message": self.message, **self.members}


class InvalidJSON(RequestError):
    """The body is not valid UTF-8 JSON, or not an object. `position` is the byte where that shows."""

    status, code = 400, "invalid_json"


class InvalidRequest(RequestError):
    """A member of the envelope is missing or wrong; `field` names it."""

    status, code = 400, "invalid_request"


class NoValidEvents(RequestError):
    """Every event of the batch was rejected; `errors` says why, as in a partial success."""

    status, code = 400, "no_valid_events"


class Unauthorized(RequestError):
    """The project is unknown, or the key is unknown, revoked or another project's: not told which."""

    status, code = 401, "unauthorized"


class Forbidden(RequestError):
    """The private port only: the request came from elsewhere than a page of the console, or its page is too old."""

    status, code = 403, "forbidden"


class NotFound(RequestError):
    """There is nothing at this path."""

    status, code = 404, "not_found"


class MethodNotAllowed(RequestError):
    """The path does not take this method; the `Allow` header lists those it takes."""

    status, code = 405, "method_not_allowed"


class BodyTimeout(RequestError):
    """The body stopped arriving. Send the request again."""

    status, code, retryable = 408, "timeout", True


class BodyTooLarge(RequestError):
    """The body is over `limit` bytes, on the wire or inflated. Split the batch."""

    status, code = 413, "body_too_large"


class UnsupportedMediaType(RequestError):
    """The `Content-Type` is neither `application/json` nor `text/plain`."""

    status, code = 415, "unsupported_media_type"


class UnsupportedEncoding(RequestError):
    """The `Content-Encoding` is none of gzip, deflate, br and zstd."""

    status, code = 415, "unsupported_encoding"


class TooManyEvents(RequestError):
    """The batch has more than `limit` events. Split it; the same batch can never pass."""

    status, code = 429, "too_many_events"


class RateLimited(RequestError):
    """The project has used its requests of this second. Wait for `Retry-After`, then repeat."""

    status, code, retryable = 429, "rate_limited", True


class Internal(RequestError):
    """A defect of the server. Repeat the request; the server's log has the details."""

    status, code, retryable = 500, "internal", True


class Unavailable(RequestError):
    """Nothing was stored (disk full, log down, overloaded or stopping). Repeat after `Retry-After`."""

    status, code, retryable = 503, "unavailable", True


class NotYetVisible(RequestError):
    """The private port only: what was acknowledged at `after` is not in the tables yet. Ask again with the same."""

    status, code, retryable = 504, "not_yet_visible", True


# Those that the public port answers with.
REQUEST_ERRORS: tuple[type[RequestError], ...] = (
    InvalidJSON,
    InvalidRequest,
    NoValidEvents,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    BodyTimeout,
    BodyTooLarge,
    UnsupportedMediaType,
    UnsupportedEncoding,
    TooManyEvents,
    RateLimited,
    Internal,
    Unavailable,
)


class OperatorError(KixoError):
    """Something the person at the terminal has to mend; `exit_code` is the status of the process."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(f"{message} {next_step}")
        self.message = message
        self.next_step = next_step


class BadSetting(OperatorError):
    """A setting has a value that cannot be, or a name that we do not know."""

    exit_code = 2


class BadArgument(OperatorError):
    """A command was given something that it cannot work with."""

    exit_code = 2


class QueryFailed(OperatorError):
    """A query is not SQL we run, or went over its caps.

    `code` is the stable reason for programs, `status` the HTTP status under which the private port tells it, and
    `position` the character of the query, from 0, at which it shows.
    """

    exit_code = 2
    code: ClassVar[str] = "query_failed"
    status: ClassVar[int] = 400

    def __init__(self, message: str, next_step: str, position: int | None = None) -> None:
        super().__init__(message, next_step)
        self.position = position


class QueryTooLong(QueryFailed):
    """A query used up its time."""

    code = "query_too_long"


class QueryTooLarge(QueryFailed):
    """A query used up its memory."""

    code = "query_too_large"


class QueryStopped(QueryFailed):
    """A query was stopped before its end, by whoever asked or with the server."""

    code, status = "query_stopped", 409


class QueryLost(QueryFailed):
    """The process of a query ended before the query did."""

    code, status = "query_lost", 503


class TooManyQueries(QueryFailed):
    """So many queries wait for their turn that no other may."""

    code, status = "too_many_queries", 503


class AuditFailed(OperatorError):
    """The log and the lake do not account for every event."""

    exit_code = 3


class DataFolderError(OperatorError):
    """The data folder, or a part of it, cannot be used as it is."""

    exit_code = 4


class AddressInUse(OperatorError):
    """Another program listens on the port."""

    exit_code = 5


class RegistryLocked(OperatorError):
    """Another process holds the registry for longer than we wait."""

    exit_code = 6


class StartFailed(OperatorError):
    """A part of the server did not come up."""

    exit_code = 7


class BadOption(KixoError, ValueError):
    """A client was made with something that cannot be. Nothing was sent."""


class SendFailed(OperatorError):
    """Events of an import could not be delivered."""

    exit_code = 8


class EventsRejected(OperatorError):
    """Some events of an import or a replay were not taken; all others were."""

    exit_code = 9


class RegistryUnreachable(OperatorError):
    """The database server that holds the registry does not answer, or cannot be used."""

    exit_code = 10
