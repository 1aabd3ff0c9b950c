"""What stands between two that talk over sockets: before Postgres, one that fails; before several
services, one that sends each caller to one that is ready.
"""

import asyncio
import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

from app.storage.embedded import PORT, PostgresAddress
from tests.faults.service import free_port

LOOK_SECONDS = 0.1

Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


@contextmanager
def in_a_thread(opened: Callable[[], AbstractAsyncContextManager[None]]) -> Iterator[None]:
    """Have *opened* open, in an event loop of its own, while the block lasts."""
    ready = threading.Event()
    stop: list[Callable[[], object]] = []

    async def run() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        async with opened():
            ready.set()
            await stopped.wait()
        # What was hung up is closed in the loop's next turns.
        await asyncio.sleep(0.05)

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="between", daemon=True)
    thread.start()
    assert ready.wait(10), "it is not there"
    try:
        yield
    finally:
        stop[0]()
        thread.join(10)


class Proxy:
    """Stands between the service and Postgres, and passes on what they say, until it does not.

    `delay_seconds`: how long each segment is kept. `holds`: nothing goes through, and nobody is told,
    as where a cable is out: what was sent arrives when it is in again. `refuses`: nobody is connected.
    These may be set from any thread.
    """

    def __init__(self, upstream: PostgresAddress) -> None:
        self._upstream = str(Path(upstream.host) / f".s.PGSQL.{PORT}")
        self._left: dict[str, int | None] = {"up": None, "down": None}
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: list[asyncio.StreamWriter] = []
        self._open: set[asyncio.StreamWriter] = set()
        self.passed = Counter[str]()
        self.cuts = 0
        self.delay_seconds = 0.0
        self.holds = False
        self.refuses = False

    @asynccontextmanager
    async def serving(self, folder: Path) -> AsyncIterator[None]:
        """Be in *folder* what Postgres is in its own."""
        path = str(folder / f".s.PGSQL.{PORT}")
        async with await asyncio.start_unix_server(self.serve, path):
            yield
        await _end(self._tasks, self._open)

    def cut_after(self, direction: str, count: int) -> None:
        """Let so many bytes more through, of those that go *up* to the database or *down* from it."""
        self._left[direction] = count

    def heal(self) -> None:
        """Pass on everything from now on."""
        self._left = {"up": None, "down": None}
        self.delay_seconds, self.holds, self.refuses = 0.0, False, False
        self.passed.clear()

    def announce(self, message: bytes) -> None:
        """Have the database say this to all who are connected, unasked."""
        for client in self._clients:
            client.write(message)

    async def serve(self, down: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """One connection."""
        await self._held()
        if self.refuses:
            client.close()
            return
        up, server = await asyncio.open_unix_connection(self._upstream)
        pair = (client, server)
        self._open.update(pair)
        self._clients.append(client)
        for direction, reader, writer in (("up", down, server), ("down", up, client)):
            task = asyncio.create_task(self._pump(direction, reader, writer, pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _held(self) -> None:
        # Set from another thread.
        while self.holds:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _pump(
        self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                await self._held()
                if self.refuses:
                    break
                left = self._left[direction]
                if left is not None and len(data) >= left:
                    writer.write(data[:left])
                    await writer.drain()
                    self.cuts += 1
                    self.heal()
                    break
                if left is not None:
                    self._left[direction] = left - len(data)
                self.passed[direction] += len(data)
                writer.write(data)
                await writer.drain()
            await self._held()
        for one in pair:
            one.close()
            self._open.discard(one)
        if pair[0] in self._clients:
            self._clients.remove(pair[0])


class Balancer:
    """One port for several services: it goes by their `/readyz`, and knows nothing of HTTP else.

    A caller stays with the service that it was given to until either hangs up.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.port = free_port()
        self.taking: frozenset[int] = frozenset()
        """The ports of those that are ready, as far as it knows."""
        self._ports = ports
        self._turns = itertools.count()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen on `port`."""
        looking = asyncio.create_task(self._look())
        async with await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512):
            yield
        await _end({looking, *self._tasks}, self._open)

    async def _look(self) -> None:
        while True:
            ready = await asyncio.gather(*map(_is_ready, self._ports))
            self.taking = frozenset(
                port for port, is_ready in zip(self._ports, ready, strict=True) if is_ready
            )
            await asyncio.sleep(LOOK_SECONDS)

    async def _serve(self, down: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        taking = sorted(self.taking)
        try:
            port = taking[next(self._turns) % len(taking)]
            up, server = await asyncio.open_connection("127.0.0.1", port)
        except (OSError, ZeroDivisionError):
            client.close()
            return
        for reader, writer in ((down, server), (up, client)):
            self._open.add(writer)
            task = asyncio.create_task(self._pass_on(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        self._open.discard(writer)


async def _end(tasks: set[asyncio.Task[None]], writers: Iterable[asyncio.StreamWriter]) -> None:
    """Leave no connection behind."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)


async def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return (await reader.read()).startswith(b"HTTP/1.1 200 ")
            finally:
                writer.transport.abort()
    return False
