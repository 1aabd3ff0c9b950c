"""`/v1/ledger/tile/…` and the proofs of the tree: what a monitor or a witness reads.

With the checkpoint beside them this is a log in the form of C2SP tlog-tiles, as it stands. Hashes
tell nothing of what is recorded and are for everyone; the entries under them name who recorded what
and when, and need a key.
"""

import gzip
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from app.http.callers import FOR_EVERYONE, needs, public_turn, store_of
from app.http.documents import ConsistencyAnswer, InclusionAnswer, answers, open_answers
from app.http.parameters import IN_DIGITS
from app.http.permissions import Permission
from app.ledger.note import write_base64
from app.operations.read_tree import read_bundle, read_consistency, read_inclusion, read_tile

router = APIRouter(prefix="/v1/ledger", tags=["ledger"])

_FOR_EVER: Final = "max-age=31536000, immutable"
_BYTES_TYPE: Final = "application/octet-stream"
_BYTES: Final[dict[str, Any]] = {_BYTES_TYPE: {"schema": {"type": "string", "format": "binary"}}}

Size = Annotated[int, Query(ge=0, lt=2**63), IN_DIGITS]
"""How many entries a ledger has; also the index of the entry that comes next."""


def _bundle_answers() -> dict[int | str, dict[str, Any]]:
    said = answers(200, InclusionAnswer, "The entries, each behind its length", 404)
    said[200]["content"] = _BYTES
    return said


@router.get(
    "/tile/entries/{place:path}",
    dependencies=[needs(Permission.READ)],
    response_class=Response,
    responses=_bundle_answers(),
)
async def read_ledger_entries(place: str, request: Request) -> Response:
    """An entry bundle: up to 256 entries, each behind its length in two bytes.

    The place is that of a tile of level 0.
    """
    body = await read_bundle(store_of(request), place)
    headers = {"Cache-Control": f"private, {_FOR_EVER}", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, 200, headers, _BYTES_TYPE)


@router.get(
    "/tile/{level}/{place:path}",
    dependencies=[FOR_EVERYONE],
    response_class=Response,
    responses=open_answers("The hashes, one after the other", _BYTES, 404, 422),
)
async def read_ledger_tile(level: str, place: str, request: Request) -> Response:
    """A tile of the Merkle tree: up to 256 hashes of a level, as in `0/x001/x234/067` or, where it
    holds eight hashes only, `0/x001/x234/067.p/8`.
    """
    async with public_turn(request):
        hashes = await read_tile(store_of(request), level, place)
    return Response(hashes, 200, {"Cache-Control": f"public, {_FOR_EVER}"}, _BYTES_TYPE)


@router.get(
    "/inclusion",
    dependencies=[FOR_EVERYONE],
    responses=open_answers("The proof and what it proves", InclusionAnswer, 422),
)
async def read_ledger_inclusion(
    request: Request,
    index: Size,
    size: Annotated[Size | None, Query(description="How many entries; left out: those of now")] = (
        None
    ),
) -> JSONResponse:
    """That an entry is in the ledger of a size (RFC 9162 §2.1.3). Which root that size has, only a
    checkpoint says.
    """
    async with public_turn(request):
        found = await read_inclusion(store_of(request), index, size)
    answer = InclusionAnswer(
        index=found.index,
        leaf_hash=found.leaf_hash.hex(),
        size=found.size,
        root=write_base64(found.root),
        proof=tuple(map(write_base64, found.proof)),
    )
    return JSONResponse(answer.model_dump(), headers=_cached(size))


@router.get(
    "/consistency",
    dependencies=[FOR_EVERYONE],
    responses=open_answers("The proof and what it proves", ConsistencyAnswer, 422),
)
async def read_ledger_consistency(
    request: Request,
    old: Annotated[Size, Query(alias="from", description="The size that a checkpoint had")],
    new: Annotated[
        Size | None, Query(alias="to", description="A later size; left out: that of now")
    ] = None,
) -> JSONResponse:
    """That the ledger of a size holds all of what it held at a smaller one (RFC 9162 §2.1.4)."""
    async with public_turn(request):
        found = await read_consistency(store_of(request), old, new)
    answer = ConsistencyAnswer.model_validate(
        {
            "from": found.old,
            "from_root": write_base64(found.old_root),
            "to": found.new,
            "to_root": write_base64(found.new_root),
            "proof": tuple(map(write_base64, found.proof)),
        }
    )
    return JSONResponse(answer.model_dump(by_alias=True), headers=_cached(new))


def _cached(size: int | None) -> dict[str, str]:
    """What is said of a size that was named stays so; what is said of now does not."""
    return {"Cache-Control": "no-store" if size is None else f"public, {_FOR_EVER}"}
