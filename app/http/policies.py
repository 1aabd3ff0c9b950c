"""`/v1/policies`: record a version, read it, ask which is in force."""

from typing import Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.errors import InvalidParameter, NoPolicyInForce, NotFound, UnsupportedMediaType
from app.http.bodies import media_type, position_json, unchanged
from app.http.callers import Reading, Recording, needs
from app.http.documents import JsonSchema, PolicyVersionAnswer, answers
from app.http.permissions import Permission
from app.operations.record_policy import record_policy
from app.policy.language import policy_schema
from app.policy.timeline import PolicyInForce, in_force_at
from app.storage.store import RecordedPolicy
from app.vocabulary import read_instant, write_instant

router = APIRouter(prefix="/v1/policies", tags=["policies"])

YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")

_EITHER = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/requests/PolicyVersion"}},
            "application/yaml": {"schema": {"type": "string"}},
        },
    }
}


def _answer(recorded: RecordedPolicy, in_force: PolicyInForce) -> dict[str, Any]:
    version = recorded.version
    return {
        "policy": version.policy,
        "version": version.version,
        "digest": recorded.digest,
        "status": "recorded",
        "in_force": {
            "from": write_instant(in_force.since),
            "until": None if in_force.until is None else write_instant(in_force.until),
        },
        "ledger": position_json(recorded.position),
    }


def _response(
    recorded: RecordedPolicy, in_force: PolicyInForce, status: int = 200, **headers: str
) -> Response:
    # The recorded bytes go in as they are, so that the digest can be checked on what was received.
    head = orjson.dumps(_answer(recorded, in_force))
    body = head[:-1] + b',"document":' + recorded.document + b"}"
    return Response(body, status, headers, "application/json")


@router.post(
    "/{policy}/versions",
    status_code=201,
    dependencies=[needs(Permission.RECORD_POLICIES)],
    openapi_extra=_EITHER,
    responses=answers(201, PolicyVersionAnswer, "The version is recorded", 409, takes_body=True),
)
async def record_policy_version(policy: str, request: Request, context: Recording) -> Response:
    """Record a policy version, as YAML or JSON. The same version again gives the same answer."""
    media = media_type(request)
    if media not in (*YAML_TYPES, "application/json"):
        raise UnsupportedMediaType(("application/yaml", "application/json"))
    kind: Literal["json", "yaml"] = "json" if media == "application/json" else "yaml"
    done = await record_policy(context, policy, await request.body(), kind)
    version = done.recorded.version.version
    headers = {"Location": f"/v1/policies/{policy}/versions/{version}"}
    if done.replayed:
        headers["Idempotency-Replayed"] = "true"
    return _response(done.recorded, done.in_force, 201, **headers)


@router.get(
    "/{policy}/versions/{version}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, PolicyVersionAnswer, "The version", 304, 404),
)
async def read_policy_version(
    policy: str, version: str, request: Request, context: Reading
) -> Response:
    """The version with its digest, when it is in force, and its document byte for byte."""
    known = await context.store.policies(policy)
    for recorded in known.versions:
        if recorded.version.version == version:
            in_force = known.in_force(recorded.digest)
            etag = f'"{recorded.digest}-{in_force.until or ""}"'.replace(" ", "T")
            if unchanged(request, etag):
                return Response(status_code=304, headers={"ETag": etag})
            return _response(recorded, in_force, ETag=etag)
    raise NotFound("policy version", f"{policy} {version}")


@router.get(
    "/{policy}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, PolicyVersionAnswer, "The version in force", 404),
)
async def read_policy_in_force(
    policy: str,
    context: Reading,
    at: str | None = Query(None, description="RFC 3339 with a zone; default: now"),
) -> Response:
    """The version in force at an instant."""
    try:
        instant = context.now if at is None else read_instant(at)
    except ValueError as error:
        raise InvalidParameter("at", str(error)) from None
    known = await context.store.policies(policy)
    if not known.versions:
        raise NotFound("policy", policy)
    found = in_force_at(known.timeline, instant)
    if found is None:
        raise NoPolicyInForce(policy, write_instant(instant))
    (recorded,) = (r for r in known.versions if r.digest == found.digest)
    return _response(recorded, found)


schemas = APIRouter(prefix="/v1/schemas", tags=["policies"])


@schemas.get(
    "/policy",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, JsonSchema, "The JSON Schema"),
)
async def read_policy_schema() -> dict[str, Any]:
    """The JSON Schema of a policy version, for editors."""
    return policy_schema()
