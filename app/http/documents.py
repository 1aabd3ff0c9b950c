"""What answers look like, for the OpenAPI document. The answers themselves are recorded bytes."""

from typing import Any

from pydantic import BaseModel, Field

from app.assessment.assessment import Assessment, ModelVersion, Withdrawal
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.determination.record import (
    Determination,
    Engine,
    EvidenceNamed,
    PolicyNamed,
    Provenance,
)
from app.http.problems import MEDIA_TYPE
from app.policy.version import PolicyVersion
from app.vocabulary import Document, Instant


class LedgerPosition(Document):
    """Where a record stands in the ledger; not part of the recorded bytes."""

    index: int
    leaf_hash: str
    recorded_at: Instant


class InForce(Document):
    """From when, and until when as far as is recorded."""

    since: Instant = Field(alias="from")
    until: Instant | None


class PolicyVersionAnswer(Document):
    """A recorded policy version."""

    policy: str
    version: str
    digest: str
    status: str
    in_force: InForce
    ledger: LedgerPosition
    document: PolicyVersion


class RecordedModelVersion(ModelVersion):
    """A registered model version."""

    ledger: LedgerPosition


class RecordedAssessment(Assessment):
    """A recorded assessment."""

    id: str
    ledger: LedgerPosition


class RecordedSafeguardReport(SafeguardReport):
    """A recorded safeguard report."""

    id: str
    ledger: LedgerPosition


class RecordedSignOff(SignOff):
    """A recorded sign-off."""

    id: str
    ledger: LedgerPosition


class RecordedWithdrawal(Withdrawal):
    """A recorded withdrawal of an assessment."""

    id: str
    assessment: str
    ledger: LedgerPosition


class RecordedDetermination(Determination):
    """A recorded determination."""

    id: str
    model: str
    action: str
    changed: dict[str, Any] | None
    provenance: Provenance
    ledger: LedgerPosition


class DeterminationBatch(Document):
    """The answers to a batch, in the order in which they were asked."""

    determinations: tuple[RecordedDetermination, ...]


class DeterminationPage(Document):
    """Determinations, newest first; `next` is the cursor of the next page, `null` on the last."""

    determinations: tuple[RecordedDetermination, ...]
    next: str | None


class SimulatedProvenance(Document):
    """What a simulation rested on."""

    policy: PolicyNamed
    evidence: tuple[EvidenceNamed, ...]
    engine: Engine
    at: Instant


class SimulatedDetermination(Determination):
    """A determination that is recorded nowhere."""

    recorded: bool
    model: str
    action: str
    provenance: SimulatedProvenance


class FaultAnswer(Document):
    """One thing that is wrong in the document that was sent."""

    pointer: str
    code: str
    message: str
    line: int | None = None
    column: int | None = None


class ProblemDetails(BaseModel):
    """RFC 9457. `errors` lists every fault of a document, each with its JSON pointer."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FaultAnswer, ...] | None = None
    reason: str | None = None


_COMMON = {
    400: "The body cannot be read",
    401: "No valid API key",
    403: "The key lacks the permission",
    503: "Not decidable or recordable now; nothing is acknowledged",
}
_OTHERS = {
    404: "Nothing is recorded under that name",
    408: "The body did not arrive in time",
    409: "It clashes with what is recorded",
    413: "The body is too large",
    415: "The body has another type",
    422: "The document or a parameter has faults, all of them listed",
}


def answers(
    status: int, kind: type[BaseModel], description: str, *others: int
) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of a route's answers: its own, and the problems that it can give."""
    problems = _COMMON | {code: _OTHERS[code] for code in others if code != 304}
    said: dict[int | str, dict[str, Any]] = {status: {"model": kind, "description": description}}
    if 304 in others:
        said[304] = {"description": "The caller has it already"}
    for code, text in sorted(problems.items()):
        schema = {"$ref": "#/components/schemas/ProblemDetails"}
        said[code] = {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}}
    return said
