"""Obligations: which there are, when each is due, and that it was fulfilled.

What was raised is no record: it is found in the determinations, by a follower that reads them after
they were recorded, and can be found there again. What it found and how far it has come are written
in one transaction, and only by whoever began from where it stood: so nothing is passed over, and
nothing is counted from twice, whoever else is at it and wherever the work is cut off.

That one was fulfilled is a record, of the obligation as one determination raised it. It is looked up
when it is asked for, so who fulfils it sees that at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from app.determination.obligations import Raised, kept
from app.storage.ledger import Recorded, recorded
from app.storage.shadows import LIVE_WITHIN
from app.storage.tables import (
    determination,
    fulfilment,
    ledger_entry,
    obligation,
    obligation_position,
)


class Standing(Enum):
    """How an obligation stands, and what can be asked for: `outstanding` is open or overdue."""

    OPEN = "open"
    OVERDUE = "overdue"
    FULFILLED = "fulfilled"
    OUTSTANDING = "outstanding"


@dataclass(frozen=True, slots=True)
class Fulfilled:
    """The fulfilment of an obligation. `at` is the server's time of recording."""

    id: str
    by: str
    done_at: datetime
    at: datetime


@dataclass(frozen=True, slots=True)
class Followed:
    """An obligation as it was raised last, and its fulfilment since, if there is one.

    `raised_at`: the instant that the determination which raised it was about.
    """

    raised: Raised
    raised_at: datetime
    fulfilled: Fulfilled | None

    def standing(self, now: datetime) -> Standing:
        """How it stands at that instant; it is overdue from its due on."""
        if self.fulfilled is not None:
            return Standing.FULFILLED
        due = self.raised.due
        return Standing.OVERDUE if due is not None and due <= now else Standing.OPEN


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the order of dues a page ended: at that due (`None`: none), and that id."""

    due: datetime | None
    id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A determination, and the policy version that answered; `digest` is `None` where none was in
    force.
    """

    record: Recorded
    policy: str
    digest: str | None


# --- Reading -----------------------------------------------------------------------------------


async def position(connection: AsyncConnection) -> int:
    """Up to which ledger index determinations were read for obligations."""
    return (await connection.scalar(select(obligation_position.c.next))) or 0


async def followed(connection: AsyncConnection, id: str) -> Followed | None:
    """The obligation with that id."""
    row = (await connection.execute(_followed().where(obligation.c.id == id))).first()
    return None if row is None else _of_row(row)


async def by_due(
    connection: AsyncConnection,
    *,
    now: datetime,
    model: str | None = None,
    policy: str | None = None,
    standing: Standing | None = None,
    due_before: datetime | None = None,
    after: Place | None = None,
    limit: int,
) -> tuple[Followed, ...]:
    """The first *limit* obligations that fit, by due and then by id; those without a due come last.

    `standing` is that at *now*; `due_before` leaves out those without a due.
    """
    columns = obligation.c
    asked = _followed().order_by(columns.due.asc().nulls_last(), columns.id).limit(limit)
    if model is not None:
        asked = asked.where(columns.model == model)
    if policy is not None:
        asked = asked.where(columns.policy == policy)
    if due_before is not None:
        asked = asked.where(columns.due < due_before)
    if standing is not None:
        asked = asked.where(_stands(standing, now))
    if after is not None:
        asked = asked.where(_comes_after(after))
    return tuple(map(_of_row, await connection.execute(asked)))


async def count(connection: AsyncConnection, now: datetime) -> tuple[int, int]:
    """How many obligations are open, and how many are overdue."""
    columns = (
        func.count().filter(_stands(one, now)).label(one.value)
        for one in (Standing.OPEN, Standing.OVERDUE)
    )
    row = (await connection.execute(select(*columns).select_from(_with_fulfilment()))).one()
    return row.open, row.overdue


def _stands(standing: Standing, now: datetime) -> ColumnElement[bool]:
    outstanding = fulfilment.c.id.is_(None)
    match standing:
        case Standing.FULFILLED:
            return ~outstanding
        case Standing.OUTSTANDING:
            return outstanding
        case Standing.OVERDUE:
            return and_(outstanding, obligation.c.due <= now)
        case Standing.OPEN:
            return and_(outstanding, or_(obligation.c.due.is_(None), obligation.c.due > now))


def _comes_after(place: Place) -> ColumnElement[bool]:
    due, id = obligation.c.due, obligation.c.id
    if place.due is None:
        return and_(due.is_(None), id > place.id)
    return or_(due > place.due, and_(due == place.due, id > place.id), due.is_(None))


def _with_fulfilment() -> Any:
    since = and_(
        fulfilment.c.obligation_id == obligation.c.id,
        fulfilment.c.determination_id == obligation.c.determination_id,
    )
    return obligation.outerjoin(fulfilment, since)


def _followed() -> Select[Any]:
    raised = determination.c.id == obligation.c.determination_id
    return select(
        *obligation.c,
        determination.c.at.label("raised_at"),
        fulfilment.c.id.label("fulfilment"),
        fulfilment.c.by.label("fulfilled_by"),
        fulfilment.c.done_at,
        ledger_entry.c.at.label("fulfilled_at"),
    ).select_from(
        _with_fulfilment()
        .join(determination, raised)
        .outerjoin(ledger_entry, ledger_entry.c.index == fulfilment.c.index)
    )


def _of_row(row: Any) -> Followed:
    fulfilled = None
    if row.fulfilment is not None:
        fulfilled = Fulfilled(row.fulfilment, row.fulfilled_by, row.done_at, row.fulfilled_at)
    return Followed(_raised(row), row.raised_at, fulfilled)


# --- Following ---------------------------------------------------------------------------------


async def determinations_about_now(
    connection: AsyncConnection, *, first: int, before: int, limit: int
) -> tuple[Answered, ...]:
    """The next *limit* determinations that were about the time of their asking, from index *first*
    on. Those about the past, or with what was known in the past, raise nothing.
    """
    columns = determination.c
    asked = (
        select(*_RECORD, columns.policy, columns.policy_digest)
        .join(determination, columns.index == ledger_entry.c.index)
        .where(
            columns.index >= first,
            columns.index < before,
            ~columns.as_known,
            ledger_entry.c.at - columns.at < LIVE_WITHIN,
        )
        .order_by(columns.index)
        .limit(limit)
    )
    rows = (await connection.execute(asked)).mappings()
    return tuple(Answered(recorded(row), row["policy"], row["policy_digest"]) for row in rows)


async def advance(
    connection: AsyncConnection, first: int, end: int, raised: Iterable[Raised]
) -> int | None:
    """Keep what was *raised* between the two indexes, in the order of the ledger, where nobody has
    come further than *first* meanwhile. How many obligations are new, or have a new clock.

    `None`: somebody has come further, and nothing is kept. The caller commits.
    """
    # Whoever changes the row first goes on, and the others wait here until that is committed.
    moved = await connection.execute(
        update(obligation_position).where(obligation_position.c.next == first).values(next=end)
    )
    if not moved.rowcount:
        return None
    raised = list(raised)
    stood = await _raised_before(connection, {one.id for one in raised})
    stands: dict[str, Raised] = dict(stood)
    fulfilled = await _fulfilled(connection, stood)
    for one in raised:
        stands[one.id] = kept(stands.get(one.id), one, fulfilled.get(one.id))
        if stands[one.id] is one:
            # What was fulfilled is the one before.
            fulfilled.pop(one.id, None)
    if changed := [_row_of(one) for id, one in stands.items() if stood.get(id) is not one]:
        statement = postgresql.insert(obligation)
        known = {name: statement.excluded[name] for name in _CHANGES}
        statement = statement.on_conflict_do_update(index_elements=["id"], set_=known)
        await connection.execute(statement, changed)
    return len(changed)


async def _raised_before(connection: AsyncConnection, ids: set[str]) -> Mapping[str, Raised]:
    asked = select(obligation).where(obligation.c.id.in_(sorted(ids)))
    return {row.id: _raised(row) for row in await connection.execute(asked)}


async def _fulfilled(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, int]:
    """By obligation, at which index it was fulfilled as it was raised last."""
    asked = select(obligation.c.id, fulfilment.c.index.label("at")).select_from(_with_fulfilment())
    asked = asked.where(obligation.c.id.in_(sorted(ids)), fulfilment.c.index.is_not(None))
    return {row.id: row.at for row in await connection.execute(asked)}


def _raised(row: Any) -> Raised:
    return Raised(**{field: getattr(row, column) for field, column in _COLUMN_OF.items()})


def _row_of(raised: Raised) -> dict[str, Any]:
    return {column: getattr(raised, field) for field, column in _COLUMN_OF.items()}


_COLUMN_OF: Final = {
    field.name: field.name for field in fields(Raised) if field.name != "lacking"
} | {"determination": "determination_id"}

_NEVER_CHANGED: Final = frozenset({"id", "model", "policy", "name"})

_CHANGES: Final = tuple(name for name in _COLUMN_OF.values() if name not in _NEVER_CHANGED)
"""What another determination may say otherwise of the same obligation."""

_RECORD: Final = (
    ledger_entry.c.index,
    ledger_entry.c.kind,
    ledger_entry.c.subject,
    ledger_entry.c.document,
    ledger_entry.c.leaf_hash,
    ledger_entry.c.at,
)
