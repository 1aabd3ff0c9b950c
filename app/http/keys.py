"""`/v1/keys`: API keys. A key itself is in one answer only, that which made it."""

from typing import Any

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from app.errors import NotFound
from app.http.bodies import body_of, position_json, takes
from app.http.callers import Reading, Recording, needs
from app.http.documents import KeyMade, KeyOnRecord, KeyRevoked, Keys, answers
from app.http.permissions import ROLES, Permission
from app.ledger.entry import Kind
from app.operations import manage_keys as operation
from app.operations.manage_keys import (
    KeyRequest,
    MadeKey,
    RevocationRequest,
    RotationRequest,
)
from app.storage import keys
from app.storage.keys import KnownKey
from app.storage.ledger import Appended
from app.vocabulary import write_instant

router = APIRouter(prefix="/v1/keys", tags=["keys"])

_MAY = [needs(Permission.MANAGE_KEYS)]


@router.post(
    "",
    status_code=201,
    dependencies=_MAY,
    openapi_extra=takes(KeyRequest),
    responses=answers(201, KeyMade, "Made", takes_body=True),
)
async def create_key(context: Recording, request: KeyRequest = body_of(KeyRequest)) -> Response:
    """Make a key for a principal. The key itself is in this answer and nowhere else: with an
    Idempotency-Key that came before, it is not in it.
    """
    return _made(await operation.create_key(context, request, ROLES))


@router.get("", dependencies=_MAY, responses=answers(200, Keys, "All of them, oldest first"))
async def list_keys(context: Reading) -> Response:
    """The keys that ever were, with who made them, until when they open, and when one last did."""
    async with context.store.reading() as connection:
        known = await keys.list_keys(connection)
    return _json({"keys": [key_json(one) for one in known]}, 200)


@router.get("/{id}", dependencies=_MAY, responses=answers(200, KeyOnRecord, "The key", 404))
async def read_key(id: str, context: Reading) -> Response:
    """A key as it is listed."""
    async with context.store.reading() as connection:
        known = await keys.key_of_id(connection, id)
    if known is None:
        raise NotFound("key", id)
    return _json(key_json(known), 200)


@router.post(
    "/{id}/rotation",
    status_code=201,
    dependencies=_MAY,
    openapi_extra=takes(RotationRequest),
    responses=answers(201, KeyMade, "Made", 404, 409, takes_body=True),
)
async def rotate_key(
    id: str, context: Recording, rotation: RotationRequest = body_of(RotationRequest)
) -> Response:
    """Make a key like that one, which is refused from the same commit on unless `revoke` is false."""
    return _made(await operation.rotate_key(context, id, rotation))


@router.post(
    "/{id}/revocation",
    status_code=201,
    dependencies=_MAY,
    openapi_extra=takes(RevocationRequest),
    responses=answers(201, KeyRevoked, "Revoked", 404, 409, takes_body=True),
)
async def revoke_key(
    id: str, context: Recording, revocation: RevocationRequest = body_of(RevocationRequest)
) -> Response:
    """Refuse the key: nothing is recorded with it from now on, and within a second nothing read."""
    appended = await operation.revoke_key(context, id, revocation)
    said = _said(appended, Kind.REVOCATION)
    return _json(said, 201, appended, f"/v1/keys/{id}")


def key_json(known: KnownKey) -> dict[str, Any]:
    """A key as it is listed, here and at the command line; its secret is nowhere."""
    said = known.credential
    times = {
        "created_at": known.created_at,
        "expires_at": said.expires_at,
        "revoked_at": known.revoked_at,
        "used_at": known.used_at,
    }
    return {
        "id": said.id,
        "principal": said.principal,
        "name": said.name,
        "roles": list(said.roles),
        "policy_roles": list(said.policy_roles),
        "created_by": known.created_by,
        **{name: at and write_instant(at) for name, at in times.items()},
    }


def _made(made: MadeKey) -> Response:
    said = _said(made.appended, Kind.CREDENTIAL)
    said["key"] = made.text
    return _json(said, 201, made.appended, f"/v1/keys/{said['id']}")


def _said(appended: Appended, kind: Kind) -> dict[str, Any]:
    """What was recorded, with its place; the hash of the secret is nobody's to see."""
    record = next(one for one in appended.records if one.kind is kind)
    said: dict[str, Any] = orjson.loads(record.document)
    said.pop("secret_sha256", None)
    return said | {"ledger": position_json(record.position)}


def _json(
    said: dict[str, Any], status: int, appended: Appended | None = None, location: str | None = None
) -> Response:
    headers = {"Cache-Control": "no-store"}
    if location is not None:
        headers["Location"] = location
    if appended is not None and appended.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(orjson.dumps(said), status, headers, "application/json")
