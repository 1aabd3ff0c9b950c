"""How many requests are served at once, and what is said at the door.

Each request that is let in makes all others slower. So beyond a number that is answered well within
the deadline the next one is refused at once, which costs next to nothing, instead of letting all of
them wait too long. Whoever asks how the service is doing is always let in.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Refusal, Unavailable
from app.http.guard import Answer
from app.storage.database import REQUEST_BEGUN

ALWAYS_OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Who looks after the service is answered most of all when it has too much to do."""


@dataclass
class Door:
    """The door of one application: at most *most* requests are inside, *inside* are now.

    `closing`: the service is about to stop. What comes is still served, and told to ask another the
    next time: the connection ends with the answer.
    """

    most: int
    inside: int = 0
    closing: bool = False


class Doorkeeper:
    """ASGI middleware that lets requests in as *door* allows, and from then on counts how long they
    take; others get what *on_refusal* makes of `Unavailable`. It stands behind the guard, so that nobody is inside whose body is not here.
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

        async def send_out(message: Message) -> None:
            if door.closing and message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        if scope["path"] in ALWAYS_OPEN:
            await self._app(scope, receive, send_out)
        elif door.inside >= door.most:
            refusal = Unavailable("queue-full", "more requests are under way than can be served")
            status, headers, body = self._on_refusal(refusal, scope)
            await send_out({"type": "http.response.start", "status": status, "headers": headers})
            await send_out({"type": "http.response.body", "body": body})
        else:
            door.inside += 1
            REQUEST_BEGUN.set(time.monotonic())
            try:
                await self._app(scope, receive, send_out)
            finally:
                door.inside -= 1
