"""Ask the gate: the strictest of the determinations under every policy that applies.

A policy applies where a version of it is in force now and its scope does not leave out the model or
the action. All the determinations and the gate's own answer are recorded in one commit, which rests
on which policies there are: none can come into force unseen between reading and recording.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import orjson
from pydantic import Field

from app.assessment.assessment import ModelVersion
from app.canonical import canonical_json
from app.determination.decide import scope_of, strictest
from app.determination.record import Engine
from app.errors import DeterminationSuperseded
from app.ledger.entry import Kind
from app.operations.context import Context, new_id, recorded_anew, refuse_lapsed
from app.operations.determine import (
    Asked,
    Decided,
    Standing,
    append_unless_alone,
    decide_on,
    draft_of,
    expired,
    has_other_meaning,
    is_of_another_engine,
    moved_since,
    present_engine,
    refuse_superseded,
    refuse_too_much,
    say_leaning,
    stands_alone,
)
from app.policy.timeline import PolicyInForce, in_force_at
from app.policy.version import PolicyVersion
from app.storage.ledger import Appended, Draft, GateRow, Moment, Recorded
from app.storage.store import POLICIES_STREAM, Snapshot
from app.vocabulary import Decision, Document, Instant, ModelRef, Slug, Truth


class AskedGate(Document):
    """May this action go ahead on this model version, under every policy that applies?"""

    model: ModelRef
    action: Slug


class PolicyAnswered(Document):
    """A policy that applies, its version in force, and what its determination says."""

    policy: str
    version: str
    decision: Literal["allow", "allow_with_conditions", "deny"]
    determination: str


class OutOfScope(Document):
    """A policy of which a version is in force that does not speak of this, and why."""

    policy: str
    version: str
    why: str


class GateReason(Document):
    """Why the gate is closed: a blocking reason of one of the determinations, or the gate's own."""

    code: str
    policy: str | None
    determination: str | None
    message: str


class Gate(Document):
    """The strictest of the determinations under every policy that applies.

    `allowed` is what to act on: whether the decision is `allow`, or also `allow_with_conditions`
    where `accepts_conditions` says that the caller keeps them.
    """

    id: str
    model: str
    action: str
    allowed: bool
    accepts_conditions: bool
    decision: Literal["allow", "allow_with_conditions", "deny"]
    determinations: tuple[str, ...]
    policies: tuple[PolicyAnswered, ...]
    out_of_scope: tuple[OutOfScope, ...]
    reasons: tuple[GateReason, ...]
    valid_until: Instant | None
    """The first instant at which time alone could make any of this stricter; `null`: none known."""
    at: Instant
    actor: str
    engine: Annotated[Engine | None, Field(exclude_if=lambda engine: engine is None)] = None
    """The engine that gave the answer, and its determinations. Records of before it was named have no
    such field.
    """


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of every policy of which a version was ever activated."""

    stream: int
    snapshots: tuple[tuple[str, Snapshot], ...]

    def rests_on(self) -> dict[str, int]:
        """The oldest version at which each stream was read."""
        oldest = {POLICIES_STREAM: self.stream}
        for _, snapshot in self.snapshots:
            for stream, version in snapshot.streams.items():
                oldest[stream] = min(version, oldest.get(stream, version))
        return oldest


async def ask_gate(
    context: Context, asked: AskedGate, *, accepts_conditions: bool = False
) -> Appended:
    """Decide under every policy that applies, and record all determinations with the gate, the last
    of the records, in one durable commit.

    Where no policy applies it is closed. Raises `InvalidDocument` where the answers would name too
    much evidence for one commit, `SoleApprover` where one of the determinations would let pass what one
    and the same found and alone approved, `DeterminationSuperseded` where the idempotency
    key's recorded answer no longer answers, `Unavailable` where it cannot be recorded now.
    """
    appended = await recorded_anew(
        context, lambda as_of: _decide_and_record(as_of, asked, accepts_conditions)
    )
    if appended.replayed:
        await _refuse_superseded(context, appended)
    return appended


async def _decide_and_record(
    context: Context, asked: AskedGate, accepts_conditions: bool
) -> Appended:
    names, stream = await context.store.activated_policies()
    snapshots = [(n, await context.store.snapshot(asked.model, n, None)) for n in names]
    read = _Read(stream, tuple(snapshots))
    decided = []
    for name, snapshot in applying(read.snapshots, context.now, asked.action):
        question = Asked(model=asked.model, action=asked.action, policy=name)
        decided.append(decide_on(context.now, question, snapshot))
        await asyncio.sleep(0)
    refuse_too_much(decided)
    drafts = [draft_of(context, one) for one in decided]
    gate = gate_of(
        asked,
        read.snapshots,
        decided,
        [draft.subject for draft in drafts],
        id=new_id("gat"),
        at=context.now,
        actor=context.actor,
        accepts_conditions=accepts_conditions,
        engine=present_engine(),
    )
    document = canonical_json(gate.model_dump(mode="json"))

    def build(moment: Moment) -> bytes:
        refuse_lapsed(gate.at, gate.valid_until, moment)
        return document

    row = GateRow(gate.id, gate.model, gate.action, gate.decision, context.now, gate.valid_until)
    drafts.append(Draft(Kind.GATE, gate.id, row, build))
    appended = await append_unless_alone(context, decided, drafts, read.rests_on())
    say_leaning(context, decided, appended)
    return appended


def applying(
    snapshots: Sequence[tuple[str, Snapshot]], at: datetime, action: str
) -> tuple[tuple[str, Snapshot], ...]:
    """The policies that apply: a version is in force then, and does not leave this out."""
    return tuple(
        (name, snapshot)
        for name, snapshot in snapshots
        if (policy := in_force_at(snapshot.timeline, at)) is not None
        and not _is_left_out(policy.version, snapshot.model, action)
    )


def gate_of(
    asked: AskedGate,
    snapshots: Sequence[tuple[str, Snapshot]],
    decided: Sequence[Decided],
    ids: Sequence[str],
    *,
    id: str,
    at: datetime,
    actor: str,
    accepts_conditions: bool,
    engine: Engine | None,
) -> Gate:
    """The gate's answer: `decided` under each policy that applies, under these `ids`; `snapshots` of
    every policy of which a version was ever activated. Whoever changes what this answers raises
    `SEMANTICS`, and keeps the answer of those before, by `engine`; `None`: it is not named.
    """
    left_out = [
        _out_of_scope(policy, snapshot.model, asked.action)
        for _, snapshot in snapshots
        if (policy := in_force_at(snapshot.timeline, at)) is not None
        and _is_left_out(policy.version, snapshot.model, asked.action)
    ]
    unanswered = list(_unanswered_orders(at, asked.action, snapshots, decided))
    decision = Decision.DENY if unanswered else strictest(one.determination for one in decided)
    passes = decision is Decision.ALLOW or (
        accepts_conditions and decision is Decision.ALLOW_WITH_CONDITIONS
    )
    answered = []
    for one, determination in zip(decided, ids, strict=True):
        assert one.policy is not None, "only versions in force are asked"
        answered.append(
            PolicyAnswered(
                policy=one.asked.policy,
                version=one.policy.version.version,
                decision=one.determination.decision,
                determination=determination,
            )
        )
    return Gate(
        id=id,
        model=asked.model,
        action=asked.action,
        allowed=passes,
        accepts_conditions=accepts_conditions,
        decision=decision.value,
        determinations=tuple(ids),
        policies=tuple(answered),
        out_of_scope=tuple(left_out),
        reasons=(*_reasons(decided, ids), *unanswered),
        valid_until=_valid_until(at, snapshots, decided),
        at=at,
        actor=actor,
        engine=engine,
    )


def _reasons(decided: Sequence[Decided], ids: Sequence[str]) -> Iterable[GateReason]:
    if not decided:
        message = "no policy in force applies to this action on this model version"
        yield GateReason(
            code="policy.none_applies", policy=None, determination=None, message=message
        )
    for one, determination in zip(decided, ids, strict=True):
        for reason in one.determination.reasons:
            if reason.blocks:
                yield GateReason(
                    code=reason.code,
                    policy=one.asked.policy,
                    determination=determination,
                    message=reason.message,
                )


def _unanswered_orders(
    now: datetime,
    action: str,
    snapshots: Sequence[tuple[str, Snapshot]],
    decided: Sequence[Decided],
) -> Iterable[GateReason]:
    """An order that requires standards of a policy under which nothing was decided: nobody can say
    whether they are met, so it closes the gate until it is lifted.
    """
    answered = {one.asked.policy for one in decided}
    orders = {one.id: one for _, snapshot in snapshots for one in snapshot.evidence.orders}
    for id, recorded in sorted(orders.items()):
        order = recorded.item.order
        stands = recorded.item.is_about(action) and recorded.item.stands(now)
        if stands and order.policy is not None and order.policy not in answered:
            yield GateReason(
                code="order.not_answered",
                policy=order.policy,
                determination=None,
                message=f"`{order.issuer}` requires standards of `{order.policy}`, which does not "
                f"answer for this ({id})",
            )


def _valid_until(
    now: datetime, snapshots: Sequence[tuple[str, Snapshot]], decided: Sequence[Decided]
) -> datetime | None:
    """Until the first determination may change, another version comes into force (one of a policy
    that does not apply now may apply), or an order begins.
    """
    ends = [one.determination.valid_until for one in decided]
    begins = [span.since for _, snapshot in snapshots for span in snapshot.timeline]
    begins += [one.item.begins for _, snapshot in snapshots for one in snapshot.evidence.orders]
    ends += [since for since in begins if since > now]
    return min((end for end in ends if end is not None), default=None)


def _is_left_out(version: PolicyVersion, model: ModelVersion | None, action: str) -> bool:
    """Only a certain NO lets a policy be passed over; of a model that nobody knows nothing is."""
    return model is not None and scope_of(version, model, action) is Truth.NO


def _out_of_scope(policy: PolicyInForce, model: ModelVersion | None, action: str) -> OutOfScope:
    version, scope = policy.version, policy.version.applies_to
    assert model is not None, "a policy is left out for what is known of the model"
    if scope.developer is not None and model.developer not in scope.developer:
        why = f"it does not speak of models of `{model.developer}`"
    elif scope.actions is not None and action not in scope.actions:
        why = f"it does not speak of `{action}`"
    else:
        why = "what is known of the model leaves it out"
    return OutOfScope(policy=version.policy, version=version.version, why=why)


async def _refuse_superseded(context: Context, appended: Appended) -> None:
    """An old allow never comes back unmarked, nor where a policy applies that it did not see."""
    *determinations, gate = appended.records
    await refuse_superseded(context, Appended(tuple(determinations), replayed=True))
    standing = await standing_of_gate(context, gate)
    if standing.expired:
        raise DeterminationSuperseded(gate.subject, f"it held until {standing.expired}")
    if standing.superseded:
        moved = "a policy, the evidence or the engine has moved since"
        raise DeterminationSuperseded(gate.subject, moved)


async def standing_of_gate(context: Context, gate: Recorded) -> Standing:
    """Whether that gate still answers: it rests also on which policies there are, and on what those
    say that it passed over; and its determinations on the engine.
    """
    document, index = orjson.loads(gate.document), gate.position.index
    determinations = await context.store.records_of(document["determinations"])
    versions = await context.store.streams([POLICIES_STREAM])
    superseded = versions[POLICIES_STREAM] > index or any(
        has_other_meaning(orjson.loads(one.document)) for one in determinations.values()
    )
    if (engine := document.get("engine")) is not None:
        # One to which no policy applied has no determination that would tell.
        superseded = superseded or is_of_another_engine(engine)
    names, _ = await context.store.activated_policies()
    for name in () if superseded else names:
        superseded = superseded or await moved_since(context, document["model"], name, index)
    for one in () if superseded else determinations.values():
        superseded = superseded or await stands_alone(context, orjson.loads(one.document))
    return Standing(superseded, expired(context, document))
