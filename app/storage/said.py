"""What recorded documents say: our own bytes, read back as the types that they were made from."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, TypeAdapter

from app.assessment.assessment import Assessment, ModelVersion
from app.assessment.evidence import Recorded as RecordedEvidence
from app.assessment.exceptions import Approved, GivenApproval, RequestedException
from app.assessment.fulfilments import GivenFulfilment
from app.assessment.orders import Lifted, Lifting, Order
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import digest
from app.decoding import decode_json
from app.ledger.entry import Kind
from app.policy.timeline import RecordedActivation, RecordedApproval
from app.storage.ledger import Recorded
from app.vocabulary import TEXT

T = TypeVar("T", bound=BaseModel)

EVIDENCE: Final[Mapping[Kind, type[BaseModel]]] = {
    Kind.ASSESSMENT: Assessment,
    Kind.SAFEGUARD: SafeguardReport,
    Kind.SIGN_OFF: SignOff,
    Kind.EXCEPTION: RequestedException,
    Kind.ORDER: Order,
}
"""The kinds of record that are evidence on a model version, and what each says."""

_OTHERS: Final[tuple[type[BaseModel], ...]] = (
    ModelVersion,
    RecordedApproval,
    RecordedActivation,
    GivenApproval,
    Lifting,
    GivenFulfilment,
)
_ADAPTERS: Final[Mapping[type[BaseModel], TypeAdapter[Any]]] = {
    kind: TypeAdapter(kind) for kind in (*EVIDENCE.values(), *_OTHERS)
}


def said(kind: type[T], record: Recorded) -> T:
    """What the record says, which is of that kind; its numbers stand there as text."""
    fields = decode_json(record.document)
    assert isinstance(fields, dict)
    # They name the record, and are not part of what was said.
    for name in ("id", "order") if kind is Lifting else ("id",):
        fields.pop(name, None)
    known: T = _ADAPTERS[kind].validate_python(fields, context=dict(TEXT))
    return known


def piece(record: Recorded, item: Any = None) -> RecordedEvidence[Any]:
    """A piece of evidence with its names; *item*: it with what became of it."""
    item = said(EVIDENCE[record.kind], record) if item is None else item
    return RecordedEvidence(record.subject, digest(record.document), item, record.position.index)


def approved(record: Recorded) -> Approved:
    """An approval of an exception, with its names."""
    return Approved(record.subject, digest(record.document), said(GivenApproval, record))


def lifted(record: Recorded) -> Lifted:
    """The lifting of an order, with its names."""
    return Lifted(record.subject, digest(record.document), said(Lifting, record))


def fulfilled(record: Recorded) -> RecordedEvidence[GivenFulfilment]:
    """A fulfilment of an obligation, with its names."""
    return piece(record, said(GivenFulfilment, record))


def leans_on(assessments: Iterable[Assessment]) -> set[str]:
    """The model versions that findings in those assessments lean on."""
    findings = (finding for one in assessments for finding in one.findings)
    return {finding.other_model for finding in findings if finding.other_model is not None}
