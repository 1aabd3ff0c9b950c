"""`/v1/assessments`, `/v1/safeguards`, `/v1/sign-offs`, `/v1/exceptions`, `/v1/orders`: what was
found, what is in place, what may be done without it, and what others order.

Each is recorded, read as it was recorded, and withdrawn with a reason; an order is lifted.
"""

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.assessment.assessment import Assessment, Withdrawal
from app.assessment.exceptions import ExceptionApproval, ExceptionRequest
from app.assessment.orders import Lifting, Order
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import digest
from app.errors import NotFound
from app.http.bodies import body_of, recorded_response, takes, unchanged
from app.http.callers import Reading, Recording, needs
from app.http.documents import (
    ExceptionAnswer,
    ExceptionApprovalAnswer,
    RecordedAssessment,
    RecordedLifting,
    RecordedOrder,
    RecordedSafeguardReport,
    RecordedSignOff,
    RecordedWithdrawal,
    answers,
)
from app.http.permissions import Permission
from app.ledger.entry import Kind
from app.operations import record_evidence as operation
from app.operations import record_order as order_operation
from app.operations import request_exception as exception_operation
from app.storage.ledger import Appended

router = APIRouter(prefix="/v1", tags=["evidence"])


def _created(appended: Appended, path: str) -> Response:
    record = appended.records[0]
    location = f"/v1/{path}/{record.subject}"
    return recorded_response(record, status=201, location=location, replayed=appended.replayed)


async def _read(context: Reading, request: Request, kind: Kind, id: str, **said: str) -> Response:
    """The record with that id, if it is of that kind and says *said*."""
    record = await context.store.record(id)
    if record is None or record.kind is not kind:
        raise NotFound(kind.value, id)
    if said and not said.items() <= orjson.loads(record.document).items():
        raise NotFound(kind.value, id)
    etag = f'"{digest(record.document)}"'
    if unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return recorded_response(record, status=200)


async def _withdraw(context: Recording, kind: Kind, id: str, withdrawal: Withdrawal) -> Response:
    return _created(await operation.withdraw(context, kind, id, withdrawal), "withdrawals")


@router.post(
    "/assessments",
    status_code=201,
    dependencies=[needs(Permission.RECORD_ASSESSMENTS)],
    openapi_extra=takes(Assessment),
    responses=answers(201, RecordedAssessment, "Recorded", takes_body=True),
)
async def record_assessment(
    context: Recording, assessment: Assessment = body_of(Assessment)
) -> Response:
    """Record results and findings on a model version."""
    return _created(await operation.record_assessment(context, assessment), "assessments")


@router.get(
    "/assessments/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, RecordedAssessment, "The assessment", 304, 404),
)
async def read_assessment(id: str, request: Request, context: Reading) -> Response:
    """An assessment as it was recorded, also after it was withdrawn."""
    return await _read(context, request, Kind.ASSESSMENT, id)


@router.post(
    "/assessments/{id}/withdrawal",
    status_code=201,
    dependencies=[needs(Permission.WITHDRAW_ASSESSMENTS)],
    openapi_extra=takes(Withdrawal),
    responses=answers(201, RecordedWithdrawal, "Withdrawn", 404, 409, takes_body=True),
)
async def withdraw_assessment(
    id: str, context: Recording, withdrawal: Withdrawal = body_of(Withdrawal)
) -> Response:
    """Withdraw an assessment, with a reason. What was decided on it stays as it was."""
    return await _withdraw(context, Kind.ASSESSMENT, id, withdrawal)


@router.get(
    "/withdrawals/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, RecordedWithdrawal, "The withdrawal", 304, 404),
)
async def read_withdrawal(id: str, request: Request, context: Reading) -> Response:
    """A withdrawal as it was recorded."""
    return await _read(context, request, Kind.WITHDRAWAL, id)


@router.post(
    "/safeguards",
    status_code=201,
    dependencies=[needs(Permission.RECORD_SAFEGUARDS)],
    openapi_extra=takes(SafeguardReport),
    responses=answers(201, RecordedSafeguardReport, "Recorded", takes_body=True),
)
async def record_safeguard(
    context: Recording, report: SafeguardReport = body_of(SafeguardReport)
) -> Response:
    """Record that a criterion of a standard, or a whole standard, is met or is not."""
    return _created(await operation.record_safeguard(context, report), "safeguards")


@router.get(
    "/safeguards/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, RecordedSafeguardReport, "The report", 304, 404),
)
async def read_safeguard(id: str, request: Request, context: Reading) -> Response:
    """A safeguard report as it was recorded."""
    return await _read(context, request, Kind.SAFEGUARD, id)


@router.post(
    "/safeguards/{id}/withdrawal",
    status_code=201,
    dependencies=[needs(Permission.RECORD_SAFEGUARDS)],
    openapi_extra=takes(Withdrawal),
    responses=answers(201, RecordedWithdrawal, "Withdrawn", 404, 409, takes_body=True),
)
async def withdraw_safeguard(
    id: str, context: Recording, withdrawal: Withdrawal = body_of(Withdrawal)
) -> Response:
    """Withdraw a safeguard report, with a reason. What was decided on it stays as it was."""
    return await _withdraw(context, Kind.SAFEGUARD, id, withdrawal)


@router.post(
    "/sign-offs",
    status_code=201,
    dependencies=[needs(Permission.SIGN_OFF)],
    openapi_extra=takes(SignOff),
    responses=answers(201, RecordedSignOff, "Recorded", takes_body=True),
)
async def record_sign_off(context: Recording, sign_off: SignOff = body_of(SignOff)) -> Response:
    """Record that a role prepared, recommended, decided, approved … an action."""
    return _created(await operation.record_sign_off(context, sign_off), "sign-offs")


@router.get(
    "/sign-offs/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, RecordedSignOff, "The sign-off", 304, 404),
)
async def read_sign_off(id: str, request: Request, context: Reading) -> Response:
    """A sign-off as it was recorded."""
    return await _read(context, request, Kind.SIGN_OFF, id)


@router.post(
    "/sign-offs/{id}/withdrawal",
    status_code=201,
    dependencies=[needs(Permission.SIGN_OFF)],
    openapi_extra=takes(Withdrawal),
    responses=answers(201, RecordedWithdrawal, "Withdrawn", 404, 409, takes_body=True),
)
async def withdraw_sign_off(
    id: str, context: Recording, withdrawal: Withdrawal = body_of(Withdrawal)
) -> Response:
    """Withdraw a sign-off, with a reason. What was decided on it stays as it was."""
    return await _withdraw(context, Kind.SIGN_OFF, id, withdrawal)


@router.post(
    "/exceptions",
    status_code=201,
    dependencies=[needs(Permission.REQUEST_EXCEPTIONS)],
    openapi_extra=takes(ExceptionRequest),
    responses=answers(201, ExceptionAnswer, "Recorded", takes_body=True),
)
async def request_exception(
    context: Recording, request: ExceptionRequest = body_of(ExceptionRequest)
) -> Response:
    """Ask to go on without a standard, for a time. It lets nothing pass before it is approved."""
    appended = await exception_operation.request_exception(context, request)
    return _created(appended, "exceptions")


@router.get(
    "/exceptions/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, ExceptionAnswer, "The request", 304, 404),
)
async def read_exception(id: str, request: Request, context: Reading) -> Response:
    """A request for an exception as it was recorded, also after it was withdrawn or has lapsed."""
    return await _read(context, request, Kind.EXCEPTION, id)


@router.post(
    "/exceptions/{id}/approvals",
    status_code=201,
    dependencies=[needs(Permission.APPROVE_EXCEPTIONS)],
    openapi_extra=takes(ExceptionApproval),
    responses=answers(201, ExceptionApprovalAnswer, "Approved", 404, 409, takes_body=True),
)
async def approve_exception(
    id: str, context: Recording, approval: ExceptionApproval = body_of(ExceptionApproval)
) -> Response:
    """Approve an exception in a role. It counts once all roles have, and two people at least."""
    appended = await exception_operation.approve_exception(context, id, approval)
    return _created(appended, f"exceptions/{id}/approvals")


@router.get(
    "/exceptions/{id}/approvals/{approval}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, ExceptionApprovalAnswer, "The approval", 304, 404),
)
async def read_exception_approval(
    id: str, approval: str, request: Request, context: Reading
) -> Response:
    """An approval of the exception as it was recorded."""
    return await _read(context, request, Kind.EXCEPTION_APPROVAL, approval, exception=id)


@router.post(
    "/exceptions/{id}/withdrawal",
    status_code=201,
    dependencies=[needs(Permission.REQUEST_EXCEPTIONS)],
    openapi_extra=takes(Withdrawal),
    responses=answers(201, RecordedWithdrawal, "Withdrawn", 404, 409, takes_body=True),
)
async def withdraw_exception(
    id: str, context: Recording, withdrawal: Withdrawal = body_of(Withdrawal)
) -> Response:
    """Withdraw an exception, with a reason. What was decided on it stays as it was."""
    return await _withdraw(context, Kind.EXCEPTION, id, withdrawal)


@router.post(
    "/orders",
    status_code=201,
    dependencies=[needs(Permission.RECORD_ORDERS)],
    openapi_extra=takes(Order),
    responses=answers(201, RecordedOrder, "Recorded", takes_body=True),
)
async def record_order(context: Recording, order: Order = body_of(Order)) -> Response:
    """Record an order from outside the policy: it stops or limits actions, or requires standards."""
    return _created(await order_operation.record_order(context, order), "orders")


@router.get(
    "/orders/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, RecordedOrder, "The order", 304, 404),
)
async def read_order(id: str, request: Request, context: Reading) -> Response:
    """An order as it was recorded, also after it was lifted."""
    return await _read(context, request, Kind.ORDER, id)


@router.post(
    "/orders/{id}/lifting",
    status_code=201,
    dependencies=[needs(Permission.RECORD_ORDERS)],
    openapi_extra=takes(Lifting),
    responses=answers(201, RecordedLifting, "Lifted", 404, 409, takes_body=True),
)
async def lift_order(id: str, context: Recording, lifting: Lifting = body_of(Lifting)) -> Response:
    """Lift an order, with a reason. Nothing else ends it."""
    return _created(await order_operation.lift_order(context, id, lifting), "liftings")


@router.get(
    "/liftings/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, RecordedLifting, "The lifting", 304, 404),
)
async def read_lifting(id: str, request: Request, context: Reading) -> Response:
    """A lifting as it was recorded."""
    return await _read(context, request, Kind.LIFTING, id)
