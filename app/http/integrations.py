"""`/v1/integrations`: what came from others, and what became of it.

The routes of each system stand in a file of their own.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from app.http.callers import Reading, needs
from app.http.cursors import MAX_PAGE, PAGE, delivery_cursor, read_delivery_cursor
from app.http.documents import DeliveryPage, answers
from app.http.parameters import IN_DIGITS
from app.http.permissions import Permission
from app.operations import receive as operation
from app.storage.inbox import DeliveryState

router = APIRouter(prefix="/v1/integrations", tags=["integrations"])


@router.get(
    "/{binding}/deliveries",
    dependencies=[needs(Permission.READ_DELIVERIES)],
    responses=answers(200, DeliveryPage, "A page, newest first", 404),
)
async def list_deliveries(
    binding: str,
    request: Request,
    context: Reading,
    state: Literal["waiting", "done", "failed"] | None = Query(None, description="Only those"),
    after: str | None = Query(None, description="The `next` of the page before"),
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE), IN_DIGITS] = PAGE,
) -> JSONResponse:
    """What was delivered to a binding, newest first and by page: whether it was worked on, and what
    became of it.
    """
    listed, place = await operation.list_deliveries(
        context,
        request.app.state.bindings,
        binding,
        state=None if state is None else DeliveryState(state),
        before=read_delivery_cursor(after),
        limit=limit,
    )
    page = DeliveryPage(deliveries=listed, next=None if place is None else delivery_cursor(place))
    return JSONResponse(page.model_dump(mode="json"), headers={"Cache-Control": "no-store"})
