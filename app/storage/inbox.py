"""The inbox: what others have sent, kept until it was worked on.

A delivery is kept once, by its id. Whoever works on it has it on lease: no other process takes it while
the lease runs, and once that has run out, because the process died, the next one does. Only who took it
last says what became of it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.tables import inbox


class DeliveryState(Enum):
    """Whether it is still to be worked on, and how that ended."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What came. `id` is the sender's, or the digest of what tells it from others; `event` is what the
    sender calls it, where that does not stand in the body.
    """

    binding: str
    id: str
    event: str
    received_at: datetime
    body_sha256: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that somebody works on; `attempts`: which time that is, from 1 on."""

    binding: str
    id: str
    event: str
    received_at: datetime
    body_sha256: bytes
    body: bytes
    attempts: int


@dataclass(frozen=True, slots=True)
class DeliveryStanding:
    """A delivery as it is listed, without its body."""

    binding: str
    id: str
    event: str
    received_at: datetime
    body_sha256: bytes
    state: DeliveryState
    attempts: int
    not_before: datetime
    finished_at: datetime | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class DeliveryPlace:
    """Where in a list, newest first, a page ended."""

    received_at: datetime
    id: str


async def keep(connection: AsyncConnection, delivery: NewDelivery) -> bool:
    """Keep it, unless one of its id is there. Whether it is new. The caller commits."""
    values = {
        "binding": delivery.binding,
        "delivery_id": delivery.id,
        "event": delivery.event,
        "received_at": delivery.received_at,
        "body_sha256": delivery.body_sha256,
        "body": delivery.body,
    }
    kept = postgresql.insert(inbox).values(values).on_conflict_do_nothing()
    return bool((await connection.execute(kept)).rowcount)


async def waiting(connection: AsyncConnection, binding: str, *, at_most: int) -> int:
    """How many deliveries to that binding wait; it is not counted beyond *at_most*."""
    found = (
        select(inbox.c.binding)
        .where(inbox.c.binding == binding, inbox.c.state == DeliveryState.WAITING.value)
        .limit(at_most)
        .subquery()
    )
    return (await connection.scalar(select(func.count()).select_from(found))) or 0


async def counts(connection: AsyncConnection, bindings: Collection[str]) -> dict[str, int]:
    """How many deliveries to these bindings wait, and how many have failed."""
    states = (DeliveryState.WAITING.value, DeliveryState.FAILED.value)
    asked = (
        select(inbox.c.state, func.count().label("number"))
        .where(inbox.c.binding.in_(sorted(bindings)), inbox.c.state.in_(states))
        .group_by(inbox.c.state)
    )
    found = {row.state: row.number for row in await connection.execute(asked)}
    return dict.fromkeys(states, 0) | found


async def claim(
    connection: AsyncConnection, bindings: Collection[str], lease: timedelta
) -> Claimed | None:
    """Take the next delivery to one of *bindings* for as long as the *lease* runs; `None`: none is due.

    By the database's clock, for those of several servers differ. The caller commits.
    """
    due = (
        select(inbox.c.binding, inbox.c.delivery_id)
        .where(
            inbox.c.state == DeliveryState.WAITING.value,
            inbox.c.binding.in_(sorted(bindings)),
            inbox.c.not_before <= func.now(),
        )
        .order_by(inbox.c.not_before)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    taken = (
        update(inbox)
        .where(inbox.c.binding == due.c.binding, inbox.c.delivery_id == due.c.delivery_id)
        .values(attempts=inbox.c.attempts + 1, not_before=func.now() + lease)
        .returning(
            inbox.c.binding,
            inbox.c.delivery_id,
            inbox.c.event,
            inbox.c.received_at,
            inbox.c.body_sha256,
            inbox.c.body,
            inbox.c.attempts,
        )
    )
    row = (await connection.execute(taken)).first()
    return None if row is None else Claimed(*row)


async def finish(
    connection: AsyncConnection, claimed: Claimed, state: DeliveryState, outcome: str
) -> bool:
    """Say what became of it. `False`: somebody else has taken it since. The caller commits."""
    said: dict[str, Any] = {"state": state.value, "finished_at": func.now(), "outcome": outcome}
    return await _of(connection, claimed, said)


async def put_back(
    connection: AsyncConnection, claimed: Claimed, after: timedelta, outcome: str
) -> bool:
    """Let it be tried again after a while, and say why. As `finish`."""
    said = {"not_before": func.now() + after, "outcome": outcome}
    return await _of(connection, claimed, said)


async def _of(connection: AsyncConnection, claimed: Claimed, said: dict[str, Any]) -> bool:
    changed = (
        update(inbox)
        .where(
            inbox.c.binding == claimed.binding,
            inbox.c.delivery_id == claimed.id,
            inbox.c.state == DeliveryState.WAITING.value,
            inbox.c.attempts == claimed.attempts,
        )
        .values(said)
    )
    return bool((await connection.execute(changed)).rowcount)


async def drop_bodies(connection: AsyncConnection, older_than: timedelta) -> int:
    """Let go of the bodies of what was finished so long ago; how many. The caller commits."""
    dropped = (
        update(inbox)
        .where(
            inbox.c.body.is_not(None),
            inbox.c.finished_at.is_not(None),
            inbox.c.finished_at < func.now() - older_than,
        )
        .values(body=None)
    )
    return (await connection.execute(dropped)).rowcount


_LISTED: Final = (
    inbox.c.binding,
    inbox.c.delivery_id,
    inbox.c.event,
    inbox.c.received_at,
    inbox.c.body_sha256,
    inbox.c.state,
    inbox.c.attempts,
    inbox.c.not_before,
    inbox.c.finished_at,
    inbox.c.outcome,
)


async def newest(
    connection: AsyncConnection,
    binding: str,
    *,
    state: DeliveryState | None = None,
    before: DeliveryPlace | None = None,
    limit: int,
) -> tuple[DeliveryStanding, ...]:
    """The newest *limit* deliveries to that binding, from below that place on."""
    asked = select(*_LISTED).where(inbox.c.binding == binding)
    if state is not None:
        asked = asked.where(inbox.c.state == state.value)
    if before is not None:
        place = tuple_(inbox.c.received_at, inbox.c.delivery_id)
        asked = asked.where(place < tuple_(before.received_at, before.id))
    asked = asked.order_by(inbox.c.received_at.desc(), inbox.c.delivery_id.desc()).limit(limit)
    return tuple(
        DeliveryStanding(
            binding=row.binding,
            id=row.delivery_id,
            event=row.event,
            received_at=row.received_at,
            body_sha256=row.body_sha256,
            state=DeliveryState(row.state),
            attempts=row.attempts,
            not_before=row.not_before,
            finished_at=row.finished_at,
            outcome=row.outcome,
        )
        for row in await connection.execute(asked)
    )
