"""How many requests are served at once, and what is said at the door.

Each request that is let in makes all others slower, so beyond a number that is answered well within
the deadline the next ones wait outside, and are soon turned away. They are not turned away at once: who
then asks again without a pause would keep the service busy with nothing but refusals. Whoever asks how
the service is doing is always let in.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Refusal, Unavailable
from app.http.guard import Answer
from app.storage.database import REQUEST, Request

ALWAYS_OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Who looks after the service is answered most of all when it has too much to do."""

READS: Final = frozenset({"GET", "HEAD"})

WAIT_SECONDS: Final = 0.75
"""How long a request waits outside, out of the time that it may take in all."""

MOST_WAITING: Final = 1024
"""More are turned away at once, and their connections are closed."""


class Door:
    """The door of one application: at most *most* requests are inside that only read, and as many
    others, so that slow readers leave room for who records.

    `closing`: the service is about to stop. What comes is still served, and told to ask another the
    next time: the connection ends with the answer.
    """

    def __init__(self, most: int) -> None:
        self.closing = False
        self.waiting = 0
        self._for_readers, self._for_others = asyncio.Semaphore(most), asyncio.Semaphore(most)

    @asynccontextmanager
    async def inside(self, *, only_reads: bool) -> AsyncIterator[None]:
        """Be let in while the block lasts. Raises `Unavailable`: `queue-full`."""
        places = self._for_readers if only_reads else self._for_others
        if places.locked():
            await self._wait(places)
        else:
            await places.acquire()
        try:
            yield
        finally:
            places.release()

    async def _wait(self, places: asyncio.Semaphore) -> None:
        self.waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await places.acquire()
        except TimeoutError:
            raise Unavailable("queue-full", "too many requests are under way; ask again") from None
        finally:
            self.waiting -= 1


class Doorkeeper:
    """ASGI middleware that lets requests in as *door* allows, and says when each of them came; others
    get what *on_refusal* makes of `Unavailable`. It stands behind the guard, so that nobody is inside
    whose body is not here.
    """

    def __init__(
        self, app: ASGIApp, *, door: Door, on_refusal: Callable[[Refusal, Scope], Answer]
    ) -> None:
        self._app = app
        self._door = door
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        door = self._door
        ends = False

        async def send_out(message: Message) -> None:
            if (ends or door.closing) and message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        if scope["path"] in ALWAYS_OPEN:
            await self._app(scope, receive, send_out)
            return
        request = Request(time.monotonic(), scope["method"] in READS)
        token = REQUEST.set(request)
        ends = door.waiting >= MOST_WAITING
        try:
            if ends:
                raise Unavailable("queue-full", "too many requests wait already; ask again")
            async with door.inside(only_reads=request.only_reads):
                await self._app(scope, receive, send_out)
        except Unavailable as refusal:
            # Only the door's own: the application has answered all others.
            status, headers, body = self._on_refusal(refusal, scope)
            await send_out({"type": "http.response.start", "status": status, "headers": headers})
            await send_out({"type": "http.response.body", "body": body})
        finally:
            REQUEST.reset(token)
