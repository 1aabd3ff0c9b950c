"""A determination on evidence given in the request: recorded nowhere, and saying so."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from app.assessment.assessment import Assessment, ModelVersion
from app.assessment.evidence import Evidence, Recorded
from app.assessment.fulfilments import SupposedFulfilment
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import canonical_json, digest
from app.decoding import pointer
from app.determination.decide import Question, decide
from app.determination.obligations import as_given, obligations_of
from app.determination.record import ENGINE_VERSION, SEMANTICS
from app.errors import Fault, InvalidDocument, NotFound
from app.operations.context import Context
from app.operations.names import (
    lines_of,
    unknown_in_assessment,
    unknown_in_report,
    unknown_in_sign_off,
)
from app.policy.timeline import Activated, PolicyInForce, in_force_at, timeline
from app.policy.version import PolicyVersion
from app.storage.store import Policies, RecordedPolicy
from app.vocabulary import (
    Document,
    Flag,
    Instant,
    ModelRef,
    Slug,
    VersionLabel,
    write_instant,
)


class Supposed(Document):
    """Evidence as it would be recorded."""

    assessments: tuple[Assessment, ...] = ()
    safeguards: tuple[SafeguardReport, ...] = ()
    sign_offs: tuple[SignOff, ...] = ()
    fulfilments: tuple[SupposedFulfilment, ...] = ()


class Simulated(Document):
    """What would be said of this action, if that were the evidence?

    `version` asks a recorded version whether it is in force or not; without it, the one in force at
    `at` (default: now) answers. `developer` describes a model that is not registered. With
    `on_top_of_record` the evidence is added to what is recorded; otherwise it is all there is.
    """

    model: ModelRef
    action: Slug
    policy: Slug
    version: VersionLabel | None = None
    developer: Slug | None = None
    at: Instant | None = None
    evidence: Supposed = Supposed()
    on_top_of_record: Flag = False


_SupposedPiece = Assessment | SafeguardReport | SignOff | SupposedFulfilment


async def simulate(context: Context, simulated: Simulated) -> dict[str, Any]:
    """The determination, without an id, a ledger position or a past.

    Raises `InvalidDocument` where evidence speaks of another model, or names what the version that
    answers does not, `NotFound` for an unknown `version`.
    """
    supposed = simulated.evidence
    kinds: tuple[tuple[str, Sequence[_SupposedPiece]], ...] = (
        ("assessments", supposed.assessments),
        ("safeguards", supposed.safeguards),
        ("sign_offs", supposed.sign_offs),
        ("fulfilments", supposed.fulfilments),
    )
    faults = tuple(
        Fault(
            pointer("evidence", kind, i, "model"),
            "other-model",
            f"must be `{simulated.model}`, the model that is asked about",
        )
        for kind, items in kinds
        for i, item in enumerate(items)
        if item.model != simulated.model
    )
    if faults:
        raise InvalidDocument(faults)
    at = simulated.at or context.now
    # Nothing will check it afterwards, so it is read anew.
    snapshot = await context.store.snapshot(
        simulated.model, simulated.policy, None, from_memory=False
    )
    policy: PolicyInForce | None
    if simulated.version is None:
        policy = in_force_at(snapshot.timeline, at)
    else:
        label = simulated.version
        recorded_version = snapshot.policies.version(label)
        if recorded_version is None:
            raise NotFound("policy version", f"{simulated.policy} {label}")
        policy = _as_in_force(context, snapshot.policies, recorded_version, at)
    model = snapshot.model
    if simulated.developer is not None:
        model = ModelVersion(model=simulated.model, developer=simulated.developer)
    recorded = snapshot.evidence if simulated.on_top_of_record else Evidence()
    given = tuple(
        sign_off if sign_off.given_at else sign_off.model_copy(update={"given_at": at})
        for sign_off in supposed.sign_offs
    )
    _refuse_unknown_names(simulated, policy)
    evidence = replace(
        recorded,
        assessments=recorded.assessments + _numbered("assessments", supposed.assessments),
        safeguards=recorded.safeguards + _numbered("safeguards", supposed.safeguards),
        sign_offs=recorded.sign_offs + _numbered("sign_offs", given),
        fulfilments=recorded.fulfilments
        + _numbered("fulfilments", [as_given(one, at) for one in supposed.fulfilments]),
    )
    evidence = await context.store.with_others(simulated.model, evidence)
    question = Question(simulated.model, simulated.action, simulated.policy, at)
    determination = decide(question, policy, model, evidence)
    binding = policy is not None and policy.version.has_binding_obligations
    return determination.model_dump(mode="json") | {
        "recorded": False,
        "model": simulated.model,
        "action": simulated.action,
        "provenance": {
            "policy": {
                "name": simulated.policy,
                "version": policy.version.version if policy else None,
                "digest": policy.digest if policy else None,
            },
            "evidence": [
                {"id": id, "digest": digest} for id, digest in evidence.names(fulfilments=binding)
            ],
            "engine": {"version": ENGINE_VERSION, "semantics": SEMANTICS},
            "at": write_instant(at),
        },
    }


def _as_in_force(
    context: Context, policies: Policies, asked: RecordedPolicy, at: datetime
) -> PolicyInForce:
    """The version with the time in which it is in force: at *at*, or else ever. One that never was
    activated is taken as though it were in force from the publisher's date on.
    """
    spans = policies.spans(asked.digest)
    if spans:
        return in_force_at(spans, at) or spans[0]
    first = context.store.first_recorded(asked.digest, policies.versions)
    version = asked.version
    (supposed,) = timeline([Activated(version, asked.digest, version.effective, first)])
    return supposed


def _refuse_unknown_names(simulated: Simulated, policy: PolicyInForce | None) -> None:
    """What the answering version does not name would be left out in silence."""
    if policy is None:
        return
    version, supposed = policy.version, simulated.evidence

    def versions(name: str) -> list[PolicyVersion]:
        return [version] if name == version.policy else []

    faults = [
        *(
            fault
            for i, one in enumerate(supposed.assessments)
            for fault in unknown_in_assessment(
                one, versions, lines_of([version]), ("evidence", "assessments", i)
            )
        ),
        *(
            fault
            for i, report in enumerate(supposed.safeguards)
            for fault in unknown_in_report(report, versions, ("evidence", "safeguards", i))
        ),
        *(
            fault
            for i, sign_off in enumerate(supposed.sign_offs)
            for fault in unknown_in_sign_off(sign_off, versions, ("evidence", "sign_offs", i))
        ),
        *(
            fault
            for i, one in enumerate(supposed.fulfilments)
            for fault in _unknown_in_fulfilment(one, version, i)
        ),
    ]
    if faults:
        raise InvalidDocument(tuple(faults))


def _unknown_in_fulfilment(
    supposed: SupposedFulfilment, version: PolicyVersion, position: int
) -> Iterator[Fault]:
    place = ("evidence", "fulfilments", position)
    asked = obligations_of(version).get(supposed.pointer)
    if supposed.policy != version.policy:
        message = f"must be `{version.policy}`, the policy that is asked"
        yield Fault(pointer(*place, "policy"), "other-policy", message)
    elif asked is None or asked.id != supposed.name:
        message = f"`{version.policy}` {version.version} has no obligation `{supposed.name}` there"
        yield Fault(pointer(*place, "pointer"), "unknown-obligation", message)


def _numbered(kind: str, items: Sequence[Any]) -> tuple[Recorded[Any], ...]:
    """Supposed evidence has no id, so its place in the request names it."""
    return tuple(
        Recorded(f"supposed_{kind}_{i:04}", digest(_bytes(item)), item)
        for i, item in enumerate(items)
    )


def _bytes(item: BaseModel) -> bytes:
    return canonical_json(item.model_dump(mode="json"))
