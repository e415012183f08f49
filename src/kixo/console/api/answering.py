"""How work is done for somebody who may go away meanwhile, and how its result is sent."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Send

from kixo.errors import QueryFailed

T = TypeVar("T")

ANSWER_TYPE = "application/json"
# The formats by their names here, with the names that the writers have, the media types and the endings of files.
STREAMED = {
    "jsonl": ("json", "application/jsonl", "jsonl"),
    "csv": ("csv", "text/csv; charset=utf-8; header=present", "csv"),
    "parquet": ("parquet", "application/vnd.apache.parquet", "parquet"),
}
RETRY_AFTER_S = "1"


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of work that is ended when the client goes away; its body has to have been read before."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        # Where it is done this changes nothing.
        task.cancel()
    return await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Download(StreamingResponse):
    """Rows as they come. Where the query fails in the middle, the answer is cut off, so that nobody takes it for whole.

    The first piece is there already: what fails before it gets an answer of its own.
    """

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None], format: str, headers: dict[str, str]) -> None:
        _, media_type, ending = STREAMED[format]
        name = {"content-disposition": f'attachment; filename="kixo-query.{ending}"'}
        super().__init__(rest, media_type=media_type, headers={**headers, **name})
        self._first = first
        self._rest = rest

    async def stream_response(self, send: Send) -> None:
        """Sends the pieces, and lets go of the query whatever happens."""
        async with aclosing(self._rest):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send(_piece(self._first))
            try:
                async for piece in self._rest:
                    await send(_piece(piece))
            except QueryFailed:
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _piece(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def first_piece(pieces: AsyncGenerator[bytes, None]) -> bytes:
    """The first piece, none of a result without a byte; raises `QueryFailed`, and lets go of the query then."""
    try:
        return await anext(pieces, b"")
    except BaseException:
        await pieces.aclose()
        raise


def query_refusal(error: QueryFailed, sql: str) -> JSONResponse:
    """The answer to a query that failed, in the form of every error, with its place in the text."""
    body = {"status": "error", "code": error.code, "message": str(error), **place(error, sql)}
    headers = {"retry-after": RETRY_AFTER_S} if error.status == 503 else {}
    return JSONResponse(body, error.status, headers)


def place(error: QueryFailed, sql: str) -> dict[str, int]:
    """Where in the text a query is wrong: the character from 0, and line and column from 1; empty where unknown."""
    if error.position is None:
        return {}
    before = sql[: error.position].split("\n")
    return {"position": error.position, "line": len(before), "column": len(before[-1]) + 1}
