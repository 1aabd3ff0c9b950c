"""`/v1/policies/{policy}/versions/{version}/shadow`: decide a version beside the one in force."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response

from app.http.bodies import body_of, takes
from app.http.callers import Reading, needs
from app.http.cursors import MAX_PAGE, PAGE, cursor, read_cursor
from app.http.documents import ShadowDifferences, answers
from app.http.parameters import IN_DIGITS
from app.http.permissions import Permission
from app.operations import shadow as operation
from app.operations.shadow import Shadowed, ShadowStatus

router = APIRouter(prefix="/v1/policies/{policy}/versions/{version}/shadow", tags=["policies"])


@router.post(
    "",
    status_code=201,
    dependencies=[needs(Permission.SHADOW)],
    openapi_extra=takes(Shadowed),
    responses=answers(201, ShadowStatus, "It is running", 404, 409, takes_body=True),
)
async def start_shadow(
    policy: str, version: str, context: Reading, shadowed: Shadowed = body_of(Shadowed)
) -> Response:
    """Decide the version beside the one in force on every live question from now on.

    Again, it gives the one that is running: it needs no Idempotency-Key.
    """
    status = await operation.start_shadow(context, policy, version, shadowed)
    return _response(status, 201, Location=f"/v1/policies/{policy}/versions/{version}/shadow")


@router.get(
    "",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, ShadowStatus, "The shadow", 404),
)
async def read_shadow(policy: str, version: str, context: Reading) -> Response:
    """Since when the version is shadowed, how far that has come, and what it counted."""
    return _response(await operation.read_shadow(context, policy, version))


@router.get(
    "/differences",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, ShadowDifferences, "A page, newest first", 404),
)
async def list_shadow_differences(
    policy: str,
    version: str,
    context: Reading,
    after: str | None = Query(None, description="The `next` of the page before"),
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE), IN_DIGITS] = PAGE,
) -> Response:
    """What the version would have said otherwise, newest first, by page."""
    found = await operation.read_differences(
        context, policy, version, before=read_cursor(after), limit=limit + 1
    )
    page = found[:limit]
    next_page = cursor(page[-1][0]) if len(found) > limit else None
    body = b'{"differences":[' + ",".join(text for _, text in page).encode()
    body += b'],"next":' + orjson.dumps(next_page) + b"}"
    return Response(body, 200, {"Cache-Control": "no-store"}, "application/json")


@router.post(
    "/stop",
    dependencies=[needs(Permission.SHADOW)],
    openapi_extra=takes(Shadowed),
    responses=answers(200, ShadowStatus, "It has ended", 404, takes_body=True),
)
async def stop_shadow(
    policy: str, version: str, context: Reading, shadowed: Shadowed = body_of(Shadowed)
) -> Response:
    """End the shadow where it stands. What it found can still be read."""
    return _response(await operation.stop_shadow(context, policy, version, shadowed))


def _response(status: ShadowStatus, code: int = 200, **headers: str) -> Response:
    headers = {"Cache-Control": "no-store", **headers}
    return Response(status.model_dump_json(), code, headers, "application/json")
