"""`/v1/models`: register and read a model version, and its latest determination.

A model's name may hold slashes, and its last segment holds the `@`; so no name ends like a route.
"""

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from app.assessment.assessment import ModelVersion
from app.determination.settling import Settling
from app.errors import NotFound
from app.http.bodies import body_of, read_response, recorded_response, standing_headers, takes
from app.http.callers import Reading, Recording, needs
from app.http.documents import RecordedDetermination, RecordedModelVersion, answers
from app.http.permissions import Permission
from app.operations.determine import standing_of
from app.operations.record_evidence import register_model
from app.operations.settle import settle

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.post(
    "",
    status_code=201,
    dependencies=[needs(Permission.REGISTER_MODELS)],
    openapi_extra=takes(ModelVersion),
    responses=answers(201, RecordedModelVersion, "Registered", 409, takes_body=True),
)
async def register_model_version(
    context: Recording, model: ModelVersion = body_of(ModelVersion)
) -> Response:
    """Register a model version. The same body again gives the same answer."""
    record, replayed = await register_model(context, model)
    location = f"/v1/models/{model.model}"
    return recorded_response(record, status=201, location=location, replayed=replayed)


@router.get(
    "/{model:path}/determination",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, RecordedDetermination, "The latest determination", 404),
)
async def read_latest_determination(
    model: str,
    context: Reading,
    action: str = Query(description="The action that was asked for"),
    policy: str | None = Query(None, description="Only of this policy"),
) -> Response:
    """The determination that speaks for the latest instant; without a policy, the strictest of those
    under each policy that ever was in force.

    `Determination-Expired` says when it stopped holding, where time has passed its `valid_until`;
    `Determination-Superseded: true` that the policy or the evidence has moved since.
    """
    found = await context.store.latest_determination(model, action, policy)
    if found is None:
        raise NotFound("determination", f"{action} of {model}")
    response = recorded_response(found, status=200)
    response.headers.update(standing_headers(await standing_of(context, found)))
    return response


@router.get(
    "/{model:path}/settling",
    dependencies=[needs(Permission.SIMULATE)],
    responses=answers(200, Settling, "What would change it", 404),
)
async def read_settling_now(
    model: str,
    context: Reading,
    action: str = Query(description="The action that would be asked for"),
    policy: str = Query(description="The policy that would be asked"),
) -> JSONResponse:
    """The smallest sets of evidence that would change the answer that there would be now. Nothing
    is recorded.
    """
    found = await settle(context, model, action, policy)
    return JSONResponse(found.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


@router.get(
    "/{model:path}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, RecordedModelVersion, "The model version", 304, 404),
)
async def read_model_version(model: str, request: Request, context: Reading) -> Response:
    """The model version as it was registered."""
    known = await context.store.known_model(model)
    if known.recorded is None:
        raise NotFound("model", model)
    return read_response(request, known.recorded)
