"""Request bodies in, recorded bytes out.

Every body goes through the one strict decoder and is checked whole before any work; what is
recorded is answered with the very bytes that were hashed, the ledger position set beside them.
"""

import hashlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, Final, TypeVar

import orjson
from fastapi import Header, Request
from fastapi.params import Depends
from pydantic import BaseModel, TypeAdapter
from starlette.responses import Response

from app.canonical import digest
from app.decoding import decode_json
from app.errors import InvalidParameter, UnsupportedMediaType
from app.ledger.entry import Position
from app.operations.determine import Standing
from app.parsing import parse
from app.storage.ledger import Appended, IdempotencyKey, Recorded
from app.vocabulary import JSON, write_instant

T = TypeVar("T", bound=BaseModel)

BODIES: Final[dict[str, type[BaseModel]]] = {}
"""The types of all request bodies by name, for the OpenAPI document.

`app.main.openapi` knows what a reference to one of them becomes.
"""


def media_type(request: Request) -> str:
    """The body's media type, lower-case and without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def body_of(kind: type[T]) -> Any:
    """A dependency that reads the request's JSON body as *kind*."""
    adapter = TypeAdapter(kind)

    async def read(request: Request) -> T:
        if media_type(request) != "application/json":
            raise UnsupportedMediaType(("application/json",))
        return parse(adapter, decode_json(await request.body()), JSON)

    return Depends(read)


def takes(kind: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a route whose body is *kind*."""
    BODIES[kind.__name__] = kind
    schema = {"$ref": f"#/requests/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def _idempotency_key(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="1 to 255 printable ASCII characters. The same key with the same request "
            "gives the recorded answer again, marked `Idempotency-Replayed: true`."
        ),
    ] = None,
) -> Callable[[str], Coroutine[Any, Any, IdempotencyKey | None]]:
    async def for_credential(credential: str) -> IdempotencyKey | None:
        if idempotency_key is None:
            return None
        if len(request.headers.getlist("idempotency-key")) > 1:
            raise InvalidParameter("Idempotency-Key", "is given more than once")
        if not (1 <= len(idempotency_key) <= 255 and idempotency_key.isascii()):
            raise InvalidParameter("Idempotency-Key", "must be 1 to 255 printable ASCII characters")
        if not idempotency_key.isprintable():
            raise InvalidParameter("Idempotency-Key", "must be 1 to 255 printable ASCII characters")
        line = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
        return IdempotencyKey(
            credential,
            hashlib.sha256(idempotency_key.encode()).digest(),
            hashlib.sha256(line + await request.body()).digest(),
        )

    return for_credential


IdempotencyKeyOf = Annotated[
    Callable[[str], Coroutine[Any, Any, IdempotencyKey | None]], Depends(_idempotency_key)
]


def position_json(position: Position) -> dict[str, Any]:
    """Where a record stands in the ledger, as it is set beside the recorded bytes."""
    return {
        "index": position.index,
        "leaf_hash": position.leaf_hash,
        "recorded_at": write_instant(position.at),
    }


def with_position(document: bytes, position: Position) -> bytes:
    """The recorded bytes of a JSON object with `ledger` as its last member.

    What stands before `,"ledger":`, closed by `}`, is what was hashed.
    """
    return document[:-1] + b',"ledger":' + orjson.dumps(position_json(position)) + b"}"


def created(appended: Appended, path: str) -> Response:
    """The one document that was recorded; it is read at its id below *path*."""
    (record,) = appended.records
    location = f"{path}/{record.subject}"
    return recorded_response(record, status=201, location=location, replayed=appended.replayed)


def read_response(
    request: Request, record: Recorded, headers: Mapping[str, str] | None = None
) -> Response:
    """A recorded document that was asked for; only that it is the same, where the caller has it."""
    etag = f'"{digest(record.document)}"'
    if unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag, **(headers or {})})
    response = recorded_response(record, status=200)
    response.headers.update(headers or {})
    return response


def standing_headers(standing: Standing) -> dict[str, str]:
    """That a recorded answer no longer answers, said beside it: nobody is to act on an old allow."""
    headers = {}
    if standing.superseded:
        headers["Determination-Superseded"] = "true"
    if standing.expired is not None:
        headers["Determination-Expired"] = standing.expired
    return headers


def recorded_response(
    record: Recorded, *, status: int, location: str | None = None, replayed: bool = False
) -> Response:
    """A recorded document as an answer."""
    headers = {"ETag": f'"{digest(record.document)}"', "Cache-Control": "no-store"}
    if location is not None:
        headers["Location"] = location
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    body = with_position(record.document, record.position)
    return Response(body, status, headers, "application/json")


def unchanged(request: Request, etag: str) -> bool:
    """Whether the caller already has the document with that ETag (RFC 9110 §13.1.2)."""
    given = request.headers.get("if-none-match", "")
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return etag in tags or "*" in tags
