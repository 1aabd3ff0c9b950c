"""Long computations take turns, so that a few of them keep nobody from being answered; and so does
what anyone may ask.

They record nothing and hold no lock; what they use up is the processor, and readers of the database,
which every gate needs.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from app.errors import Unavailable
from app.storage.database import READERS

MOST_WAITING: Final = 8
PATIENCE_SECONDS: Final = 2.0
PUBLIC_AT_ONCE: Final = READERS // 2


class Queue:
    """So many of one kind at once, in this process; so many more wait, and not for long."""

    def __init__(
        self,
        at_once: int = 2,
        *,
        most_waiting: int = MOST_WAITING,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._most_waiting = most_waiting
        self._patience = patience_seconds
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Have a turn while the block lasts. Raises `Unavailable`: `busy`."""
        if self._free.locked() and self._waiting >= self._most_waiting:
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


def _busy() -> Unavailable:
    return Unavailable("busy", "as many of these as may run at once are under way; ask again")


@dataclass(frozen=True, slots=True)
class Turns:
    """A queue for each kind of long computation; what comes to be asked often has its own."""

    backtests: Queue = field(default_factory=Queue)
    explanations: Queue = field(default_factory=Queue)
    """Explanations, what would settle an answer, what changed between two versions,
    replays, and searches for what would be allowed."""
    public: Queue = field(default_factory=lambda: Queue(PUBLIC_AT_ONCE, most_waiting=64))
    """What is read without a key: it leaves readers of the database to those who have one."""
