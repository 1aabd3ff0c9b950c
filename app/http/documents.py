"""What answers look like, for the OpenAPI document. The answers themselves are recorded bytes."""

from typing import Any, Final, Literal

from pydantic import BaseModel, Field, RootModel

from app.assessment.assessment import Assessment, ModelVersion, Withdrawal
from app.assessment.exceptions import GivenApproval, RequestedException
from app.assessment.fulfilments import GivenFulfilment
from app.assessment.orders import Lifting, Order
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.determination.backtest import Difference
from app.determination.record import (
    Determination,
    Engine,
    EvidenceNamed,
    PolicyNamed,
    Provenance,
)
from app.http.problems import MEDIA_TYPE
from app.operations.ask_gate import Gate
from app.operations.obligations import ObligationStatus
from app.operations.receive import DeliveryStatus
from app.policy.timeline import RecordedActivation, RecordedApproval
from app.policy.version import PolicyVersion
from app.vocabulary import Document, Instant


class LedgerPosition(Document):
    """Where a record stands in the ledger; not part of the recorded bytes."""

    index: int
    leaf_hash: str
    recorded_at: Instant


PolicyStatus = Literal["draft", "approved", "scheduled", "in-force", "superseded"]


class InForce(Document):
    """From when, and until when as far as is recorded."""

    since: Instant = Field(alias="from")
    until: Instant | None


class ApprovalGiven(Document):
    """Who approved a version, and when."""

    id: str
    by: str
    given_at: Instant
    reason: str


class ActivationGiven(Document):
    """Who put a version in force, from when, and when that was said."""

    id: str
    by: str
    in_force_from: Instant
    given_at: Instant
    retroactive: bool
    reason: str | None


class PolicyVersionNamed(Document):
    """A recorded policy version, in a list."""

    version: str
    digest: str
    effective: Instant
    status: PolicyStatus
    in_force: InForce | None


class PolicyVersionAnswer(Document):
    """A recorded policy version.

    `status` is that at the server's time. `in_force` is the time in which it is in force now, or
    will be next, or, in an answer about an instant, was then; `null`: none of these. `spans` are
    all such times, in order: a version that was superseded can be activated again.
    """

    policy: str
    version: str
    digest: str
    status: PolicyStatus
    in_force: InForce | None
    spans: tuple[InForce, ...]
    approvals: tuple[ApprovalGiven, ...]
    activations: tuple[ActivationGiven, ...]
    ledger: LedgerPosition
    document: PolicyVersion


class PolicyVersions(Document):
    """All recorded versions of a policy, in the order of recording."""

    policy: str
    versions: tuple[PolicyVersionNamed, ...]


class PolicyApprovalAnswer(RecordedApproval):
    """A recorded approval of a policy version."""

    id: str
    ledger: LedgerPosition


class PolicyActivationAnswer(RecordedActivation):
    """A recorded activation of a policy version."""

    id: str
    ledger: LedgerPosition


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
    """A recorded withdrawal; it names the one piece of evidence that no longer counts."""

    id: str
    assessment: str | None = None
    safeguard: str | None = None
    sign_off: str | None = None
    exception: str | None = None
    ledger: LedgerPosition


class ExceptionAnswer(RequestedException):
    """A recorded request for an exception."""

    id: str
    ledger: LedgerPosition


class ExceptionApprovalAnswer(GivenApproval):
    """A recorded approval of an exception."""

    id: str
    ledger: LedgerPosition


class RecordedOrder(Order):
    """A recorded order."""

    id: str
    ledger: LedgerPosition


class RecordedLifting(Lifting):
    """A recorded lifting of an order."""

    id: str
    order: str
    ledger: LedgerPosition


class ObligationPage(Document):
    """Obligations by due, those without one last; `next` as in other lists.

    Determinations were read for them up to ledger index `as_of`, and there are `behind` entries
    more.
    """

    obligations: tuple[ObligationStatus, ...]
    next: str | None
    as_of: int
    behind: int


class DeliveryPage(Document):
    """Deliveries to a binding, newest first; `next` as in other lists."""

    deliveries: tuple[DeliveryStatus, ...]
    next: str | None


class RecordedFulfilment(GivenFulfilment):
    """A recorded fulfilment of an obligation."""

    id: str
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


class RecordedGate(Gate):
    """A recorded gate."""

    ledger: LedgerPosition


class GateAnswer(RecordedGate):
    """A recorded gate, with the determinations that it is the strictest of."""

    answers: tuple[RecordedDetermination, ...]


class ShadowDifferences(Document):
    """What a shadow would have said otherwise, newest first; `next` as in other lists."""

    differences: tuple[Difference, ...]
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


class DsseSignature(Document):
    """A signature over the envelope's type and payload, in base64, and by which key it is."""

    keyid: str
    sig: str


class DsseEnvelope(Document):
    """A signed in-toto Statement, in base64, whose predicate is a SLSA verification summary."""

    payloadType: str  # noqa: N815 - as DSSE has it
    payload: str
    signatures: tuple[DsseSignature, ...]


class SigstoreBundle(Document):
    """The same envelope as a Sigstore bundle, to be verified with a known public key."""

    mediaType: str  # noqa: N815 - as Sigstore has it
    verificationMaterial: dict[str, Any]  # noqa: N815
    dsseEnvelope: DsseEnvelope  # noqa: N815


class KeyOnRecord(Document):
    """An API key as it is listed: everything but the key itself.

    `created_by`: who made it, and by which credential. `used_at`: about when it was last used.
    """

    id: str
    principal: str
    name: str | None
    roles: tuple[str, ...]
    policy_roles: tuple[str, ...]
    created_by: str
    created_at: Instant
    expires_at: Instant | None
    revoked_at: Instant | None
    used_at: Instant | None


class Keys(Document):
    """All API keys that ever were."""

    keys: tuple[KeyOnRecord, ...]


class KeyMade(Document):
    """A key that was just made. `key` is the key itself; `null` where the request is a repeated one.

    `succeeds`: the id of the key in whose place it was made.
    """

    id: str
    principal: str
    name: str | None
    roles: tuple[str, ...]
    policy_roles: tuple[str, ...]
    created_at: Instant
    expires_at: Instant | None
    succeeds: str | None
    by: str
    key: str | None
    ledger: LedgerPosition


class KeyRevoked(Document):
    """That a key opens nothing any more."""

    id: str
    credential: str
    reason: str
    revoked_at: Instant
    by: str
    ledger: LedgerPosition


class AttestationKeyAnswer(Document):
    """A public key: `keyid` is the SHA-256 of its DER form, `public_key` is PEM."""

    keyid: str
    algorithm: Literal["ed25519"]
    public_key: str


class AttestationKeys(Document):
    """Which keys sign for which verifier: trust them as a pair."""

    verifier: str
    keys: tuple[AttestationKeyAnswer, ...]


class LedgerKeyAnswer(Document):
    """A key that signs checkpoints from `from_size` entries on; `until_size`: from then on no more."""

    vkey: str
    from_size: int
    until_size: int | None


class LedgerKeysAnswer(Document):
    """The log's keys, and the signed statements from which that is known, in their order."""

    log: str
    keys: tuple[LedgerKeyAnswer, ...]
    statements: tuple[str, ...]


class ProofAnswer(Document):
    """That an entry is in the tree of a checkpoint. `leaf_hash` is hexadecimal; `entry`, `root` and the
    lines of `proof`, from the leaf up, are base64. `checkpoint` is the signed note.
    """

    log: str
    index: int
    entry: str
    leaf_hash: str
    size: int
    root: str
    proof: tuple[str, ...]
    checkpoint: str


class InclusionAnswer(Document):
    """That an entry is in the tree of a size. `leaf_hash` is hexadecimal; `root` and the lines of
    `proof`, from the leaf up, are base64.
    """

    index: int
    leaf_hash: str
    size: int
    root: str
    proof: tuple[str, ...]


class ConsistencyAnswer(Document):
    """That the tree of one size extends that of another. Roots and the lines of `proof` are base64."""

    old: int = Field(alias="from")
    from_root: str
    new: int = Field(alias="to")
    to_root: str
    proof: tuple[str, ...]


class Health(Document):
    """How the service is; `reason` says why it is not ready."""

    status: str
    reason: str | None = None


class JsonSchema(RootModel[dict[str, Any]]):
    """A JSON Schema, draft 2020-12."""


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
    parameter: str | None = None
    reason: str | None = None
    determination: RecordedDetermination | str | None = None
    """The whole of it where `enforce=true` refused; its id where it is superseded."""
    gate: GateAnswer | None = None
    """The whole of it where `enforce=true` refused."""
    sign_offs: tuple[str, ...] | None = None
    """The ids of the approvals that one person gave, and nobody else."""
    assessments: tuple[str, ...] | None = None
    """The ids of what the same person found."""


ANSWERS: Final[dict[str, type[BaseModel]]] = {}
"""The types of all answers by name, for the OpenAPI document."""

_ANY = {
    401: "No valid API key",
    403: "The caller lacks the permission, or does not hold the role that it names",
    422: "A parameter or the document has faults; those of a document are all listed",
    429: "The caller asks more often than it may",
    503: "Not decidable or recordable now; nothing is acknowledged",
}
_OF_BODIES = {
    400: "The body cannot be read",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body has another type",
}
_OTHERS = {
    404: "Nothing is recorded under that name",
    409: "It clashes with what is recorded",
}


def answers(
    status: int, kind: type[BaseModel], description: str, *others: int, takes_body: bool = False
) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of a route's answers: its own, and the problems that it can give."""
    own: dict[str, Any] = {"description": description, "content": content_of(kind)}
    if status == 201:
        own["headers"] = {
            "Location": {
                "description": "Where it can be read",
                "required": True,
                "schema": {"type": "string"},
            }
        }
    said: dict[int | str, dict[str, Any]] = {status: own}
    if 304 in others:
        said[304] = {"description": "The caller has it already"}
    problems = _ANY | (_OF_BODIES if takes_body else {})
    problems |= {code: _OTHERS[code] for code in others if code != 304}
    for code, text in sorted(problems.items()):
        said[code] = {"description": text, "content": content_of(ProblemDetails, MEDIA_TYPE)}
    return said


def open_answers(
    description: str, content: type[BaseModel] | dict[str, Any], *others: int
) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of a route that needs no key: its own answer, and the problems."""
    own = content if isinstance(content, dict) else content_of(content)
    said: dict[int | str, dict[str, Any]] = {200: {"description": description, "content": own}}
    problems = {code: (_ANY | _OTHERS)[code] for code in sorted((*others, 503))}
    for code, text in problems.items():
        said[code] = {"description": text, "content": content_of(ProblemDetails, MEDIA_TYPE)}
    return said


PAGE_TYPES: Final = {
    "markdown": "text/markdown; charset=utf-8",
    "plain": "text/plain; charset=utf-8",
}
"""The media type of a page for people, by its form."""


def page_answers(description: str, *others: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of a route whose answer is a page for people."""
    said = answers(200, ProblemDetails, description, *others)
    text = {"schema": {"type": "string"}}
    said[200]["content"] = {kind.partition(";")[0]: text for kind in PAGE_TYPES.values()}
    return said


def content_of(kind: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    """A body of that type. `app.main.openapi` knows what the reference becomes."""
    ANSWERS[kind.__name__] = kind
    return {media_type: {"schema": {"$ref": f"#/answers/{kind.__name__}"}}}
