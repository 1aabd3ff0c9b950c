"""Shadows: how far each has come, what it has counted, and the differences that it found.

None of it is a record: what a shadow says can be found out again from the ledger. Its row and its
differences are written in one transaction, and only by whoever began from where the row still
stands. So each question is counted once, whoever else is at it, and wherever the work is cut off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, insert, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from app.determination.backtest import Difference, Summary
from app.ledger.entry import Kind
from app.storage.ledger import Recorded, recorded
from app.storage.tables import (
    determination,
    gate,
    ledger_entry,
    policy_shadow,
    shadow_difference,
)

LIVE_WITHIN: Final = timedelta(minutes=1)
"""A question is live that is about an instant so shortly before its answer was recorded: longer than
a request may take, and any clock of a server may be off.
"""


@dataclass(frozen=True, slots=True)
class Stopped:
    """When a shadow ended and why; `by` is `None` where it did so by itself."""

    at: datetime
    by: str | None
    because: str | None


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that is decided beside the one in force, on what is recorded from index `first` on.

    Everything below index `next` has been looked at: `past` questions that were not live, and what
    the summary counts. `stopped`: `None` while it runs.
    """

    id: str
    policy: str
    version: str
    digest: str
    started_at: datetime
    started_by: str
    reason: str | None
    first: int
    next: int
    past: int
    summary: Summary
    stopped: Stopped | None


@dataclass(frozen=True, slots=True)
class LiveQuestion:
    """A determination, or a gate, that was recorded; `live`: it was about the time of its asking."""

    record: Recorded
    live: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A difference, with the index of what it differs from."""

    index: int
    difference: Difference


async def start(connection: AsyncConnection, shadow: Shadow) -> None:
    """Let it begin, unless one of that version runs already. The caller commits."""
    await connection.execute(
        postgresql.insert(policy_shadow)
        .values(
            id=shadow.id,
            policy=shadow.policy,
            version=shadow.version,
            digest=shadow.digest,
            started_at=shadow.started_at,
            started_by=shadow.started_by,
            reason=shadow.reason,
            first=shadow.first,
            next=shadow.next,
            past=shadow.past,
            summary=shadow.summary.model_dump_json(),
        )
        .on_conflict_do_nothing()
    )


async def latest(connection: AsyncConnection, digest: str) -> Shadow | None:
    """The shadow of that version that runs; where none does, the one that was begun last."""
    columns = policy_shadow.c
    asked = (
        select(policy_shadow)
        .where(columns.digest == digest)
        .order_by(columns.stopped_at.is_(None).desc(), columns.id.desc())
        .limit(1)
    )
    row = (await connection.execute(asked)).first()
    return None if row is None else _shadow(row)


async def running(connection: AsyncConnection) -> tuple[Shadow, ...]:
    """All that run, in the order in which they were begun."""
    columns = policy_shadow.c
    asked = select(policy_shadow).where(columns.stopped_at.is_(None)).order_by(columns.id)
    return tuple(map(_shadow, await connection.execute(asked)))


async def stop(connection: AsyncConnection, id: str, stopped: Stopped) -> None:
    """Let it end where it stands; again is no error. The caller commits."""
    await connection.execute(
        update(policy_shadow)
        .where(policy_shadow.c.id == id, policy_shadow.c.stopped_at.is_(None))
        .values(_stopped(stopped))
    )


async def advance(
    connection: AsyncConnection, before: Shadow, after: Shadow, found: Sequence[Found]
) -> bool:
    """Keep what was found between the two, where the shadow still stands as it did *before*.

    `False`: somebody else went on with it, or stopped it, and nothing is kept. The caller commits.
    """
    values: dict[str, Any] = {
        "next": after.next,
        "past": after.past,
        "summary": after.summary.model_dump_json(),
    }
    if after.stopped is not None:
        values |= _stopped(after.stopped)
    moved = await connection.execute(
        update(policy_shadow)
        .where(
            policy_shadow.c.id == before.id,
            policy_shadow.c.next == before.next,
            policy_shadow.c.stopped_at.is_(None),
        )
        .values(values)
    )
    if not moved.rowcount:
        return False
    if found:
        rows = [
            {
                "shadow": before.id,
                "index": one.index,
                "difference": one.difference.model_dump_json(by_alias=True, exclude_unset=True),
            }
            for one in found
        ]
        await connection.execute(insert(shadow_difference), rows)
    return True


async def differences(
    connection: AsyncConnection, id: str, *, before: int | None, limit: int
) -> tuple[tuple[int, str], ...]:
    """The last *limit* differences of a shadow with their indexes, newest first; `before`: of a
    smaller index. Each is the JSON of a `Difference`.
    """
    columns = shadow_difference.c
    asked = (
        select(columns.index, columns.difference)
        .where(columns.shadow == id)
        .order_by(columns.index.desc())
        .limit(limit)
    )
    if before is not None:
        asked = asked.where(columns.index < before)
    return tuple((row[0], row[1]) for row in await connection.execute(asked))


async def questions(
    connection: AsyncConnection, policy: str, *, first: int, before: int, limit: int
) -> tuple[LiveQuestion, ...]:
    """The next *limit* of all determinations under *policy* and all gates, from index *first* on."""
    answered = (
        select(*_RECORD, determination.c.at.label("asked_at"), determination.c.as_known)
        .join(determination, determination.c.index == ledger_entry.c.index)
        .where(determination.c.policy == policy)
    )
    gates = select(*_RECORD).join(gate, gate.c.index == ledger_entry.c.index)
    rows = [
        *await _page(connection, answered, determination.c.index, first, before, limit),
        *await _page(connection, gates, gate.c.index, first, before, limit),
    ]
    rows.sort(key=lambda row: row["index"])
    return tuple(LiveQuestion(recorded(row), _is_live(row)) for row in rows[:limit])


async def _page(
    connection: AsyncConnection, asked: Select[Any], index: Any, first: int, before: int, limit: int
) -> Sequence[Any]:
    page = asked.where(index >= first, index < before).order_by(index).limit(limit)
    rows: Sequence[Any] = (await connection.execute(page)).mappings().all()
    return rows


def _is_live(row: Any) -> bool:
    if row["kind"] == Kind.GATE.value:
        return True
    return not row["as_known"] and row["at"] - row["asked_at"] < LIVE_WITHIN


_RECORD: Final = (
    ledger_entry.c.index,
    ledger_entry.c.kind,
    ledger_entry.c.subject,
    ledger_entry.c.document,
    ledger_entry.c.leaf_hash,
    ledger_entry.c.at,
)


def _stopped(stopped: Stopped) -> dict[str, Any]:
    return {
        "stopped_at": stopped.at,
        "stopped_by": stopped.by,
        "stopped_because": stopped.because,
    }


def _shadow(row: Any) -> Shadow:
    stopped = Stopped(row.stopped_at, row.stopped_by, row.stopped_because)
    return Shadow(
        id=row.id,
        policy=row.policy,
        version=row.version,
        digest=row.digest,
        started_at=row.started_at,
        started_by=row.started_by,
        reason=row.reason,
        first=row.first,
        next=row.next,
        past=row.past,
        summary=Summary.model_validate_json(row.summary),
        stopped=None if row.stopped_at is None else stopped,
    )
