"""`/v1/obligations`: what determinations oblige somebody to do, by due, and that it was done."""

from typing import Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from app.assessment.fulfilments import Fulfilment
from app.errors import InvalidParameter, NotFound
from app.http.bodies import body_of, created, read_response, takes
from app.http.callers import Reading, Recording, needs
from app.http.cursors import MAX_PAGE, PAGE, due_cursor, read_due_cursor
from app.http.documents import ObligationPage, RecordedFulfilment, answers
from app.http.permissions import Permission
from app.ledger.entry import Kind
from app.operations import obligations as operation
from app.operations.obligations import ObligationRead
from app.storage.obligations import Standing
from app.vocabulary import read_instant

router = APIRouter(prefix="/v1", tags=["obligations"])

_FRESH = {"Cache-Control": "no-store"}


@router.get(
    "/obligations",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, ObligationPage, "A page, by due"),
)
async def list_obligations(
    context: Reading,
    model: str | None = Query(None, description="Only of this model version"),
    policy: str | None = Query(None, description="Only of this policy"),
    status: Literal["open", "overdue", "fulfilled", "outstanding"] | None = Query(
        None, description="Only those; `outstanding` are the open and the overdue ones"
    ),
    due_before: str | None = Query(
        None, description="Only those due before this instant, RFC 3339 with a zone"
    ),
    after: str | None = Query(None, description="The `next` of the page before"),
    limit: int = Query(PAGE, ge=1, le=MAX_PAGE),
) -> JSONResponse:
    """What determinations oblige somebody to do, by due and by page; those without a due come last.

    Determinations are read for it a moment after they were recorded: `as_of` is the ledger index up
    to which that was done.
    """
    try:
        before = None if due_before is None else read_instant(due_before)
    except ValueError as error:
        raise InvalidParameter("due_before", str(error)) from None
    found = await operation.list_obligations(
        context,
        model=model,
        policy=policy,
        standing=None if status is None else Standing(status),
        due_before=before,
        after=read_due_cursor(after),
        limit=limit,
    )
    page = ObligationPage(
        obligations=found.listed,
        next=None if found.next is None else due_cursor(found.next),
        as_of=found.as_of,
        behind=found.behind,
    )
    return JSONResponse(page.model_dump(mode="json"), headers=_FRESH)


@router.get(
    "/obligations/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, ObligationRead, "The obligation", 404),
)
async def read_obligation(id: str, context: Reading) -> JSONResponse:
    """An obligation as it was raised last, and how it stands now."""
    found = await operation.read_obligation(context, id)
    return JSONResponse(found.model_dump(mode="json"), headers=_FRESH)


@router.post(
    "/obligations/{id}/fulfilment",
    status_code=201,
    dependencies=[needs(Permission.FULFIL_OBLIGATIONS)],
    openapi_extra=takes(Fulfilment),
    responses=answers(201, RecordedFulfilment, "Recorded", 404, 409, takes_body=True),
)
async def fulfil_obligation(
    id: str, context: Recording, fulfilment: Fulfilment = body_of(Fulfilment)
) -> Response:
    """Record that it was done, and what shows that. Once, until it is raised anew."""
    appended = await operation.fulfil_obligation(context, id, fulfilment)
    return created(appended, "/v1/fulfilments")


@router.get(
    "/fulfilments/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, RecordedFulfilment, "The fulfilment", 304, 404),
)
async def read_fulfilment(id: str, request: Request, context: Reading) -> Response:
    """As it was recorded."""
    record = await context.store.record(id)
    if record is None or record.kind is not Kind.FULFILMENT:
        raise NotFound(Kind.FULFILMENT.value, id)
    return read_response(request, record)
