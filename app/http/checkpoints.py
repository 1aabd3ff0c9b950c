"""`/v1/ledger/checkpoint`, `/v1/ledger/keys` and the proofs: what is signed, by whom, and what is in
it. Checkpoint and keys are for everyone.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from app.http.callers import FOR_EVERYONE, Reading, needs, public_turn, store_of
from app.http.documents import (
    LedgerKeyAnswer,
    LedgerKeysAnswer,
    ProofAnswer,
    answers,
    open_answers,
)
from app.http.parameters import IN_DIGITS
from app.http.permissions import Permission
from app.ledger.bundle import Bundle
from app.ledger.checkpoint import LARGEST_SIZE, Receipt, read_checkpoint
from app.ledger.entry import Kind
from app.ledger.merkle import leaf_hash
from app.ledger.note import VerifierKey, write_base64
from app.operations.bundle import make_bundle
from app.operations.prove import keys_on_record, latest_checkpoint, prove_entry, prove_record
from app.storage.checkpoints import KeyOnRecord

router = APIRouter(prefix="/v1", tags=["ledger"])

NOTE_TYPE: Final = "text/plain; charset=utf-8"
_TEXT: Final[dict[str, Any]] = {"text/plain": {"schema": {"type": "string"}}}


def _quorum(request: Request) -> int:
    """How many witnesses must have cosigned what is shown."""
    quorum: int = request.app.state.witness_quorum
    return quorum


@router.get(
    "/ledger/checkpoint",
    dependencies=[FOR_EVERYONE],
    response_class=Response,
    responses=open_answers("The newest checkpoint, a C2SP signed note", _TEXT, 404, 422),
)
async def read_latest_checkpoint(request: Request) -> Response:
    """The size and the root of the ledger, signed; with the lines of its witnesses."""
    async with public_turn(request):
        signed = await latest_checkpoint(store_of(request), quorum=_quorum(request))
    headers = {"Cache-Control": "public, max-age=1"}
    return Response(str(signed.note), 200, headers, NOTE_TYPE)


@router.get(
    "/ledger/keys",
    dependencies=[FOR_EVERYONE],
    responses=open_answers("The keys", LedgerKeysAnswer, 422),
)
async def read_ledger_keys(request: Request) -> JSONResponse:
    """Which keys sign checkpoints, from which size on.

    `statements` are signed notes, each by a key that signed before: whoever knows one key can follow
    to the others, and need not believe this answer.
    """
    store = store_of(request)
    async with public_turn(request):
        answer = ledger_keys(store.ledger.log, await keys_on_record(store))
    headers = {"Cache-Control": "public, max-age=1"}
    return JSONResponse(answer.model_dump(mode="json"), headers=headers)


def ledger_keys(log: str, said: tuple[KeyOnRecord, ...]) -> LedgerKeysAnswer:
    """What is on record of the log's keys, as it is answered."""
    return LedgerKeysAnswer(
        log=log,
        keys=tuple(_key(key, said) for key in dict.fromkeys(one.statement.key for one in said)),
        statements=tuple(str(one.note) for one in said),
    )


def _key(key: VerifierKey, said: tuple[KeyOnRecord, ...]) -> LedgerKeyAnswer:
    sizes = {one.statement.signs: one.statement.size for one in said if one.statement.key == key}
    return LedgerKeyAnswer(vkey=str(key), from_size=sizes[True], until_size=sizes.get(False))


def _as_text_too(said: dict[int | str, dict[str, Any]]) -> Any:
    said[200]["content"] |= _TEXT
    return said


_PROOF: Final = _as_text_too(answers(200, ProofAnswer, "The proof", 404))


@router.get(
    "/determinations/{id}/proof",
    tags=["determinations"],
    dependencies=[needs(Permission.READ)],
    responses=_PROOF,
)
async def read_determination_proof(id: str, request: Request, context: Reading) -> Response:
    """That the determination is in the ledger: a C2SP tlog-proof, whose `extra` is the entry; with
    `Accept: application/json` as JSON. 503 `checkpoint-pending` until the next checkpoint.
    """
    receipt = await prove_record(
        context.store, id, kind=Kind.DETERMINATION.value, quorum=_quorum(request)
    )
    return _proof(receipt, request)


@router.get(
    "/determinations/{id}/bundle",
    tags=["determinations"],
    dependencies=[needs(Permission.READ)],
    responses=answers(200, Bundle, "The bundle", 404, 409),
)
async def read_determination_bundle(
    id: str,
    request: Request,
    context: Reading,
    evidence: bool = Query(True, description="`false`: leave out what the evidence says"),
) -> Response:
    """The determination with all that it rests on and their proofs, in one file that can be checked
    and recomputed without this service. 503 `checkpoint-pending` until the next checkpoint, 409
    `not-recomputable` where the recorded answer names an engine that is not known here.
    """
    async with context.turns.explanations.turn(), context.store.reading() as connection:
        quorum = _quorum(request)
        made = await make_bundle(connection, id, quorum=quorum, with_evidence=evidence)
    headers = {"Cache-Control": "no-store"}
    return Response(bytes(made), 200, headers, "application/json")


@router.get(
    "/ledger/entries/{index}/proof",
    dependencies=[needs(Permission.READ)],
    responses=_PROOF,
)
async def read_entry_proof(
    index: Annotated[int, Path(ge=0, lt=LARGEST_SIZE), IN_DIGITS],
    request: Request,
    context: Reading,
) -> Response:
    """The same for any entry, by its index: `ledger.index` of whatever was recorded."""
    return _proof(await prove_entry(context.store, index, quorum=_quorum(request)), request)


def _proof(receipt: Receipt, request: Request) -> Response:
    headers = {"Cache-Control": "no-store"}
    if "application/json" not in request.headers.get("accept", ""):
        return Response(str(receipt), 200, headers, NOTE_TYPE)
    checkpoint = read_checkpoint(receipt.note.text)
    answer = ProofAnswer(
        log=checkpoint.origin,
        index=receipt.index,
        entry=write_base64(receipt.entry),
        leaf_hash=leaf_hash(receipt.entry).hex(),
        size=checkpoint.size,
        root=write_base64(checkpoint.root),
        proof=tuple(map(write_base64, receipt.proof)),
        checkpoint=str(receipt.note),
    )
    return JSONResponse(answer.model_dump(mode="json"), headers=headers)
