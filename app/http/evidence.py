"""`/v1/assessments`, `/v1/safeguards`, `/v1/sign-offs`: what was found and what is in place."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.assessment.assessment import Assessment, Withdrawal
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import digest
from app.errors import NotFound
from app.http.bodies import body_of, recorded_response, takes, unchanged
from app.http.callers import Reading, Recording, needs
from app.http.documents import (
    RecordedAssessment,
    RecordedSafeguardReport,
    RecordedSignOff,
    RecordedWithdrawal,
    answers,
)
from app.http.permissions import Permission
from app.ledger.entry import Kind
from app.operations import record_evidence as operation
from app.storage.ledger import Appended

router = APIRouter(prefix="/v1", tags=["evidence"])


def _created(appended: Appended, path: str) -> Response:
    record = appended.records[0]
    location = f"/v1/{path}/{record.subject}"
    return recorded_response(record, status=201, location=location, replayed=appended.replayed)


async def _read(context: Reading, request: Request, kind: Kind, id: str) -> Response:
    record = await context.store.record(id)
    if record is None or record.kind is not kind:
        raise NotFound(kind.value, id)
    etag = f'"{digest(record.document)}"'
    if unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return recorded_response(record, status=200)


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
    return _created(await operation.withdraw_assessment(context, id, withdrawal), "withdrawals")


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
