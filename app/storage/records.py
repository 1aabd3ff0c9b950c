"""What was recorded, read back as the bytes that it was recorded as.

Every function reads on a connection from `Database.reading`, on which all reads see one snapshot:
what two of them say agrees, and agrees with the ledger size and stream versions read beside it.
`known_at` is a ledger size: what had been recorded when the ledger held so many entries.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Select, Table, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ledger.entry import Kind
from app.storage.ledger import Recorded, recorded
from app.storage.tables import (
    determination,
    evidence,
    exception_approval,
    fulfilment,
    gate,
    ledger_entry,
    ledger_head,
    lifting,
    model_version,
    policy_activation,
    policy_approval,
    policy_version,
    stream,
    withdrawal,
)


@dataclass(frozen=True, slots=True)
class EvidenceRecorded:
    """A recorded piece of evidence on a model.

    `by`: who recorded it. `speaks_for`: from when on what it says holds. `withdrawn`: the index of
    the entry that withdrew it; `None`: it counts.
    """

    record: Recorded
    by: str
    model: str
    policy: str | None
    speaks_for: datetime
    withdrawn: int | None


_STRICTNESS = case(
    {"deny": 2, "allow_with_conditions": 1}, value=determination.c.decision, else_=0
).label("strictness")

_RECORD = (
    ledger_entry.c.index,
    ledger_entry.c.kind,
    ledger_entry.c.subject,
    ledger_entry.c.document,
    ledger_entry.c.leaf_hash,
    ledger_entry.c.at,
)


async def ledger_size(connection: AsyncConnection) -> int:
    """How many entries the ledger has."""
    return (await connection.scalar(select(ledger_head.c.size))) or 0


async def stream_versions(connection: AsyncConnection, names: Iterable[str]) -> dict[str, int]:
    """The version of each named stream; 0 where nothing ever touched it."""
    asked = sorted(set(names))
    rows = await connection.execute(
        select(stream.c.name, stream.c.version).where(stream.c.name.in_(asked))
    )
    return dict.fromkeys(asked, 0) | {row.name: row.version for row in rows}


async def record_of(connection: AsyncConnection, subject: str) -> Recorded | None:
    """What is recorded under that id or name."""
    return await _first(connection, select(*_RECORD).where(ledger_entry.c.subject == subject))


async def records_of(connection: AsyncConnection, subjects: Iterable[str]) -> dict[str, Recorded]:
    """By id, what is recorded under each of those ids; one that is not recorded is left out."""
    found: dict[str, Recorded] = {}
    for some in _some_at_a_time(sorted(set(subjects))):
        asked = select(*_RECORD).where(ledger_entry.c.subject.in_(some))
        found |= {record.subject: record for record in await _all(connection, asked)}
    return found


async def record_at(connection: AsyncConnection, index: int) -> Recorded | None:
    """What the entry with that index records."""
    return await _first(connection, select(*_RECORD).where(ledger_entry.c.index == index))


async def records_from(connection: AsyncConnection, first: int, limit: int) -> tuple[Recorded, ...]:
    """What the next *limit* entries record, from index *first* on."""
    return await _all(
        connection,
        select(*_RECORD)
        .where(ledger_entry.c.index >= first)
        .order_by(ledger_entry.c.index)
        .limit(limit),
    )


_ANSWERS: Final = (Kind.DETERMINATION.value, Kind.GATE.value)


async def count_answers(connection: AsyncConnection, size: int) -> int:
    """How many determinations and gates a ledger of that size holds."""
    counted = 0
    for table in (determination, gate):
        asked = select(func.count()).select_from(table).where(table.c.index < size)
        counted += (await connection.scalar(asked)) or 0
    return counted


async def answers_from(
    connection: AsyncConnection, first: int, size: int, limit: int
) -> tuple[Recorded, ...]:
    """The next *limit* determinations and gates, from index *first* on to before *size*."""
    return await _all(
        connection,
        select(*_RECORD)
        .where(
            ledger_entry.c.index >= first,
            ledger_entry.c.index < size,
            ledger_entry.c.kind.in_(_ANSWERS),
        )
        .order_by(ledger_entry.c.index)
        .limit(limit),
    )


async def entries_from(
    connection: AsyncConnection, first: int, limit: int
) -> tuple[tuple[int, bytes, bytes], ...]:
    """Index, entry and leaf hash of the next *limit* entries, from index *first* on."""
    rows = await connection.execute(
        select(ledger_entry.c.index, ledger_entry.c.entry, ledger_entry.c.leaf_hash)
        .where(ledger_entry.c.index >= first)
        .order_by(ledger_entry.c.index)
        .limit(limit)
    )
    return tuple((index, entry, leaf_hash) for index, entry, leaf_hash in rows)


async def entries_at(connection: AsyncConnection, indexes: Iterable[int]) -> dict[int, bytes]:
    """By index, the entry at each of those indexes."""
    found: dict[int, bytes] = {}
    for some in _some_at_a_time(sorted(set(indexes))):
        asked = select(ledger_entry.c.index, ledger_entry.c.entry)
        rows = await connection.execute(asked.where(ledger_entry.c.index.in_(some)))
        found |= {index: bytes(entry) for index, entry in rows}
    return found


async def policy_records(
    connection: AsyncConnection, policy: str | None = None, *, known_at: int | None = None
) -> tuple[Recorded, ...]:
    """The versions of *policy*, or of every policy, in the order of recording."""
    asked = (
        select(*_RECORD)
        .join(policy_version, policy_version.c.index == ledger_entry.c.index)
        .order_by(policy_version.c.index)
    )
    if policy is not None:
        asked = asked.where(policy_version.c.policy == policy)
    if known_at is not None:
        asked = asked.where(policy_version.c.index < known_at)
    return await _all(connection, asked)


async def policy_authors(connection: AsyncConnection, policy: str) -> dict[str, str]:
    """By digest, who recorded each version of *policy*."""
    rows = await connection.execute(
        select(policy_version.c.digest, ledger_entry.c.actor)
        .join(ledger_entry, policy_version.c.index == ledger_entry.c.index)
        .where(policy_version.c.policy == policy)
    )
    return {row.digest: row.actor for row in rows}


async def policy_approvals(
    connection: AsyncConnection, policy: str, *, known_at: int | None = None
) -> tuple[Recorded, ...]:
    """The approvals of all versions of *policy*, in the order of recording."""
    asked = (
        select(*_RECORD)
        .join(policy_approval, policy_approval.c.index == ledger_entry.c.index)
        .where(policy_approval.c.policy == policy)
        .order_by(policy_approval.c.index)
    )
    if known_at is not None:
        asked = asked.where(policy_approval.c.index < known_at)
    return await _all(connection, asked)


async def policy_activations(
    connection: AsyncConnection,
    policies: Iterable[str] | None = None,
    *,
    known_at: int | None = None,
) -> tuple[Recorded, ...]:
    """The activations of all versions of those policies, or of all, in the order of recording."""
    asked = (
        select(*_RECORD)
        .join(policy_activation, policy_activation.c.index == ledger_entry.c.index)
        .order_by(policy_activation.c.index)
    )
    if policies is not None:
        asked = asked.where(policy_activation.c.policy.in_(sorted(set(policies))))
    if known_at is not None:
        asked = asked.where(policy_activation.c.index < known_at)
    return await _all(connection, asked)


async def model_record(
    connection: AsyncConnection, model: str, *, known_at: int | None = None
) -> Recorded | None:
    """The registration of `name@version`."""
    asked = (
        select(*_RECORD)
        .join(model_version, model_version.c.index == ledger_entry.c.index)
        .where(model_version.c.model == model)
    )
    if known_at is not None:
        asked = asked.where(model_version.c.index < known_at)
    return await _first(connection, asked)


async def models_from(connection: AsyncConnection, first: int, limit: int) -> list[tuple[int, str]]:
    """The first model versions registered from that ledger index on, each behind its own."""
    asked = (
        select(model_version.c.index, model_version.c.model)
        .where(model_version.c.index >= first)
        .order_by(model_version.c.index)
        .limit(limit)
    )
    return [(index, model) for index, model in await connection.execute(asked)]


async def models_with(connection: AsyncConnection, weights: str) -> tuple[Recorded, ...]:
    """The registrations with those weights, in the order of recording."""
    asked = (
        select(*_RECORD)
        .join(model_version, model_version.c.index == ledger_entry.c.index)
        .where(model_version.c.weights == weights)
        .order_by(model_version.c.index)
    )
    return await _all(connection, asked)


async def evidence_on(
    connection: AsyncConnection,
    model: str,
    *,
    weights: str | None = None,
    known_at: int | None = None,
) -> tuple[EvidenceRecorded, ...]:
    """All evidence on *model* in the order of recording, withdrawn pieces included; with *weights*
    also the assessments of every model version that serves these.
    """
    on_it = evidence.c.model == model
    if weights is not None:
        # Two statements: of one with a subquery the planner makes a walk through all evidence.
        same = await connection.scalars(
            select(model_version.c.model).where(model_version.c.weights == weights)
        )
        assessed = and_(
            evidence.c.model.in_(sorted(same)), evidence.c.kind == Kind.ASSESSMENT.value
        )
        on_it = or_(on_it, assessed)
    asked = _evidence(known_at).where(on_it).order_by(evidence.c.index)
    rows = (await connection.execute(asked)).mappings().all()
    return tuple(map(_evidence_recorded, rows))


async def approvals_on(
    connection: AsyncConnection, model: str, *, known_at: int | None = None
) -> dict[str, tuple[Recorded, ...]]:
    """By exception, the approvals of each exception on *model*, in the order of recording."""
    return await _by_what(connection, exception_approval, "exception_id", model, known_at)


async def liftings_on(
    connection: AsyncConnection, model: str, *, known_at: int | None = None
) -> dict[str, tuple[Recorded, ...]]:
    """By order, the lifting of each order on *model* that was lifted."""
    return await _by_what(connection, lifting, "order_id", model, known_at)


async def fulfilments_on(
    connection: AsyncConnection, model: str, *, known_at: int | None = None
) -> tuple[Recorded, ...]:
    """The fulfilments of obligations on *model*, in the order of recording."""
    asked = (
        select(*_RECORD)
        .join(fulfilment, fulfilment.c.index == ledger_entry.c.index)
        .where(fulfilment.c.model == model)
        .order_by(fulfilment.c.index)
    )
    if known_at is not None:
        asked = asked.where(fulfilment.c.index < known_at)
    return await _all(connection, asked)


async def activated_policies(
    connection: AsyncConnection, *, known_at: int | None = None
) -> tuple[str, ...]:
    """The policies of which a version was ever activated, by name."""
    asked = select(policy_activation.c.policy).distinct()
    if known_at is not None:
        asked = asked.where(policy_activation.c.index < known_at)
    return tuple(sorted(await connection.scalars(asked)))


async def is_as_known(connection: AsyncConnection, index: int) -> bool:
    """Whether the determination at *index* was asked for with what was known in the past."""
    asked = select(determination.c.as_known).where(determination.c.index == index)
    return bool(await connection.scalar(asked))


async def evidence_of_id(connection: AsyncConnection, id: str) -> EvidenceRecorded | None:
    """The piece of evidence with that id."""
    found = await connection.execute(_evidence(None).where(evidence.c.id == id))
    row = found.mappings().first()
    return None if row is None else _evidence_recorded(row)


async def latest_determination(
    connection: AsyncConnection, model: str, action: str, policy: str | None = None
) -> Recorded | None:
    """The one made at the latest instant under *policy*; without it, the strictest of those under
    each policy that was ever activated. Of several of one instant the strictest, and of these the
    last recorded. Where there is none under such a policy, the latest of any.

    Not one that was asked for with what was known in the past.
    """
    asked = (
        _determinations()
        .where(
            determination.c.model == model,
            determination.c.action == action,
            ~determination.c.as_known,
        )
        .order_by(determination.c.at.desc(), _STRICTNESS.desc(), determination.c.index.desc())
        .limit(1)
    )
    if policy is not None:
        return await _first(connection, asked.where(determination.c.policy == policy))
    # One walk down an index for each policy: there are few, and may be many determinations.
    found: list[Any] = []
    for name in await activated_policies(connection):
        latest = asked.where(determination.c.policy == name)
        columns = latest.add_columns(determination.c.at.label("asked_at"), _STRICTNESS)
        found += (await connection.execute(columns)).mappings().all()
    if not found:
        return await _first(connection, asked)
    return recorded(max(found, key=lambda row: (row["strictness"], row["asked_at"], row["index"])))


async def previous_determination(
    connection: AsyncConnection,
    model: str,
    action: str,
    policy: str,
    *,
    at: datetime,
    before: int,
) -> Recorded | None:
    """The one on the same question that an answer at *at* follows, in a ledger of size *before*: of
    those up to that instant the latest, and of one instant the last recorded.

    Not one that was asked for with what was known in the past.
    """
    asked = (
        _determinations()
        .where(
            determination.c.model == model,
            determination.c.action == action,
            determination.c.policy == policy,
            ~determination.c.as_known,
            determination.c.at <= at,
            determination.c.index < before,
        )
        .order_by(determination.c.at.desc(), determination.c.index.desc())
        .limit(1)
    )
    return await _first(connection, asked)


async def determinations(
    connection: AsyncConnection,
    *,
    model: str | None = None,
    action: str | None = None,
    decision: str | None = None,
    policy: str | None = None,
    before: int | None = None,
    limit: int,
) -> tuple[Recorded, ...]:
    """The last *limit* determinations that fit, newest first; `before`: of a smaller index."""
    columns = determination.c
    asked = _determinations().order_by(columns.index.desc()).limit(limit)
    for column, value in (
        (columns.model, model),
        (columns.action, action),
        (columns.decision, decision),
        (columns.policy, policy),
    ):
        if value is not None:
            asked = asked.where(column == value)
    if before is not None:
        asked = asked.where(columns.index < before)
    return await _all(connection, asked)


_AT_A_TIME: Final = 1000


T = TypeVar("T")


def _some_at_a_time(asked: Sequence[T]) -> Iterator[Sequence[T]]:
    """A statement takes only so many parameters."""
    for first in range(0, len(asked), _AT_A_TIME):
        yield asked[first : first + _AT_A_TIME]


def _determinations() -> Select[Any]:
    same: ColumnElement[bool] = determination.c.index == ledger_entry.c.index
    return select(*_RECORD).select_from(determination.join(ledger_entry, same))


def _evidence(known_at: int | None) -> Select[Any]:
    withdrawn = withdrawal.c.evidence_id == evidence.c.id
    if known_at is not None:
        withdrawn = and_(withdrawn, withdrawal.c.index < known_at)
    asked = select(
        *_RECORD,
        ledger_entry.c.actor,
        evidence.c.model,
        evidence.c.policy,
        evidence.c.speaks_for,
        withdrawal.c.index.label("withdrawn"),
    ).select_from(
        evidence.join(ledger_entry, evidence.c.index == ledger_entry.c.index).outerjoin(
            withdrawal, withdrawn
        )
    )
    return asked if known_at is None else asked.where(evidence.c.index < known_at)


def _evidence_recorded(row: Any) -> EvidenceRecorded:
    return EvidenceRecorded(
        recorded(row),
        row["actor"],
        row["model"],
        row["policy"],
        row["speaks_for"],
        row["withdrawn"],
    )


async def _by_what(
    connection: AsyncConnection, table: Table, names: str, model: str, known_at: int | None
) -> dict[str, tuple[Recorded, ...]]:
    """What is recorded in *table* on *model*, by the piece of evidence that the column *names*."""
    asked = (
        select(*_RECORD, table.c[names].label("of"))
        .join(table, table.c.index == ledger_entry.c.index)
        .where(table.c.model == model)
        .order_by(table.c.index)
    )
    if known_at is not None:
        asked = asked.where(table.c.index < known_at)
    found: dict[str, tuple[Recorded, ...]] = {}
    for row in (await connection.execute(asked)).mappings():
        found[row["of"]] = (*found.get(row["of"], ()), recorded(row))
    return found


async def _first(connection: AsyncConnection, asked: Select[Any]) -> Recorded | None:
    row = (await connection.execute(asked)).mappings().first()
    return None if row is None else recorded(row)


async def _all(connection: AsyncConnection, asked: Select[Any]) -> tuple[Recorded, ...]:
    return tuple(map(recorded, (await connection.execute(asked)).mappings().all()))
