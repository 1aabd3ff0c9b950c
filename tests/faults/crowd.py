"""Many connections that ask as fast as they are answered, and heed no `Retry-After`."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Self

from tests.faults.proxy import in_a_thread
from tests.faults.service import KEY
from tests.faults.writers import Write


def request(
    method: str, path: str, body: bytes = b"", *, key: str | None = None, type_: str = "json"
) -> bytes:
    """One request, as it goes over the wire."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: aslgate",
        f"Authorization: Bearer {KEY}",
        f"Content-Type: application/{type_}",
        f"Content-Length: {len(body)}",
    ]
    if key is not None:
        lines.append(f"Idempotency-Key: {key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Crowd:
    """So many connections that each send what `ask` gives, again and again; `pause_seconds` between."""

    port: int
    count: int
    ask: Callable[[], bytes]
    pause_seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """How long each answer took, whatever it was."""
    recorded: list[Write] = field(default_factory=list)
    """What was answered with a whole 201."""
    unanswered: int = 0
    hopeless: int = 0
    """503 that do not say when to ask again."""

    @contextmanager
    def asking(self) -> Iterator[Self]:
        """Ask while the block lasts."""
        with in_a_thread(self._all):
            yield self

    @asynccontextmanager
    async def _all(self) -> AsyncIterator[None]:
        clients = [asyncio.create_task(self._client()) for _ in range(self.count)]
        yield
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _client(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    await self._converse(reader, writer)
                except (OSError, asyncio.IncompleteReadError):
                    self.unanswered += 1
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.05)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            begun = time.monotonic()
            asked = self.ask()
            writer.write(asked)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
            body = await reader.readexactly(length)
            status = int(head[9:12])
            self.statuses[status] += 1
            self.seconds.append(time.monotonic() - begun)
            if status == 201:
                self.recorded.append(_write(asked, body, begun))
            self.hopeless += status == 503 and b"\r\nretry-after: " not in head
            if b"\r\nconnection: close" in head:
                return
            await asyncio.sleep(self.pause_seconds)


def _write(asked: bytes, answer: bytes, sent_at: float) -> Write:
    """What was asked and answered, as other clients keep it."""
    head, _, body = asked.partition(b"\r\n\r\n")
    path = head.split()[1].decode()
    key = head.partition(b"Idempotency-Key: ")[2].decode()
    return Write(
        path.rpartition("/")[2].removesuffix("s"),
        path,
        body,
        key,
        sent_at,
        answered_at=time.monotonic(),
        answer=answer,
    )
