"""Ask the gate: the strictest of the determinations under every policy that applies.

A policy applies where a version of it is in force now and its scope does not leave out the model or
the action. All the determinations and the gate's own answer are recorded in one commit, which rests
on which policies there are: none can come into force unseen between reading and recording.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import orjson
from pydantic import Field

from app.assessment.assessment import ModelVersion
from app.canonical import canonical_json
from app.determination.decide import scope_of, strictest
from app.determination.record import Engine
from app.errors import DeterminationSuperseded, Fault, InvalidDocument
from app.ledger.entry import Kind
from app.operations.context import Context, new_id, recorded_anew, refuse_lapsed
from app.operations.determine import (
    SECONDS_A_QUESTION,
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
    passes_alone,
    present_engine,
    refuse_superseded,
    refuse_too_much,
    say_leaning,
    stands_alone,
)
from app.policy.timeline import PolicyInForce, in_force_at
from app.policy.version import PolicyVersion
from app.storage.database import taking_longer
from app.storage.ledger import MOST_DRAFTS, Appended, Draft, GateRow, Moment, Recorded
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
    on_behalf_of: Annotated[str | None, Field(exclude_if=lambda whom: whom is None)] = None
    """Who wants it, where the caller says that it asks for somebody else: the caller's word, which
    nothing was decided on. There is no such field where it does not say.
    """


@dataclass(frozen=True, slots=True)
class GateQuestion:
    """What a caller asks: whether it keeps conditions, and for whom it asks, where it says so."""

    asked: AskedGate
    accepts_conditions: bool = False
    on_behalf_of: str | None = None


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
    return await ask_gates(context, [GateQuestion(asked, accepts_conditions)])


async def ask_gates(
    context: Context,
    questions: Sequence[GateQuestion],
    *,
    until: Callable[[Gate], bool] = lambda _: False,
) -> Appended:
    """The same for each of *questions*, in their order and in one commit, up to the first gate of which
    *until* says that the rest is not asked any more. Each gate follows its determinations.
    """
    with taking_longer(SECONDS_A_QUESTION * (len(questions) - 1)):
        appended = await recorded_anew(
            context, lambda as_of: _decide_and_record(as_of, questions, until)
        )
    if appended.replayed:
        for one in gates_in(appended):
            await _refuse_superseded(context, one)
    return appended


def gates_in(appended: Appended) -> Iterator[Appended]:
    """Each gate that was recorded, the last of its records, behind its determinations."""
    records: list[Recorded] = []
    for record in appended.records:
        records.append(record)
        if record.kind is Kind.GATE:
            yield Appended(tuple(records), appended.replayed)
            records = []


async def _decide_and_record(
    context: Context, questions: Sequence[GateQuestion], until: Callable[[Gate], bool]
) -> Appended:
    names, stream = await context.store.activated_policies()
    rests_on = {POLICIES_STREAM: stream}
    decided: list[Decided] = []
    drafts: list[Draft] = []
    for question in questions:
        asked = question.asked
        snapshots = [(n, await context.store.snapshot(asked.model, n, None)) for n in names]
        for _, snapshot in snapshots:
            for name, version in snapshot.streams.items():
                rests_on[name] = min(version, rests_on.get(name, version))
        those = await _decide(context, asked, snapshots)
        behind = [draft_of(context, one) for one in those]
        gate = gate_of(
            asked,
            snapshots,
            those,
            [draft.subject for draft in behind],
            id=new_id("gat"),
            at=context.now,
            actor=context.actor,
            accepts_conditions=question.accepts_conditions,
            engine=present_engine(),
            on_behalf_of=question.on_behalf_of,
        )
        decided += those
        drafts += [*behind, _draft_of_gate(gate)]
        _refuse_too_much(decided, drafts)
        if until(gate):
            break
    appended = await append_unless_alone(context, decided, drafts, rests_on)
    determinations = tuple(one for one in appended.records if one.kind is Kind.DETERMINATION)
    say_leaning(context, decided, Appended(determinations, appended.replayed))
    return appended


async def _decide(
    context: Context, asked: AskedGate, snapshots: Sequence[tuple[str, Snapshot]]
) -> list[Decided]:
    """What each policy that applies says of it."""
    decided = []
    for name, snapshot in applying(snapshots, context.now, asked.action):
        question = Asked(model=asked.model, action=asked.action, policy=name)
        decided.append(decide_on(context.now, question, snapshot))
        await asyncio.sleep(0)
    return decided


def _draft_of_gate(gate: Gate) -> Draft:
    """The entry that records it."""
    document = canonical_json(gate.model_dump(mode="json"))

    def build(moment: Moment) -> bytes:
        refuse_lapsed(gate.at, gate.valid_until, moment)
        return document

    row = GateRow(gate.id, gate.model, gate.action, gate.decision, gate.at, gate.valid_until)
    return Draft(Kind.GATE, gate.id, row, build)


def _refuse_too_much(decided: Sequence[Decided], drafts: Sequence[Draft]) -> None:
    """Raise `InvalidDocument` where one commit cannot hold it."""
    refuse_too_much(decided)
    if len(drafts) > MOST_DRAFTS:
        message = f"these are more than {MOST_DRAFTS} entries; ask for fewer at once"
        raise InvalidDocument((Fault("", "too-large", message),))


def gate_as_of(
    context: Context,
    asked: AskedGate,
    snapshots: Sequence[tuple[str, Snapshot]],
    *,
    accepts_conditions: bool,
) -> Gate | None:
    """The gate as it would be answered on *snapshots*, of every policy of which a version was ever
    activated; `None`: it would be refused, since one and the same found and alone approved. It is
    recorded nowhere, so neither it nor its determinations have an id.
    """
    decided = [
        decide_on(context.now, Asked(model=asked.model, action=asked.action, policy=name), snapshot)
        for name, snapshot in applying(snapshots, context.now, asked.action)
    ]
    if any(passes_alone(one) is not None for one in decided):
        return None
    return gate_of(
        asked,
        snapshots,
        decided,
        [""] * len(decided),
        id="",
        at=context.now,
        actor=context.actor,
        accepts_conditions=accepts_conditions,
        engine=present_engine(),
    )


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
    on_behalf_of: str | None = None,
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
        on_behalf_of=on_behalf_of,
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
