"""Register a model version; record what was found of it and what is in place; withdraw what fell.

Everything that a document names must be known: the model, and for each policy its thresholds,
lines, roles, standards, criteria and actions, in one of the versions that are recorded. All that is
unknown is said at once, each with its pointer.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel

from app.assessment.assessment import Assessment, ModelVersion, Withdrawal
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import canonical_json
from app.decoding import pointer
from app.errors import AlreadyRecorded, Fault, InvalidDocument, NotFound, Unavailable
from app.ledger.entry import Kind
from app.operations.context import (
    ATTEMPTS,
    NO_VERSION,
    Context,
    new_id,
    refuse_reused_key,
)
from app.operations.names import (
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
from app.storage.store import model_stream

CLOCK_SLACK: Final = timedelta(minutes=1)
"""How far a client's clock may be ahead of ours."""


async def register_model(context: Context, model: ModelVersion) -> tuple[Recorded, bool]:
    """Register *model*. The same body again gives the same answer; another one is refused.

    Gives what is recorded, and whether it was there before. Raises `AlreadyRecorded`.
    """
    document = _document(model)
    stream = model_stream(model.model)
    for _ in range(ATTEMPTS):
        known = await context.store.known_model(model.model)
        if known.recorded is not None:
            if known.recorded.document == document:
                await refuse_reused_key(context)
                return known.recorded, True
            message = "with another body; a changed model is another version"
            raise AlreadyRecorded("model", model.model, message)
        if model.parent is not None:
            parent = await context.store.known_model(model.parent)
            if parent.recorded is None:
                raise InvalidDocument((_unknown_model("/parent", model.parent),))
        try:
            appended = await context.store.ledger.append(
                [
                    Draft(
                        Kind.MODEL,
                        model.model,
                        ModelRow(model.model, model.developer),
                        lambda _: document,
                    )
                ],
                actor=context.actor,
                rests_on={stream: known.stream},
                touches=(stream,),
                key=context.key,
            )
        except Stale:
            continue
        return appended.records[0], appended.replayed
    raise Unavailable("contention", "this model is being registered by others; ask again")


async def record_assessment(context: Context, assessment: Assessment) -> Appended:
    """Record *assessment*. Raises `InvalidDocument` naming everything in it that is unknown."""
    at = assessment.conducted_at
    known = await context.store.known(f.policy for f in assessment.findings)
    faults = _in_the_future(context, "conducted_at", at)
    faults += unknown_in_assessment(
        assessment, lambda policy: known.named_at(policy, at, context.now), known.lines
    )
    for i, finding in enumerate(assessment.findings):
        if finding.bounded_by is not None:
            bounding = await context.store.known_model(finding.bounded_by)
            if bounding.recorded is None:
                place = pointer("findings", i, "bounded_by")
                faults.append(_unknown_model(place, finding.bounded_by))
    return await _record(
        context,
        Kind.ASSESSMENT,
        "asm",
        assessment,
        assessment.model,
        faults,
        lambda id: EvidenceRow(id, Kind.ASSESSMENT.value, assessment.model, None, at),
    )


async def record_safeguard(context: Context, report: SafeguardReport) -> Appended:
    """Record *report*. Raises `InvalidDocument` naming everything in it that is unknown."""
    known = await context.store.known([report.policy])
    since = report.valid_from
    faults = unknown_in_report(report, lambda policy: known.named_at(policy, since, context.now))
    return await _record(
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

    Raises `InvalidDocument` naming everything in it that is unknown.
    """
    given_at = sign_off.given_at or context.now
    given = sign_off.model_copy(update={"given_at": given_at})
    known = await context.store.known([sign_off.policy])
    faults = _in_the_future(context, "given_at", given_at)
    faults += unknown_in_sign_off(
        given, lambda policy: known.named_at(policy, given_at, context.now)
    )
    return await _record(
        context,
        Kind.SIGN_OFF,
        "sgn",
        given,
        given.model,
        faults,
        lambda id: EvidenceRow(id, Kind.SIGN_OFF.value, given.model, given.policy, given_at),
    )


async def withdraw_assessment(context: Context, id: str, withdrawal: Withdrawal) -> Appended:
    """Withdraw the assessment, with a reason; what was decided on it stays as it was.

    Raises `NotFound`, and `AlreadyRecorded` where it was withdrawn before.
    """
    for _ in range(ATTEMPTS):
        known = await context.store.known_assessment(id)
        if known is None:
            raise NotFound("assessment", id)
        if known.withdrawn and context.key is None:
            raise AlreadyRecorded("withdrawal of", id, "it was withdrawn before")
        if withdrawal.superseded_by is not None:
            successor = await context.store.known_assessment(withdrawal.superseded_by)
            if (
                successor is None
                or successor.model != known.model
                or withdrawal.superseded_by == id
            ):
                message = "names no other recorded assessment of the same model"
                fault = Fault("/superseded_by", "unknown-assessment", message)
                raise InvalidDocument((fault,))
        stream = model_stream(known.model)
        own = new_id("wdr")
        body = {"id": own, "assessment": id, **withdrawal.model_dump(mode="json")}
        document = canonical_json(body)
        try:
            return await context.store.ledger.append(
                [
                    Draft(
                        Kind.WITHDRAWAL,
                        own,
                        WithdrawalRow(own, id, known.model),
                        lambda _, document=document: document,  # type: ignore[misc]
                    )
                ],
                actor=context.actor,
                # Only a replay of its own key may answer for one that was withdrawn before.
                rests_on={stream: NO_VERSION if known.withdrawn else known.stream},
                touches=(stream,),
                key=context.key,
            )
        except Stale:
            if known.withdrawn:
                raise AlreadyRecorded("withdrawal of", id, "it was withdrawn before") from None
    raise Unavailable("contention", "the evidence on this model is moving; ask again")


async def _record(
    context: Context,
    kind: Kind,
    prefix: str,
    body: BaseModel,
    model: str,
    faults: Iterable[Fault],
    row: Callable[[str], EvidenceRow],
) -> Appended:
    """Record one piece of evidence on *model*. The evidence does not depend on what else is known,
    so it rests on nothing but the model's being there, and models are never removed.
    """
    known = await context.store.known_model(model)
    faults = list(faults)
    if known.recorded is None:
        faults.insert(0, _unknown_model("/model", model))
    if faults:
        raise InvalidDocument(tuple(faults))
    id = new_id(prefix)
    document = canonical_json({"id": id, **body.model_dump(mode="json")})
    stream = model_stream(model)
    await context.store.gates.passed(stream)
    return await context.store.ledger.append(
        [Draft(kind, id, row(id), lambda _: document)],
        actor=context.actor,
        rests_on={},
        touches=(stream,),
        key=context.key,
    )


def _document(body: BaseModel) -> bytes:
    return canonical_json(body.model_dump(mode="json"))


def _unknown_model(place: str, model: str) -> Fault:
    return Fault(place, "unknown-model", f"model `{model}` is not registered")


def _in_the_future(context: Context, field: str, at: datetime) -> list[Fault]:
    """Nobody has assessed or signed tomorrow: only what is in place may have a start to come."""
    if at <= context.now + CLOCK_SLACK:
        return []
    return [Fault(pointer(field), "in-the-future", "lies in the future")]
