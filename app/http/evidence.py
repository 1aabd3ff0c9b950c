"""`/v1/assessments`, `/v1/safeguards`, `/v1/sign-offs`, `/v1/exceptions`, `/v1/orders`: what was
found, what is in place, what may be done without it, and what others order.

Each is recorded, read as it was recorded, and withdrawn with a reason; an order is lifted.
"""

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from app.assessment.assessment import Assessment, Withdrawal
from app.assessment.exceptions import ExceptionApproval, ExceptionRequest
from app.assessment.orders import Lifting, Order
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.errors import NotFound
from app.http.bodies import body_of, created, read_response, takes
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

router = APIRouter(prefix="/v1", tags=["evidence"])


async def _read(context: Reading, request: Request, kind: Kind, id: str, **said: str) -> Response:
    """The record with that id, if it is of that kind and says *said*."""
    record = await context.store.record(id)
    if record is None or record.kind is not kind:
        raise NotFound(kind.value, id)
    if said and not said.items() <= orjson.loads(record.document).items():
        raise NotFound(kind.value, id)
    return read_response(request, record)


def _is_read(path: str, kind: Kind, answer: type[BaseModel], name: str, says: str) -> None:
    """Records of that kind are read at their ids."""

    async def read(id: str, request: Request, context: Reading) -> Response:
        return await _read(context, request, kind, id)

    router.add_api_route(
        f"/{path}/{{id}}",
        read,
        methods=["GET"],
        name=f"read_{name}",
        description=says,
        dependencies=[needs(Permission.READ)],
        responses=answers(200, answer, f"The {name.replace('_', '-')}", 304, 404),
    )


def _is_withdrawn(path: str, kind: Kind, permission: Permission, name: str) -> None:
    """Evidence of that kind is withdrawn with a reason, by whoever has the permission."""

    async def withdraw(
        id: str, context: Recording, withdrawal: Withdrawal = body_of(Withdrawal)
    ) -> Response:
        return created(await operation.withdraw(context, kind, id, withdrawal), "/v1/withdrawals")

    what = name.replace("_", "-")
    router.add_api_route(
        f"/{path}/{{id}}/withdrawal",
        withdraw,
        methods=["POST"],
        name=f"withdraw_{name}",
        description=f"Withdraw {'an' if what[0] in 'ae' else 'a'} {what}, with a reason. What was "
        "decided on it stays as it was.",
        status_code=201,
        dependencies=[needs(permission)],
        openapi_extra=takes(Withdrawal),
        responses=answers(201, RecordedWithdrawal, "Withdrawn", 404, 409, takes_body=True),
    )


@router.post(
    "/assessments",
    status_code=201,
    dependencies=[needs(Permission.RECORD_ASSESSMENTS)],
    openapi_extra=takes(Assessment),
    responses=answers(201, RecordedAssessment, "Recorded", 409, takes_body=True),
)
async def record_assessment(
    context: Recording, assessment: Assessment = body_of(Assessment)
) -> Response:
    """Record results and findings on a model version."""
    return created(await operation.record_assessment(context, assessment), "/v1/assessments")


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
    return created(await operation.record_safeguard(context, report), "/v1/safeguards")


@router.post(
    "/sign-offs",
    status_code=201,
    dependencies=[needs(Permission.SIGN_OFF)],
    openapi_extra=takes(SignOff),
    responses=answers(201, RecordedSignOff, "Recorded", 409, takes_body=True),
)
async def record_sign_off(context: Recording, sign_off: SignOff = body_of(SignOff)) -> Response:
    """Record that a role prepared, recommended, decided, approved … an action."""
    return created(await operation.record_sign_off(context, sign_off), "/v1/sign-offs")


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
    return created(appended, "/v1/exceptions")


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
    return created(appended, f"/v1/exceptions/{id}/approvals")


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
    "/orders",
    status_code=201,
    dependencies=[needs(Permission.RECORD_ORDERS)],
    openapi_extra=takes(Order),
    responses=answers(201, RecordedOrder, "Recorded", takes_body=True),
)
async def record_order(context: Recording, order: Order = body_of(Order)) -> Response:
    """Record an order from outside the policy: it stops or limits actions, or requires standards."""
    return created(await order_operation.record_order(context, order), "/v1/orders")


@router.post(
    "/orders/{id}/lifting",
    status_code=201,
    dependencies=[needs(Permission.RECORD_ORDERS)],
    openapi_extra=takes(Lifting),
    responses=answers(201, RecordedLifting, "Lifted", 404, 409, takes_body=True),
)
async def lift_order(id: str, context: Recording, lifting: Lifting = body_of(Lifting)) -> Response:
    """Lift an order, with a reason. Nothing else ends it."""
    return created(await order_operation.lift_order(context, id, lifting), "/v1/liftings")


for _path, _kind, _answer, _permission, _name in (
    (
        "assessments",
        Kind.ASSESSMENT,
        RecordedAssessment,
        Permission.WITHDRAW_ASSESSMENTS,
        "assessment",
    ),
    (
        "safeguards",
        Kind.SAFEGUARD,
        RecordedSafeguardReport,
        Permission.RECORD_SAFEGUARDS,
        "safeguard",
    ),
    ("sign-offs", Kind.SIGN_OFF, RecordedSignOff, Permission.SIGN_OFF, "sign_off"),
    ("exceptions", Kind.EXCEPTION, ExceptionAnswer, Permission.REQUEST_EXCEPTIONS, "exception"),
):
    _is_read(_path, _kind, _answer, _name, "As it was recorded, also after it was withdrawn.")
    _is_withdrawn(_path, _kind, _permission, _name)

_is_read("withdrawals", Kind.WITHDRAWAL, RecordedWithdrawal, "withdrawal", "As it was recorded.")
_is_read(
    "orders", Kind.ORDER, RecordedOrder, "order", "As it was recorded, also after its lifting."
)
_is_read("liftings", Kind.LIFTING, RecordedLifting, "lifting", "As it was recorded.")
