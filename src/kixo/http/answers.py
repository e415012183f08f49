"""Answers of the public port: status, headers and body, with what every answer has in common."""

from functools import lru_cache
from typing import NamedTuple

from msgspec import json

from kixo.errors import RequestError
from kixo.limits import Verdict
from kixo.log import Durability

Headers = list[tuple[str, str]]

EXPOSED = "Kixo-Durability, Kixo-Position, RateLimit, RateLimit-Policy, Retry-After"
COMMON: Headers = [
    ("content-type", "application/json"),
    ("access-control-allow-origin", "*"),
    ("access-control-expose-headers", EXPOSED),
    ("server", "kixo"),
]
PREFLIGHT: Headers = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "POST, OPTIONS"),
    ("access-control-allow-headers", "Content-Type, Content-Encoding"),
    ("access-control-expose-headers", EXPOSED),
    ("access-control-max-age", "86400"),
    ("server", "kixo"),
]

POSITION = "kixo-position"

_encode = json.Encoder().encode


class Answer(NamedTuple):
    """One answer. `code` is `ok`, or the error's code."""

    status: int
    code: str
    headers: Headers
    body: bytes


def success(body: bytes, verdict: Verdict, policy: str, durability: Durability, position: str | None) -> Answer:
    """200, after the events became durable; `position` says where in the log, and is None where there were none."""
    headers = success_headers(verdict, policy, durability)
    if position is not None:
        headers = [*headers, (POSITION, position)]
    return Answer(200, "ok", headers, body)


@lru_cache(maxsize=1024)
def success_headers(verdict: Verdict, policy: str, durability: Durability) -> Headers:
    """The headers of a 200; there are few different ones, and nobody may change them."""
    return [*COMMON, ("kixo-durability", durability), *limit_headers(verdict, policy)]


def failure(
    error: RequestError, verdict: Verdict | None = None, policy: str = "", position: str | None = None
) -> Answer:
    """Any other answer; with the state of the limit where the project is known, and the place of what was stored."""
    headers = [*COMMON]
    if verdict is not None:
        headers += limit_headers(verdict, policy)
    if position is not None:
        headers.append((POSITION, position))
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(error.retry_after_s)))
    if error.allow is not None:
        headers.append(("allow", error.allow))
    return Answer(error.status, error.code, headers, _encode(error.answer()))


def limit_headers(verdict: Verdict, policy: str) -> Headers:
    """`RateLimit-Policy` and `RateLimit`: what is left of the second, and when all of it is there again."""
    return [("ratelimit-policy", policy), ("ratelimit", f'"project";r={verdict.left};t={verdict.reset_s}')]


def limit_policy(requests_max: int) -> str:
    """The value of `RateLimit-Policy`."""
    return f'"project";q={requests_max};w=1'
