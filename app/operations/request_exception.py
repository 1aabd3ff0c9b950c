"""Ask for an exception, and approve one: time-limited, and by two people beside who asked.

The policy version in force says whether there is such an exception at all, for how long at most,
and which roles approve it.
"""

from app.assessment.exceptions import (
    ExceptionApproval,
    ExceptionRequest,
    GivenApproval,
    RequestedException,
)
from app.canonical import canonical_json
from app.errors import (
    AlreadyRecorded,
    ExceptionEnded,
    Fault,
    FourEyes,
    InvalidDocument,
    Refusal,
    SelfApproval,
)
from app.ledger.entry import Kind
from app.operations.context import Context, new_id
from app.operations.names import permitted_by, unknown_in_exception
from app.operations.record_evidence import record_on, record_piece
from app.storage.ledger import Appended, Draft, EvidenceRow, ExceptionApprovalRow
from app.storage.store import Known, KnownEvidence
from app.vocabulary import write_instant


async def request_exception(context: Context, request: ExceptionRequest) -> Appended:
    """Record the request, from now on where it does not say from when.

    It lets nothing pass before it is approved. Raises `InvalidDocument` naming everything in it that
    is unknown, an exception that the policy does not permit there, and a time that is past or longer
    than it may last.
    """
    begins = request.valid_from or context.now
    known = await context.store.known()
    faults = unknown_in_exception(
        request, lambda policy: known.named_at(policy, context.now), begins
    )
    if request.valid_until <= context.now:
        faults.append(Fault("/valid_until", "in-the-past", "must lie in the future"))
    said = dict(request) | {"valid_from": begins, "requested_by": context.actor}
    # What the request says was checked; whether it ends after it begins now is among the faults.
    requested = RequestedException.model_construct(**said)
    return await record_piece(
        context,
        Kind.EXCEPTION,
        "exc",
        requested,
        request.model,
        faults,
        lambda id: EvidenceRow(id, Kind.EXCEPTION.value, request.model, request.policy, begins),
    )


async def approve_exception(context: Context, id: str, approval: ExceptionApproval) -> Appended:
    """Record that the caller approves it in that role.

    Raises `NotFound`, `SelfApproval`, `ExceptionEnded`, `FourEyes`, `AlreadyRecorded` where the
    caller approved it in that role before, `RoleNotHeld`, and `InvalidDocument` where the role has no
    say in it.
    """

    async def refusal(known: KnownEvidence) -> Refusal | None:
        asked = known.exception()
        if known.withdrawn:
            return ExceptionEnded(id, "it was withdrawn")
        if asked.valid_until <= context.now:
            return ExceptionEnded(id, f"it lapsed at {write_instant(asked.valid_until)}")
        if context.is_by_caller(asked.requested_by):
            return SelfApproval(id)
        policies = await context.store.known()
        fault = _has_no_say(approval.role, asked, policies, context)
        if fault is not None:
            return InvalidDocument((fault,))
        context.refuse_unheld((approval.role,))
        for given in known.approvals:
            if not context.is_by_caller(given.said.by):
                continue
            if given.said.role == approval.role:
                return AlreadyRecorded("approval of", id, "its caller approved it before")
            return FourEyes(id, given.said.role)
        return None

    def draft(known: KnownEvidence) -> Draft:
        own = new_id("exa")
        recorded = GivenApproval(
            role=approval.role,
            reason=approval.reason,
            exception=id,
            by=context.actor,
            given_at=context.now,
        )
        document = canonical_json({"id": own, **recorded.model_dump(mode="json")})
        by = context.principal
        row = ExceptionApprovalRow(own, id, known.model, approval.role, by, context.now)
        return Draft(Kind.EXCEPTION_APPROVAL, own, row, lambda _: document)

    return await record_on(context, Kind.EXCEPTION, id, refusal, draft)


def _has_no_say(
    role: str, asked: RequestedException, policies: Known, context: Context
) -> Fault | None:
    """A fault where no version in force lets the role approve that exception."""
    permitted = [
        one
        for version in policies.named_at(asked.policy, context.now)
        if (one := permitted_by(version, asked)) is not None
    ]
    roles = sorted({role for one in permitted for role in one.approved_by})
    if role in roles:
        return None
    who = " and ".join(f"`{role}`" for role in roles) or "nobody"
    return Fault("/role", "not-an-approver", f"this exception is approved by {who}")
