"""The HTTP protocol of uvicorn, with an end to patience.

uvicorn waits for ever for a connection's first byte and for the rest of a request's headers, and
its fast parser takes headers of any size. Behind enough of such connections no honest request is
served. `PromptHttpProtocol` is given to uvicorn as `http=`; `app/http/guard.py` does the same for
bodies.
"""

import asyncio
from typing import Any, ClassVar, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEADERS_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\n"
    b"connection: close\r\n"
    b"\r\n"
)


class PromptHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose next headers do not arrive in time, or do not end.

    Time runs from the connection's first moment and, on a connection that is kept alive, from the
    first byte after an answer; before that byte uvicorn's own `timeout_keep_alive` rules.
    """

    headers_seconds: ClassVar[float] = 5.0
    last_seconds: ClassVar[float] = 0.5
    """How long, once nothing new is taken, a connection may still bring the request for which it was
    opened, or kept, before it is closed."""
    max_header_bytes: ClassVar[int] = 64 * 1024
    """What may come, in reads that complete no headers and bring nothing of a body."""

    _headers_deadline: asyncio.TimerHandle | None = None
    _brought_something: bool = False
    _fruitless_bytes: int = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; whatever comes between requests starts the wait for the next headers."""
        self._brought_something = False
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self._is_between_requests():
            self._wait_for_headers()
        self._fruitless_bytes = 0 if self._brought_something else self._fruitless_bytes + len(data)
        if self._fruitless_bytes > self.max_header_bytes:
            if self._is_between_requests():
                self.transport.write(_HEADERS_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Wait for the headers, also of a request that comes while the last one is served."""
        self._wait_for_headers()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, and drop a trailer: what checked the headers has not seen it."""
        if self._headers_deadline is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop waiting: the rest is the application's."""
        self._brought_something = True
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._brought_something = True
        super().on_body(body)

    def shutdown(self) -> None:
        """Close after the answer that is under way, or else soon: a request may be on its way here, and
        who sent it would not know whether it was served.
        """
        if self._is_between_requests():
            self.loop.call_later(self.last_seconds, self._leave)
        else:
            super().shutdown()

    def _leave(self) -> None:
        if self._is_between_requests():
            self.transport.close()
        else:
            super().shutdown()

    def _is_between_requests(self) -> bool:
        # uvicorn's annotation hides that there is no cycle before the first request.
        cycle = cast("Any", self.cycle)
        return cycle is None or cycle.response_complete

    def _wait_for_headers(self) -> None:
        """Start the clock; one that runs is not set back."""
        if self._headers_deadline is None:
            self._headers_deadline = self.loop.call_later(self.headers_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._headers_deadline is not None:
            self._headers_deadline.cancel()
            self._headers_deadline = None

    def _give_up(self) -> None:
        # The handle stays: whatever is still read of these headers starts no new wait.
        if not self.transport.is_closing():
            self.transport.close()
