"""Nothing behind this sees a request's body before the whole of it is here, small and in time.

An ASGI application reads a body for as long and as far as it comes. This is the one place that
says how far; no route needs to think of it.
"""

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DocumentTooLarge, DocumentTooSlow, Refusal

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body."""


class Guard:
    """ASGI middleware that reads at most *max_body_bytes* of a body, for at most *body_seconds*.

    What is beyond is answered with what *on_refusal* makes of `DocumentTooLarge` or
    `DocumentTooSlow`, and the connection is closed, for its rest is the body that nobody wants. A
    body that is announced as too large is refused before any of it is read. A caller who goes away
    amid the body is not passed on. Everything that is not HTTP passes untouched.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        body_seconds: float,
        on_refusal: Callable[[Refusal, Scope], Answer],
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._body_seconds = body_seconds
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._whole_body(scope, receive)
        except (DocumentTooLarge, DocumentTooSlow) as refusal:
            await self._answer(refusal, scope, send)
            return
        if body is not None:
            await self._app(scope, _first(body, receive), send)

    async def _whole_body(self, scope: Scope, receive: Receive) -> Message | None:
        """The body in one message; None: the caller has gone."""
        if _announced_bytes(scope) > self._max_body_bytes:
            raise DocumentTooLarge(self._max_body_bytes)
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > self._max_body_bytes:
                        raise DocumentTooLarge(self._max_body_bytes)
                    if not message.get("more_body", False):
                        return {"type": "http.request", "body": bytes(body), "more_body": False}
        except TimeoutError:
            raise DocumentTooSlow(self._body_seconds) from None

    async def _answer(self, refusal: Refusal, scope: Scope, send: Send) -> None:
        status, headers, body = self._on_refusal(refusal, scope)
        if scope.get("http_version", "1.1").startswith("1"):
            headers = [*headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _announced_bytes(scope: Scope) -> int:
    """The Content-Length; 0 where there is none to believe, for then the bytes are counted."""
    for name, value in scope["headers"]:
        # The parser refuses what is not a number; a longer one than this needs no reading.
        if name == b"content-length" and value.isdigit():
            return int(value[:18]) if len(value) <= 18 else 10**18
    return 0


def _first(message: Message, receive: Receive) -> Receive:
    """*receive*, which gives *message* before anything else."""
    ahead = [message]

    async def receive_on() -> Message:
        return ahead.pop() if ahead else await receive()

    return receive_on
