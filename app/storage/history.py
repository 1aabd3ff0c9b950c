"""Everything that was ever recorded on a model version or a policy, to be cut to any ledger size.

A backtest, or an audit, asks what was known at thousands of ledger sizes. So the evidence on a
model is read once, withdrawn pieces included, and each question takes of it what had been recorded
by then. The result is what `Store.snapshot` reads for that ledger size; tests/http/test_backtest.py
and tests/http/test_replay.py say so.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence, OtherModel
from app.assessment.evidence import Recorded as RecordedEvidence
from app.assessment.exceptions import (
    Approved,
    ExceptionOnRecord,
)
from app.assessment.fulfilments import GivenFulfilment
from app.assessment.orders import Lifted, OrderOnRecord
from app.canonical import digest
from app.determination.provenance import NotRebuilt
from app.ledger.entry import Kind
from app.policy.language import recorded_policy
from app.policy.timeline import (
    Activated,
    FirstRecorded,
    PolicyInForce,
    RecordedActivation,
    first_recorded,
    timeline,
)
from app.policy.version import PolicyVersion
from app.storage import records
from app.storage.ledger import Recorded, recorded
from app.storage.said import EVIDENCE, approved, fulfilled, leans_on, lifted, piece, said
from app.storage.store import MOST_OTHERS, model_stream, weights_stream
from app.storage.tables import determination, ledger_entry

MOST_MODELS: Final = 256
"""How many model versions are read that evidence on one of them ever leaned on."""

MOST_HISTORIES: Final = 64
"""How many histories are kept in memory."""


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
    fulfilments: tuple[RecordedEvidence[GivenFulfilment], ...] = ()

    def moments(self) -> Iterator[int]:
        """The indexes at which something changes about it."""
        yield self.index
        for one in self.pieces:
            yield from one.moments()
        yield from (done.index for done in self.fulfilments if done.index is not None)

    def known_at(self, size: int) -> tuple[ModelVersion | None, Evidence]:
        if self.registered is None or self.index >= size:
            return None, Evidence()
        by_kind: dict[Kind, list[RecordedEvidence[Any]]] = {}
        for one in self.pieces:
            known = one.known_at(size)
            if known is not None:
                by_kind.setdefault(one.kind, []).append(known)
        return self.registered, Evidence(
            tuple(by_kind.get(Kind.ASSESSMENT, ())),
            tuple(by_kind.get(Kind.SAFEGUARD, ())),
            tuple(by_kind.get(Kind.SIGN_OFF, ())),
            tuple(by_kind.get(Kind.EXCEPTION, ())),
            tuple(by_kind.get(Kind.ORDER, ())),
            tuple(f for f in self.fulfilments if f.index is not None and f.index < size),
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What was known of a model version, and the names of all pieces that this takes in."""

    model: ModelVersion | None
    evidence: Evidence
    names: tuple[tuple[str, str], ...]
    with_fulfilments: tuple[tuple[str, str], ...]
    """The same with those of fulfilments, which an answer names whose version has a binding
    obligation.
    """


@dataclass
class ModelHistory:
    """All that was ever recorded on a model version, and on those that its findings leaned on."""

    model: str
    _models: Mapping[str, _OneModel]
    _moments: Sequence[int]
    _cut: tuple[int, Known] | None = field(default=None, init=False)

    @property
    def streams(self) -> set[str]:
        """The streams one of which moves whenever there is more to say."""
        weights = {one.registered.weights for one in self._models.values() if one.registered}
        named = {weights_stream(one) for one in weights if one is not None}
        return named | {model_stream(name) for name in self._models}

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
        names = tuple(evidence.names()), tuple(evidence.names(fulfilments=True))
        return Known(model, evidence, *names)

    def _one(self, name: str) -> _OneModel:
        if name not in self._models:
            message = f"its evidence leans on more than {len(self._models)} model versions"
            raise NotRebuilt(message)
        return self._models[name]


async def model_history(
    connection: AsyncConnection, model: str, *, before: int, most_models: int = MOST_MODELS
) -> ModelHistory:
    """All that a ledger of size *before* holds on *model* and on those that it ever leaned on, but
    for those beyond *most_models*.
    """
    models: dict[str, _OneModel] = {}
    nearest = {model}
    while nearest and len(models) < most_models:
        for name in sorted(nearest)[: most_models - len(models)]:
            models[name] = await _one_model(connection, name, before)
        leant_on = {
            name
            for one in models.values()
            for piece in one.pieces
            if piece.kind is Kind.ASSESSMENT
            for name in leans_on([piece.recorded.item])
        }
        nearest = leant_on - models.keys()
    return _history(model, models)


def _history(model: str, models: Mapping[str, _OneModel]) -> ModelHistory:
    moments = {
        moment for one in models.values() if one.registered is not None for moment in one.moments()
    }
    return ModelHistory(model, models, sorted(moments))


class Histories:
    """The histories of the model versions that were asked for last, each read once until there is
    more to say of it.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, ModelHistory]] = {}

    async def of(
        self, connection: AsyncConnection, models: Iterable[str], *, before: int
    ) -> dict[str, ModelHistory]:
        """All that a ledger of size *before* holds on each of *models*."""
        asked = sorted(set(models))
        kept = {name: self._kept[name] for name in asked if name in self._kept}
        streams = {stream for _, one in kept.values() for stream in one.streams}
        versions = await records.stream_versions(connection, streams)
        found = {}
        for name in asked:
            size, one = kept.get(name, (0, None))
            if one is None or any(versions[stream] > size for stream in one.streams):
                one = await model_history(connection, name, before=before)
            found[name] = one
            self._kept.pop(name, None)
            self._kept[name] = before, one
        for name in list(self._kept)[:-MOST_HISTORIES]:
            del self._kept[name]
        return found


async def _one_model(connection: AsyncConnection, name: str, before: int) -> _OneModel:
    record = await records.model_record(connection, name, known_at=before)
    if record is None:
        return _OneModel(None, before)
    registered = said(ModelVersion, record)
    found = await records.evidence_on(connection, name, weights=registered.weights, known_at=before)
    approvals = await records.approvals_on(connection, name, known_at=before)
    liftings = await records.liftings_on(connection, name, known_at=before)
    pieces = tuple(_piece(one.record, one.withdrawn, approvals, liftings) for one in found)
    done = await records.fulfilments_on(connection, name, known_at=before)
    return _OneModel(registered, record.position.index, pieces, tuple(map(fulfilled, done)))


def _piece(
    record: Recorded,
    withdrawn: int | None,
    approvals: Mapping[str, Iterable[Recorded]],
    liftings: Mapping[str, Iterable[Recorded]],
) -> _Piece:
    given, lifting = approvals.get(record.subject, ()), liftings.get(record.subject, ())
    return _Piece(
        record.kind,
        piece(record),
        withdrawn,
        tuple((one.position.index, approved(one)) for one in given),
        next(((one.position.index, lifted(one)) for one in lifting), None),
    )


def gathered_model(model: str, found: Iterable[Recorded]) -> ModelHistory:
    """The history of *model* that those records tell by themselves: registrations, evidence that
    counts, approvals of exceptions, liftings of orders and fulfilments.
    """
    registered: dict[str, tuple[ModelVersion, int]] = {}
    evidence: list[tuple[str, Recorded]] = []
    approvals: dict[str, list[Recorded]] = {}
    liftings: dict[str, list[Recorded]] = {}
    done: dict[str, list[RecordedEvidence[GivenFulfilment]]] = {}
    for one in found:
        document = orjson.loads(one.document)
        if one.kind is Kind.MODEL:
            registered[document["model"]] = said(ModelVersion, one), one.position.index
        elif one.kind is Kind.EXCEPTION_APPROVAL:
            approvals.setdefault(document["exception"], []).append(one)
        elif one.kind is Kind.LIFTING:
            liftings.setdefault(document["order"], []).append(one)
        elif one.kind is Kind.FULFILMENT:
            done.setdefault(document["model"], []).append(fulfilled(one))
        elif one.kind in EVIDENCE:
            evidence.append((document["model"], one))
    pieces = [(on, _piece(one, None, approvals, liftings)) for on, one in evidence]
    leant_on = leans_on(one.recorded.item for _, one in pieces if one.kind is Kind.ASSESSMENT)
    models = {name: _OneModel(None, 0) for name in leant_on | {model}}
    weights = {name: one.weights for name, (one, _) in registered.items()}
    for name, (version, index) in registered.items():
        # Without weights there is no twin: `None` is the same as nothing.
        twins = {on for on, same in weights.items() if same and same == version.weights}
        bears = tuple(
            one for on, one in pieces if on == name or (on in twins and one.kind is Kind.ASSESSMENT)
        )
        models[name] = _OneModel(version, index, bears, tuple(done.get(name, ())))
    return _history(model, models)


# --- What was known of a policy ----------------------------------------------------------------


@dataclass
class PolicyHistory:
    """Every version of a policy that was ever recorded, and every activation, each with its index.

    A version's identity is worked out from its own bytes, whatever it is recorded as.
    """

    policy: str
    _versions: Mapping[str, tuple[PolicyVersion, int]]
    _activations: Sequence[tuple[RecordedActivation, int]]
    _cut: tuple[int, tuple[PolicyInForce, ...]] | None = field(default=None, init=False)
    _first_recorded: dict[str, FirstRecorded] = field(default_factory=dict, init=False)

    def known_at(self, size: int) -> tuple[PolicyInForce, ...]:
        """When which version was in force, as a ledger of that size had it. Raises `NotRebuilt`."""
        many = sum(index < size for _, index in self._activations)
        # Only activations change it: a version is recorded before it is activated.
        if self._cut is None or self._cut[0] != many:
            self._cut = many, timeline(map(self._activated, self._activations[:many]))
        return self._cut[1]

    def _activated(self, activation: tuple[RecordedActivation, int]) -> Activated:
        said, index = activation
        version, recorded_at = self._versions.get(said.digest, (None, index))
        if version is None or recorded_at >= index:
            raise NotRebuilt(f"`{said.digest}` was put in force, and is no version recorded before")
        if said.in_force_from is None:
            raise NotRebuilt(f"the activation at {index} does not say from when")
        if said.digest not in self._first_recorded:
            first = first_recorded(version, self._versions.values())
            self._first_recorded[said.digest] = first
        return Activated(
            version, said.digest, said.in_force_from, self._first_recorded[said.digest]
        )


async def policy_history(connection: AsyncConnection, policy: str, *, before: int) -> PolicyHistory:
    """All that a ledger of size *before* holds on *policy*."""
    versions = await records.policy_records(connection, policy, known_at=before)
    activations = await records.policy_activations(connection, [policy], known_at=before)
    return gathered_policy(policy, versions, activations)


def gathered_policy(
    policy: str, versions: Iterable[Recorded], activations: Iterable[Recorded]
) -> PolicyHistory:
    """The history of *policy* that those records tell by themselves, in the order of the ledger."""
    return PolicyHistory(
        policy,
        {
            digest(one.document): (recorded_policy(one.document), one.position.index)
            for one in versions
        },
        [(said(RecordedActivation, one), one.position.index) for one in activations],
    )


def _leans_on(evidence: Evidence) -> set[str]:
    return leans_on(one.item for one in evidence.assessments)
