"""Everything that was ever recorded on a model version, to be cut to any ledger size.

A backtest asks what was known at thousands of ledger sizes. So the evidence on a model is read
once, withdrawn pieces included, and each question takes of it what had been recorded by then. The
result is what `Store.snapshot` reads for that ledger size; tests/http/test_backtest.py says so.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.assessment.assessment import Assessment, ModelVersion
from app.assessment.evidence import Evidence, OtherModel
from app.assessment.evidence import Recorded as RecordedEvidence
from app.assessment.exceptions import (
    Approved,
    ExceptionOnRecord,
    GivenApproval,
    RequestedException,
)
from app.assessment.orders import Lifted, Lifting, Order, OrderOnRecord
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import digest
from app.decoding import decode_json
from app.ledger.entry import Kind
from app.storage import records
from app.storage.ledger import Recorded, recorded
from app.storage.store import MOST_OTHERS
from app.storage.tables import determination, ledger_entry
from app.vocabulary import TEXT

MOST_MODELS: Final = 256
"""How many model versions are read that evidence on one of them ever leaned on."""

T = TypeVar("T")


class NotRebuilt(Exception):
    """What a determination rested on cannot be put together again; the message says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that has a determination, with the index of the last one."""

    model: str
    action: str
    index: int


# --- Which determinations there are ------------------------------------------------------------


async def asked_under(
    connection: AsyncConnection, policy: str, *, before: int, limit: int | None
) -> tuple[Asked, ...]:
    """The questions that were ever asked under *policy*, those asked last first."""
    last = func.max(determination.c.index).label("last")
    asked = (
        select(determination.c.model, determination.c.action, last)
        .where(determination.c.policy == policy, determination.c.index < before)
        .group_by(determination.c.model, determination.c.action)
        .order_by(last.desc())
        .limit(limit)
    )
    rows = await connection.execute(asked)
    return tuple(Asked(row.model, row.action, row.last) for row in rows)


async def counted_by_model(
    connection: AsyncConnection, policy: str, *, first: int, before: int
) -> dict[str, int]:
    """How many determinations each model has under *policy*, from index *first* up to *before*."""
    asked = (
        select(determination.c.model, func.count().label("many"))
        .where(
            determination.c.policy == policy,
            determination.c.index >= first,
            determination.c.index < before,
        )
        .group_by(determination.c.model)
        .order_by(determination.c.model)
    )
    return {row.model: row.many for row in await connection.execute(asked)}


async def first_of_last(
    connection: AsyncConnection, policy: str, *, before: int, limit: int
) -> int:
    """The index from which on there are *limit* determinations; 0 where there are no more."""
    asked = (
        select(determination.c.index)
        .where(determination.c.policy == policy, determination.c.index < before)
        .order_by(determination.c.index.desc())
        .offset(limit - 1)
        .limit(1)
    )
    return await connection.scalar(asked) or 0


async def determinations_of(
    connection: AsyncConnection, policy: str, model: str, *, first: int, before: int, limit: int
) -> tuple[Recorded, ...]:
    """The next *limit* determinations on *model* under *policy*, from index *first* on."""
    asked = (
        select(
            ledger_entry.c.index,
            ledger_entry.c.kind,
            ledger_entry.c.subject,
            ledger_entry.c.document,
            ledger_entry.c.leaf_hash,
            ledger_entry.c.at,
        )
        .join(determination, determination.c.index == ledger_entry.c.index)
        .where(
            determination.c.policy == policy,
            determination.c.model == model,
            determination.c.index >= first,
            determination.c.index < before,
        )
        .order_by(determination.c.index)
        .limit(limit)
    )
    return tuple(map(recorded, (await connection.execute(asked)).mappings().all()))


# --- What was known on a model -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of evidence, and at which index it was withdrawn, if it was.

    `approvals` and `lifted`: what became of an exception or an order, each with its index.
    """

    kind: Kind
    recorded: RecordedEvidence[Any]
    withdrawn: int | None
    approvals: tuple[tuple[int, Approved], ...] = ()
    lifted: tuple[int, Lifted] | None = None

    @property
    def index(self) -> int:
        assert self.recorded.index is not None, "it was read from the ledger"
        return self.recorded.index

    def moments(self) -> Iterator[int]:
        """The indexes at which something changes about it."""
        yield self.index
        if self.withdrawn is not None:
            yield self.withdrawn
        yield from (index for index, _ in self.approvals)
        if self.lifted is not None:
            yield self.lifted[0]

    def known_at(self, size: int) -> RecordedEvidence[Any] | None:
        """It, as it stood in a ledger of that size; `None`: it did not count then."""
        if self.index >= size or (self.withdrawn is not None and self.withdrawn < size):
            return None
        item = self.recorded.item
        if self.kind is Kind.EXCEPTION:
            approved = tuple(one for index, one in self.approvals if index < size)
            return replace(self.recorded, item=ExceptionOnRecord(item, approved))
        if self.kind is Kind.ORDER:
            lifted = self.lifted[1] if self.lifted and self.lifted[0] < size else None
            return replace(self.recorded, item=OrderOnRecord(item, lifted))
        return self.recorded


@dataclass(frozen=True, slots=True)
class _OneModel:
    """One model version as registered, at which index, and all pieces ever recorded on it."""

    registered: ModelVersion | None
    index: int
    pieces: tuple[_Piece, ...] = ()

    def known_at(self, size: int) -> tuple[ModelVersion | None, Evidence]:
        if self.registered is None or self.index >= size:
            return None, Evidence()
        by_kind: dict[Kind, list[RecordedEvidence[Any]]] = {}
        for piece in self.pieces:
            known = piece.known_at(size)
            if known is not None:
                by_kind.setdefault(piece.kind, []).append(known)
        return self.registered, Evidence(
            tuple(by_kind.get(Kind.ASSESSMENT, ())),
            tuple(by_kind.get(Kind.SAFEGUARD, ())),
            tuple(by_kind.get(Kind.SIGN_OFF, ())),
            tuple(by_kind.get(Kind.EXCEPTION, ())),
            tuple(by_kind.get(Kind.ORDER, ())),
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What was known of a model version, and the names of all pieces that this takes in."""

    model: ModelVersion | None
    evidence: Evidence
    names: tuple[tuple[str, str], ...]


@dataclass
class ModelHistory:
    """All that was ever recorded on a model version, and on those that its findings leaned on."""

    model: str
    _models: Mapping[str, _OneModel]
    _moments: Sequence[int]
    _cut: tuple[int, Known] | None = field(default=None, init=False)

    def known_at(self, size: int) -> Known:
        """What a ledger of that size held. Raises `NotRebuilt`.

        Between two moments nothing changes, so that consecutive questions share one answer.
        """
        moment = bisect_left(self._moments, size)
        if self._cut is None or self._cut[0] != moment:
            self._cut = moment, self._known_at(size)
        return self._cut[1]

    def _known_at(self, size: int) -> Known:
        model, evidence = self._one(self.model).known_at(size)
        others: dict[str, OtherModel] = {}
        nearest = _leans_on(evidence)
        while nearest and len(others) < MOST_OTHERS:
            next_nearest: set[str] = set()
            for name in sorted(nearest - others.keys() - {self.model})[: MOST_OTHERS - len(others)]:
                other, on_other = self._one(name).known_at(size)
                if other is not None:
                    others[name] = OtherModel(other, on_other)
                    next_nearest |= _leans_on(on_other)
            nearest = next_nearest - others.keys() - {self.model}
        evidence = replace(evidence, others=others)
        return Known(model, evidence, tuple(evidence.names()))

    def _one(self, name: str) -> _OneModel:
        if name not in self._models:
            message = f"its evidence leans on more than {MOST_MODELS} model versions"
            raise NotRebuilt(message)
        return self._models[name]


async def model_history(connection: AsyncConnection, model: str, *, before: int) -> ModelHistory:
    """All that a ledger of size *before* holds on *model* and on those that it ever leaned on."""
    models: dict[str, _OneModel] = {}
    nearest = {model}
    while nearest and len(models) < MOST_MODELS:
        for name in sorted(nearest)[: MOST_MODELS - len(models)]:
            models[name] = await _one_model(connection, name, before)
        leant_on = {
            name
            for one in models.values()
            for piece in one.pieces
            if piece.kind is Kind.ASSESSMENT
            for name in _named_in(piece.recorded.item)
        }
        nearest = leant_on - models.keys()
    moments = {
        moment
        for one in models.values()
        if one.registered is not None
        for moment in (one.index, *(m for piece in one.pieces for m in piece.moments()))
    }
    return ModelHistory(model, models, sorted(moments))


async def _one_model(connection: AsyncConnection, name: str, before: int) -> _OneModel:
    record = await records.model_record(connection, name, known_at=before)
    if record is None:
        return _OneModel(None, before)
    registered = _said(_MODEL, record)
    found = await records.evidence_on(connection, name, weights=registered.weights, known_at=before)
    approved = await records.approvals_on(connection, name, known_at=before)
    lifted = await records.liftings_on(connection, name, known_at=before)
    pieces = (
        _piece(one, approved.get(one.record.subject, ()), lifted.get(one.record.subject, ()))
        for one in found
    )
    return _OneModel(registered, record.position.index, tuple(pieces))


def _piece(
    one: records.EvidenceRecorded, approvals: Iterable[Recorded], liftings: Iterable[Recorded]
) -> _Piece:
    record = one.record
    approved = tuple(
        (
            given.position.index,
            Approved(given.subject, digest(given.document), _said(_APPROVAL, given)),
        )
        for given in approvals
    )
    lifted = None
    for lifting in liftings:
        said = _said(_LIFTING, lifting, names=("id", "order"))
        lifted = (
            lifting.position.index,
            Lifted(lifting.subject, digest(lifting.document), said),
        )
    item = _said(_ADAPTERS[record.kind], record)
    piece = RecordedEvidence(record.subject, digest(record.document), item, record.position.index)
    return _Piece(record.kind, piece, one.withdrawn, approved, lifted)


def _leans_on(evidence: Evidence) -> set[str]:
    return {name for one in evidence.assessments for name in _named_in(one.item)}


def _named_in(assessment: Assessment) -> set[str]:
    return {f.other_model for f in assessment.findings if f.other_model is not None}


_MODEL: Final = TypeAdapter(ModelVersion)
_APPROVAL: Final = TypeAdapter(GivenApproval)
_LIFTING: Final = TypeAdapter(Lifting)
_ADAPTERS: Final[Mapping[Kind, TypeAdapter[Any]]] = {
    Kind.ASSESSMENT: TypeAdapter(Assessment),
    Kind.SAFEGUARD: TypeAdapter(SafeguardReport),
    Kind.SIGN_OFF: TypeAdapter(SignOff),
    Kind.EXCEPTION: TypeAdapter(RequestedException),
    Kind.ORDER: TypeAdapter(Order),
}


def _said(adapter: TypeAdapter[T], record: Recorded, names: Iterable[str] = ("id",)) -> T:
    """What a recorded document says, without what names the record."""
    fields = decode_json(record.document)
    assert isinstance(fields, dict)
    for name in names:
        fields.pop(name, None)
    return adapter.validate_python(fields, context=dict(TEXT))
