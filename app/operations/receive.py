"""Receive what others send, and work on it later.

A webhook's sender waits for seconds at most and may never send again, so a delivery is kept, answered,
and worked on after that. What it says carries no authority: it is a hint to look, and what is made of it
is recorded by operations, under the binding's name.

Each delivery is worked on at least once, and its idempotency key is the delivery: whatever is recorded
for it is recorded once, however often the work is cut off.
"""

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

import httpx

from app.errors import InvalidParameter, NotFound, Refusal, Unavailable
from app.integrations.bindings import Binding, Bindings
from app.operations.context import Context
from app.operations.following import IDLE_SECONDS, follow
from app.operations.turns import Turns
from app.storage import inbox
from app.storage.inbox import Claimed, DeliveryPlace, DeliveryStanding, DeliveryState, NewDelivery
from app.storage.ledger import IdempotencyKey
from app.storage.store import Store
from app.vocabulary import Document, Instant

Delivery: TypeAlias = Claimed
"""What came, as its handler is given it."""

Handler: TypeAlias = Callable[[Context, Binding, Delivery], Awaitable[str]]
"""Works on a delivery through operations, and says in a sentence what became of it.

It may be called again for the same delivery. What it raises is told: of `Unavailable`, of what cannot
be reached and of faults of ours it is tried again; any other refusal is the end of it.
"""

MOST_WAITING: Final = 10_000
"""How many deliveries to one binding may wait; the next is refused, and is sent again."""

MOST_ATTEMPTS: Final = 12
FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(hours=1)
"""Each pause is twice that before: all attempts together take some four hours."""

WORK_SECONDS: Final = 30.0
LEASE: Final = timedelta(seconds=60)
"""How long the others leave a delivery to who took it: longer than it may work on it."""

AT_ONCE: Final = 2
"""How many deliveries one process works on at once."""

BODIES_KEPT: Final = timedelta(days=7)
TIDY_SECONDS: Final = 600.0
COUNT_SECONDS: Final = 10.0

_MOST_NAME: Final = 200
_MOST_OUTCOME: Final = 500

_log: Final = logging.getLogger("aslgate.inbox")


async def receive(
    context: Context, binding: Binding, *, id: str | None, event: str = "", body: bytes
) -> bool:
    """Keep a delivery that was seen to be its sender's; whether it is new. It is durable then.

    `id` is the sender's own; where it gives none, the digest of the body is taken. Raises
    `InvalidParameter` for an id that cannot be kept, and `Unavailable`, also where too many wait.
    """
    digest = hashlib.sha256(body).digest()
    delivery_id = id or f"sha256:{digest.hex()}"
    _refuse_unusable("delivery id", delivery_id)
    _refuse_unusable("event", event)
    delivery = NewDelivery(binding.name, delivery_id, event, context.now, digest, body)
    async with context.store.working() as connection:
        if not await inbox.keep(connection, delivery):
            return False
        if await inbox.waiting(connection, binding.name, at_most=MOST_WAITING + 1) > MOST_WAITING:
            raise Unavailable(
                "inbox-full", "too many deliveries to this binding wait; send it again"
            )
    return True


def _refuse_unusable(name: str, said: str) -> None:
    if len(said) > _MOST_NAME or not (said.isascii() and said.isprintable()):
        raise InvalidParameter(name, f"must be at most {_MOST_NAME} printable ASCII characters")


def step(context: Context, name: str) -> Context:
    """The context of one of several things that are recorded for a delivery, with a key of its own."""
    key = context.key
    assert key is not None, "who works on a delivery has its key"
    of_step = hashlib.sha256(key.key_sha256 + name.encode()).digest()
    return replace(context, key=replace(key, key_sha256=of_step))


# --- What can be asked -------------------------------------------------------------------------


class DeliveryStatus(Document):
    """A delivery, and what became of it. `attempts` counts how often it was worked on; `outcome` is what
    was said of the last time.
    """

    id: str
    event: str
    received_at: Instant
    sha256: str
    state: Literal["waiting", "done", "failed"]
    attempts: int
    not_before: Instant | None
    finished_at: Instant | None
    outcome: str | None


async def list_deliveries(
    context: Context,
    bindings: Bindings,
    name: str,
    *,
    state: DeliveryState | None,
    before: DeliveryPlace | None,
    limit: int,
) -> tuple[tuple[DeliveryStatus, ...], DeliveryPlace | None]:
    """The newest *limit* deliveries to the binding of that name, and where the page ended if there are
    more. Raises `NotFound`.
    """
    if bindings.named(name) is None:
        raise NotFound("binding", name)
    async with context.store.reading() as connection:
        found = await inbox.newest(connection, name, state=state, before=before, limit=limit + 1)
    page = found[:limit]
    more = len(found) > limit
    return (
        tuple(_status(one) for one in page),
        DeliveryPlace(page[-1].received_at, page[-1].id) if more else None,
    )


def _status(one: DeliveryStanding) -> DeliveryStatus:
    waits = one.state is DeliveryState.WAITING
    return DeliveryStatus(
        id=one.id,
        event=one.event,
        received_at=one.received_at,
        sha256=one.body_sha256.hex(),
        state=one.state.value,
        attempts=one.attempts,
        not_before=one.not_before if waits else None,
        finished_at=one.finished_at,
        outcome=one.outcome,
    )


# --- The work ----------------------------------------------------------------------------------


class Inbox:
    """Works on deliveries, as far as this process does it. One task runs it.

    `handlers`: by system, who works on what comes from it. For whoever watches: how many deliveries are
    `waiting` and have `failed`, as last seen here.
    """

    def __init__(
        self,
        store: Store,
        bindings: Bindings,
        handlers: Mapping[str, Handler],
        clock: Callable[[], datetime],
        turns: Turns,
    ) -> None:
        self._store = store
        self._bindings = {one.name: one for one in bindings if one.system in handlers}
        self._handlers = handlers
        self._clock = clock
        self._turns = turns
        self._counted_at = self._tidied_at = float("-inf")
        self.waiting = 0
        self.failed = 0

    async def run(self) -> None:
        """Go on until cancelled. Nothing that goes wrong ends this; a database is given time."""
        if not self._bindings:
            return
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(follow(self.turn, _log, "inbox", idle=IDLE_SECONDS, pause=0))

    async def turn(self) -> bool:
        """Work on the next delivery. Whether there was one."""
        await self._look_after()
        async with self._store.working() as connection:
            claimed = await inbox.claim(connection, self._bindings, LEASE)
        if claimed is None:
            return False
        await self._work(claimed)
        return True

    async def _work(self, claimed: Claimed) -> None:
        binding = self._bindings[claimed.binding]
        try:
            async with asyncio.timeout(WORK_SECONDS):
                handler = self._handlers[binding.system]
                outcome = await handler(self._context(binding, claimed), binding, claimed)
        except (Unavailable, httpx.HTTPError, OSError, TimeoutError) as error:
            await self._again(claimed, _sentence(error))
        except Refusal as refusal:
            await self._end(claimed, DeliveryState.FAILED, str(refusal))
        except Exception:  # noqa: BLE001 - whatever it is, it is logged, and we go on
            _log.exception("delivery `%s` to `%s` failed here", claimed.id, claimed.binding)
            await self._again(claimed, "it failed on our side; the log says how")
        else:
            await self._end(claimed, DeliveryState.DONE, outcome)

    def _context(self, binding: Binding, claimed: Claimed) -> Context:
        named = hashlib.sha256(f"delivery\n{claimed.binding}\n{claimed.id}".encode()).digest()
        key = IdempotencyKey(binding.actor, named, claimed.body_sha256)
        return Context(self._store, binding.actor, self._clock(), key, self._clock, self._turns)

    async def _again(self, claimed: Claimed, why: str) -> None:
        if claimed.attempts >= MOST_ATTEMPTS:
            said = f"given up after {claimed.attempts} attempts: {why}"
            await self._end(claimed, DeliveryState.FAILED, said)
            return
        pause = min(FIRST_PAUSE * 2 ** (claimed.attempts - 1), LONGEST_PAUSE)
        # Spread, so that what failed together does not come back together.
        pause *= random.uniform(0.8, 1.2)  # noqa: S311
        async with self._store.working() as connection:
            await inbox.put_back(connection, claimed, pause, why[:_MOST_OUTCOME])

    async def _end(self, claimed: Claimed, state: DeliveryState, outcome: str) -> None:
        async with self._store.working() as connection:
            await inbox.finish(connection, claimed, state, outcome[:_MOST_OUTCOME])
        if state is DeliveryState.FAILED:
            _log.warning("delivery `%s` to `%s` failed: %s", claimed.id, claimed.binding, outcome)

    async def _look_after(self) -> None:
        """Count now and then what waits, and let go of old bodies."""
        now = time.monotonic()
        if now - self._counted_at >= COUNT_SECONDS:
            self._counted_at = now
            async with self._store.reading() as connection:
                found = await inbox.counts(connection, self._bindings)
            self.waiting, self.failed = found["waiting"], found["failed"]
        if now - self._tidied_at >= TIDY_SECONDS:
            self._tidied_at = now
            async with self._store.working() as connection:
                await inbox.drop_bodies(connection, BODIES_KEPT)


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
