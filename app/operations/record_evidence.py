"""Register a model version; record what was found of it and what is in place; withdraw what fell.

Everything that a document names must be known: the model, and for each policy its thresholds,
lines, roles, standards, criteria and actions, in one of the versions that are recorded. All that is
unknown is said at once, each with its pointer.
"""

from collections.abc import Callable, Iterable

from pydantic import BaseModel

from app.assessment.assessment import Assessment, ModelVersion, Withdrawal
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import canonical_json
from app.decoding import pointer
from app.errors import AlreadyRecorded, Fault, InvalidDocument, NotFound, Unavailable
from app.ledger.entry import Kind
from app.operations.context import ATTEMPTS, Context, new_id
from app.policy.version import PolicyVersion
from app.storage.ledger import (
    Appended,
    Draft,
    EvidenceRow,
    ModelRow,
    Recorded,
    Stale,
    WithdrawalRow,
)
from app.storage.store import Known, model_stream

_NEVER = -1
"""A stream version that no stream has."""


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
    known = await context.store.known(f.policy for f in assessment.findings)
    faults = [
        Fault(
            pointer("results", i, "line"),
            "unknown-line",
            f"no recorded policy version has a line `{result.line}`",
        )
        for i, result in enumerate(assessment.results)
        if not known.has_line(result.line)
    ]
    for i, finding in enumerate(assessment.findings):
        place = ("findings", i)
        faults += _unknown_policy(known, finding.policy, place)
        faults += _unknown(
            known,
            finding.policy,
            "threshold",
            finding.threshold,
            lambda version: version.thresholds,
            (*place, "threshold"),
        )
        for j, role in enumerate(finding.by):
            faults += _unknown(
                known,
                finding.policy,
                "role",
                role,
                lambda version: version.roles,
                (*place, "by", j),
            )
        if finding.bounded_by is not None:
            bounding = await context.store.known_model(finding.bounded_by)
            if bounding.recorded is None:
                place_of_model = pointer(*place, "bounded_by")
                faults.append(_unknown_model(place_of_model, finding.bounded_by))
    return await _record(
        context,
        Kind.ASSESSMENT,
        "asm",
        assessment,
        assessment.model,
        faults,
        lambda id: EvidenceRow(
            id, Kind.ASSESSMENT.value, assessment.model, None, assessment.conducted_at
        ),
    )


async def record_safeguard(context: Context, report: SafeguardReport) -> Appended:
    """Record *report*. Raises `InvalidDocument` naming everything in it that is unknown."""
    known = await context.store.known([report.policy])
    faults = _unknown_policy(known, report.policy, ())
    faults += _unknown(
        known,
        report.policy,
        "standard",
        report.standard,
        lambda version: version.standards,
        ("standard",),
    )
    if not faults and report.criterion is not None:
        faults += _unknown(
            known,
            report.policy,
            "criterion",
            report.criterion,
            lambda version: _criteria(version, report.standard),
            ("criterion",),
        )
    return await _record(
        context,
        Kind.SAFEGUARD,
        "sfg",
        report,
        report.model,
        faults,
        lambda id: EvidenceRow(
            id, Kind.SAFEGUARD.value, report.model, report.policy, report.valid_from
        ),
    )


async def record_sign_off(context: Context, sign_off: SignOff) -> Appended:
    """Record *sign_off*, given now where it does not say when.

    Raises `InvalidDocument` naming everything in it that is unknown.
    """
    given_at = sign_off.given_at or context.now
    given = sign_off.model_copy(update={"given_at": given_at})
    known = await context.store.known([sign_off.policy])
    faults = _unknown_policy(known, sign_off.policy, ())
    for name, value, names in (
        ("action", sign_off.action, lambda version: version.actions),
        ("role", sign_off.role, lambda version: version.roles),
    ):
        faults += _unknown(known, sign_off.policy, name, value, names, (name,))
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
                rests_on={stream: _NEVER if known.withdrawn else known.stream},
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
    return await context.store.ledger.append(
        [Draft(kind, id, row(id), lambda _: document)],
        actor=context.actor,
        rests_on={},
        touches=(model_stream(model),),
        key=context.key,
    )


def _document(body: BaseModel) -> bytes:
    return canonical_json(body.model_dump(mode="json"))


def _unknown_model(place: str, model: str) -> Fault:
    return Fault(place, "unknown-model", f"model `{model}` is not registered")


def _unknown_policy(known: Known, policy: str, place: tuple[str | int, ...]) -> list[Fault]:
    if known.versions(policy):
        return []
    message = f"no version of policy `{policy}` is recorded"
    return [Fault(pointer(*place, "policy"), "unknown-policy", message)]


def _unknown(
    known: Known,
    policy: str,
    kind: str,
    name: str,
    names: Callable[[PolicyVersion], Iterable[str]],
    place: tuple[str | int, ...],
) -> list[Fault]:
    """A fault unless some recorded version of the policy names *name*; none if it has no version,
    which is a fault of its own.
    """
    versions = known.versions(policy)
    if not versions or any(name in names(version) for version in versions):
        return []
    message = f"no recorded version of `{policy}` names a {kind} `{name}`"
    return [Fault(pointer(*place), f"unknown-{kind}", message)]


def _criteria(version: PolicyVersion, standard: str) -> Iterable[str]:
    known = version.standards.get(standard)
    if known is None or known.criteria is None:
        return
    for criterion, content in known.criteria.items():
        yield criterion
        for part in content.parts or ():
            yield f"{criterion}/{part}"
