"""Register a model version; record what was found of it and what is in place; withdraw what fell.

Everything that a document names must be known: the model, and for each policy its thresholds,
lines, roles, standards, criteria and actions, in one of the versions that are recorded. All that is
unknown is said at once, each with its pointer.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel

from app.assessment.assessment import Assessment, ModelVersion, Withdrawal
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import canonical_json
from app.decoding import pointer
from app.determination.alone import APPROVING, PERMITTING
from app.determination.obligations import starts_binding_clock
from app.errors import (
    AlreadyRecorded,
    Fault,
    InvalidDocument,
    NotFound,
    Refusal,
    SoleApprover,
    Unavailable,
    WithdrawalByAnother,
)
from app.ledger.entry import Kind
from app.operations.context import (
    ATTEMPTS,
    NO_VERSION,
    Context,
    new_id,
    refuse_reused_key,
)
from app.operations.names import (
    disagreements,
    lines_of,
    unknown_in_assessment,
    unknown_in_report,
    unknown_in_sign_off,
)
from app.storage.ledger import (
    Appended,
    Draft,
    EvidenceRow,
    ModelRow,
    Recorded,
    Stale,
    WithdrawalRow,
)
from app.storage.store import (
    KnownEvidence,
    approved_stream,
    found_stream,
    model_stream,
    weights_stream,
)
from app.vocabulary import is_slug

CLOCK_SLACK: Final = timedelta(minutes=1)
"""How far a client's clock may be ahead of ours."""


async def register_model(context: Context, model: ModelVersion) -> tuple[Recorded, bool]:
    """Register *model*. The same body again gives the same answer; another one is refused.

    Gives what is recorded, and whether it was there before. Raises `AlreadyRecorded`, and
    `InvalidDocument` where other model versions with the same weights say otherwise of them.
    """
    document = _document(model)
    stream = model_stream(model.model)
    for _ in range(ATTEMPTS):
        rests_on: dict[str, int] = {}
        if model.weights is not None:
            # Read first, so that whoever registers the same weights in between makes this stale.
            rests_on |= await context.store.streams([weights_stream(model.weights)])
        known = await context.store.known_model(model.model)
        rests_on[stream] = known.stream
        if known.recorded is not None:
            if known.recorded.document == document:
                await refuse_reused_key(context)
                return known.recorded, True
            message = "with another body; a changed model is another version"
            raise AlreadyRecorded("model", model.model, message)
        if model.parent is not None:
            parent = await context.store.known_model(model.parent)
            if parent.recorded is None:
                raise InvalidDocument((unknown_model("/parent", model.parent),))
        if model.weights is not None:
            others = await context.store.models_with(model.weights)
            if faults := disagreements(model, others):
                raise InvalidDocument(tuple(faults))
        try:
            appended = await context.store.ledger.append(
                [
                    Draft(
                        Kind.MODEL,
                        model.model,
                        ModelRow(model.model, model.developer, model.weights),
                        lambda _: document,
                    )
                ],
                actor=context.actor,
                rests_on=rests_on,
                touches=_touched(Kind.ASSESSMENT, model.model, model.weights),
                key=context.key,
            )
        except Stale:
            continue
        return appended.records[0], appended.replayed
    raise Unavailable("contention", "this model is being registered by others; ask again")


async def record_assessment(context: Context, assessment: Assessment) -> Appended:
    """Record *assessment*.

    Raises `InvalidDocument` naming everything in it that is unknown, `RoleNotHeld` where it finds as
    a role that the caller does not hold, and `SoleApprover` where the caller alone has approved what
    it permits.
    """
    at = assessment.conducted_at
    known = await context.store.known()
    faults = in_the_future(context, "conducted_at", at)
    faults += unknown_in_assessment(
        assessment,
        lambda policy: known.named_at(policy, at, context.now),
        lines_of(known.every_version()),
    )
    for i, finding in enumerate(assessment.findings):
        for field in ("bounded_by", "carried_over_from"):
            other: str | None = getattr(finding, field)
            if other is None:
                continue
            known_other = await context.store.known_model(other)
            if known_other.recorded is None:
                faults.append(unknown_model(pointer("findings", i, field), other))
    permits = {f.policy for f in assessment.findings if f.outcome in PERMITTING}
    # What permits nothing rests on nobody's approvals, and is recorded without a look at them.
    about = await _weights_or_name(context, assessment.model) if permits else ""

    async def refusal() -> Refusal | None:
        context.refuse_unheld(role for finding in assessment.findings for role in finding.by)
        if permits and await _has_alone_approved(context, assessment.model, permits):
            return SoleApprover(assessment.model)
        return None

    return await record_piece(
        context,
        Kind.ASSESSMENT,
        "asm",
        assessment,
        assessment.model,
        faults,
        lambda id: EvidenceRow(id, Kind.ASSESSMENT.value, assessment.model, None, at),
        refusal,
        rests_on=(approved_stream(about, context.principal),) if permits else (),
        moves=(found_stream(about, context.principal),) if permits else (),
    )


async def record_safeguard(context: Context, report: SafeguardReport) -> Appended:
    """Record *report*. Raises `InvalidDocument` naming everything in it that is unknown, and
    `RoleNotHeld` where it is stated by what may be a role of the policy and the caller does not hold:
    what no text defines is met by nothing but that role's word.
    """
    known = await context.store.known()
    # A later version may name that role, and then it counts as its word.
    if is_slug(report.stated_by):
        context.refuse_unheld((report.stated_by,))
    since = report.valid_from
    faults = unknown_in_report(report, lambda policy: known.named_at(policy, since, context.now))
    return await record_piece(
        context,
        Kind.SAFEGUARD,
        "sfg",
        report,
        report.model,
        faults,
        lambda id: EvidenceRow(id, Kind.SAFEGUARD.value, report.model, report.policy, since),
    )


async def record_sign_off(context: Context, sign_off: SignOff) -> Appended:
    """Record *sign_off*, given now where it does not say when.

    Raises `InvalidDocument` naming everything in it that is unknown, `RoleNotHeld`, and `SoleApprover`
    where it approves what the caller found, and nobody else has approved it before.
    """
    given_at = sign_off.given_at or context.now
    given = sign_off.model_copy(update={"given_at": given_at})
    known = await context.store.known()
    faults = in_the_future(context, "given_at", given_at)
    faults += unknown_in_sign_off(
        given, lambda policy: known.named_at(policy, given_at, context.now)
    )

    approves = given.verb in APPROVING
    about = await _weights_or_name(context, given.model) if approves else ""

    async def refusal() -> Refusal | None:
        context.refuse_unheld((given.role,))
        if not approves or not await _has_found(context, given):
            return None
        by = (await _approvals_on(context, given.model, {given.policy})).get(
            (given.policy, given.action), []
        )
        return SoleApprover(given.model) if all(map(context.is_by_caller, by)) else None

    return await record_piece(
        context,
        Kind.SIGN_OFF,
        "sgn",
        given,
        given.model,
        faults,
        lambda id: EvidenceRow(id, Kind.SIGN_OFF.value, given.model, given.policy, given_at),
        refusal,
        rests_on=(found_stream(about, context.principal),) if approves else (),
        moves=(approved_stream(about, context.principal),) if approves else (),
    )


async def _weights_or_name(context: Context, model: str) -> str:
    """What findings on the model are about: all who serve the same weights share them."""
    return (await context.store.known_model(model)).weights or model


async def _has_alone_approved(context: Context, model: str, policies: Set[str]) -> bool:
    """Whether the caller and nobody else has approved an action under one of *policies*, of the model
    or of one with the same weights.
    """
    weights = (await context.store.known_model(model)).weights
    same = () if weights is None else await context.store.models_with(weights)
    for name in {model, *(one.model for one in same)}:
        for by in (await _approvals_on(context, name, policies)).values():
            if all(map(context.is_by_caller, by)):
                return True
    return False


async def _approvals_on(
    context: Context, model: str, policies: Set[str]
) -> Mapping[tuple[str, str], list[str]]:
    """By policy and action, by whom each standing approval of the model was given."""
    given: dict[tuple[str, str], list[str]] = {}
    for one, said in await context.store.standing(model, Kind.SIGN_OFF, SignOff):
        if said.verb in APPROVING and said.policy in policies:
            given.setdefault((said.policy, said.action), []).append(one.by)
    return given


async def _has_found(context: Context, given: SignOff) -> bool:
    """Whether the caller recorded a finding that stands and may let pass what is signed."""
    return any(
        context.is_by_caller(one.by)
        and any(f.policy == given.policy and f.outcome in PERMITTING for f in said.findings)
        for one, said in await context.store.standing(given.model, Kind.ASSESSMENT, Assessment)
    )


WITHDRAWN: Final = {
    Kind.ASSESSMENT: "assessment",
    Kind.SAFEGUARD: "safeguard",
    Kind.SIGN_OFF: "sign_off",
    Kind.EXCEPTION: "exception",
}
"""What can be withdrawn, and what its withdrawal calls it. An order is lifted instead."""


async def withdraw(context: Context, kind: Kind, id: str, withdrawal: Withdrawal) -> Appended:
    """Withdraw that piece of evidence, with a reason; what was decided on it stays as it was.

    Raises `NotFound`, `AlreadyRecorded` where it was withdrawn before, `WithdrawalByAnother` where it
    may count against an action and the caller did not record it, and `InvalidDocument` where
    `superseded_by` is no other piece of its kind on the same model version that still counts.
    """

    async def refusal(known: KnownEvidence) -> Refusal | None:
        if withdrawal.superseded_by is not None:
            # Read after what it succeeds, so that its own withdrawal meanwhile makes this stale.
            other = await context.store.known_evidence(withdrawal.superseded_by, kind)
            counts = other is not None and other.model == known.model and not other.withdrawn
            if not counts or withdrawal.superseded_by == id:
                message = f"names no other recorded {kind.value} of the same model that counts"
                fault = Fault("/superseded_by", f"unknown-{kind.value}", message)
                return InvalidDocument((fault,))
        if known.withdrawn:
            return AlreadyRecorded("withdrawal of", id, "it was withdrawn before")
        if context.is_by_caller(known.recorded_by):
            return None
        if known.may_count_against() or await _asks_anew(context, known):
            return WithdrawalByAnother(kind.value, id)
        return None

    def draft(known: KnownEvidence) -> Draft:
        own = new_id("wdr")
        body = {"id": own, WITHDRAWN[kind]: id, **withdrawal.model_dump(mode="json")}
        document = canonical_json(body)
        return Draft(Kind.WITHDRAWAL, own, WithdrawalRow(own, id, known.model), lambda _: document)

    return await record_on(context, kind, id, refusal, draft)


async def _asks_anew(context: Context, known: KnownEvidence) -> bool:
    """Whether it is an assessment from which the clock of a binding obligation runs."""
    says = known.says()
    if not isinstance(says, Assessment):
        return False
    versions = (await context.store.known()).every_version()
    return any(starts_binding_clock(version, says.kind) for version in versions)


async def record_on(
    context: Context,
    kind: Kind,
    id: str,
    refusal: Callable[[KnownEvidence], Awaitable[Refusal | None]],
    draft: Callable[[KnownEvidence], Draft],
) -> Appended:
    """Record the draft on that piece of evidence, unless it is refused on what is there when it is
    recorded. Raises `NotFound`, and what *refusal* gives.
    """
    for _ in range(ATTEMPTS):
        known = await context.store.known_evidence(id, kind)
        if known is None:
            raise NotFound(kind.value, id)
        refused = await refusal(known)
        if refused is not None and context.key is None:
            raise refused
        stream = model_stream(known.model)
        try:
            return await context.store.ledger.append(
                [draft(known)],
                actor=context.actor,
                # What is refused now may have been recorded when its key first came.
                rests_on={stream: known.stream if refused is None else NO_VERSION},
                touches=_touched(kind, known.model, known.weights),
                key=context.key,
            )
        except Stale:
            if refused is not None:
                raise refused from None
    raise Unavailable("contention", "the evidence on this model is moving; ask again")


def _touched(kind: Kind, model: str, weights: str | None) -> tuple[str, ...]:
    """The streams that a piece of evidence moves: assessments are shared by all who serve the same
    weights.
    """
    if kind is Kind.ASSESSMENT and weights is not None:
        return model_stream(model), weights_stream(weights)
    return (model_stream(model),)


async def record_piece(
    context: Context,
    kind: Kind,
    prefix: str,
    body: BaseModel,
    model: str,
    faults: Iterable[Fault],
    row: Callable[[str], EvidenceRow],
    refusal: Callable[[], Awaitable[Refusal | None]] | None = None,
    *,
    rests_on: tuple[str, ...] = (),
    moves: tuple[str, ...] = (),
) -> Appended:
    """Record one piece of evidence on *model*, unless it is refused on what is there then.

    `rests_on`: the streams that move with whatever *refusal* looks at; without any it rests on
    nothing but the model's being there, and models are never removed. `moves`: the streams that it
    moves beside those of the model.
    """
    known = await context.store.known_model(model)
    faults = list(faults)
    if known.recorded is None:
        faults.insert(0, unknown_model("/model", model))
    if faults:
        raise InvalidDocument(tuple(faults))
    id = new_id(prefix)
    document = canonical_json({"id": id, **body.model_dump(mode="json")})
    touches = _touched(kind, model, known.weights)
    for stream in touches:
        await context.store.gates.passed(stream)
    for _ in range(ATTEMPTS):
        # Read first, so that whatever is recorded meanwhile makes this stale.
        versions = await context.store.streams(rests_on) if rests_on else {}
        refused = None if refusal is None else await refusal()
        if refused is not None and context.key is None:
            raise refused
        if refused is not None:
            # It may have been recorded when its key first came.
            versions = dict.fromkeys(touches, NO_VERSION)
        try:
            return await context.store.ledger.append(
                [Draft(kind, id, row(id), lambda _: document)],
                actor=context.actor,
                rests_on=versions,
                touches=(*touches, *moves),
                key=context.key,
            )
        except Stale:
            if refused is not None:
                raise refused from None
    raise Unavailable("contention", "the evidence on this model is moving; ask again")


def _document(body: BaseModel) -> bytes:
    return canonical_json(body.model_dump(mode="json"))


def unknown_model(place: str, model: str) -> Fault:
    """That a model version is named at *place* which is not registered."""
    return Fault(place, "unknown-model", f"model `{model}` is not registered")


def in_the_future(context: Context, field: str, at: datetime) -> list[Fault]:
    """Nobody has assessed or signed tomorrow: only what is in place may have a start to come."""
    if at <= context.now + CLOCK_SLACK:
        return []
    return [Fault(pointer(field), "in-the-future", "lies in the future")]
