"""What follows the ledger beside the requests, turn by turn, for as long as the process runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from app.errors import Unavailable

IDLE_SECONDS: Final = 1.0
"""How often it is looked for more to do."""

PAGE_PAUSE_SECONDS: Final = 0.02
"""How long the database has its peace between two turns."""

SHARE: Final = 0.1
"""How much of a core it may take: what a caller waits for longer is as much of an answer."""

MOST_PATIENCE_SECONDS: Final = 30.0
"""How long at most is waited before a database that failed is asked again."""


async def follow(
    turn: Callable[[], Awaitable[bool]], log: logging.Logger, who: str, *, idle: float, pause: float
) -> None:
    """Take one turn after another until cancelled: at once where one says that there is more to do.

    Nothing that goes wrong ends this; a database is given time.
    """
    patience = idle
    while True:
        try:
            more = await turn()
        except Unavailable:
            patience = min(2 * patience, MOST_PATIENCE_SECONDS)
        except Exception:
            # Nobody else tries again: all of it would stand still until the next start.
            log.exception("%s cannot go on now", who)
            patience = min(2 * patience, MOST_PATIENCE_SECONDS)
        else:
            patience = idle
            if more:
                await asyncio.sleep(pause)
                continue
        await asyncio.sleep(patience)
