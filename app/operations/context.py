"""What every operation is given: who asks, when, and where records are kept."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from uuid_utils import uuid7

from app.ledger.entry import Kind
from app.storage.ledger import Draft, IdempotencyKey, ModelRow, Moment, Stale
from app.storage.store import Store

ATTEMPTS: Final = 3
"""How often something is decided anew because what it rested on moved, before it is refused."""


NO_VERSION: Final = -1
"""A version that no stream has: what rests on it can only be answered by a replay of its key."""


@dataclass(frozen=True, slots=True)
class Context:
    """One request: the store, the caller's key id, the server's time, and the idempotency key."""

    store: Store
    actor: str
    now: datetime
    key: IdempotencyKey | None = None
    clock: Callable[[], datetime] | None = None
    """Tells the time anew, for what has to be decided anew."""

    def renewed(self) -> "Context":
        """The request as of now: what was recorded while it waited has begun by then."""
        return self if self.clock is None else replace(self, now=self.clock())


def new_id(prefix: str) -> str:
    """A UUIDv7 with a prefix, e.g. `det_…`: unique, and sorted by time of making."""
    return f"{prefix}_{uuid7().hex}"


async def refuse_reused_key(context: Context) -> None:
    """For an operation that finds its result recorded already: raise `IdempotencyKeyReused` where
    the request's key came before with another request.
    """
    if context.key is None:
        return

    def never(_: Moment) -> bytes:
        raise AssertionError("it rests on what no stream has, so it is never built")

    draft = Draft(Kind.MODEL, "", ModelRow("", ""), never)
    with suppress(Stale):
        await context.store.ledger.append(
            [draft], actor=context.actor, rests_on={"": NO_VERSION}, touches=(), key=context.key
        )
