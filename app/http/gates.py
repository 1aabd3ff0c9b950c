"""`/v1/gate` and `/v1/gates`: may this go ahead, under every policy that applies?"""

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from app.canonical import digest
from app.errors import NotFound
from app.http.bodies import body_of, read_response, standing_headers, takes, with_position
from app.http.callers import Reading, Recording, needs
from app.http.documents import GateAnswer, RecordedGate, answers
from app.http.permissions import Permission
from app.http.problems import NOT_ALLOWED, problem_response
from app.ledger.entry import Kind
from app.operations.ask_gate import AskedGate, ask_gate, standing_of_gate
from app.operations.replay import Replay, replay_gate
from app.storage.ledger import Appended

router = APIRouter(prefix="/v1", tags=["gates"])


@router.post(
    "/gate",
    status_code=201,
    dependencies=[needs(Permission.DETERMINE)],
    openapi_extra=takes(AskedGate),
    responses=answers(
        201, GateAnswer, "Decided and recorded, whatever it says", 409, takes_body=True
    ),
)
async def make_gate(
    context: Recording,
    asked: AskedGate = body_of(AskedGate),
    enforce: bool = Query(
        False, description="Answer 403 unless `allowed`, for callers that read the status"
    ),
    accept_conditions: bool = Query(
        False, description="Also `allow_with_conditions` is `allowed`: the caller keeps them"
    ),
) -> Response:
    """Decide under every policy that applies; the strictest answer wins. It is always about now.

    A "no" is an answer: 201 whatever it says, unless `enforce=true`.
    """
    appended = await ask_gate(context, asked, accepts_conditions=accept_conditions)
    gate = appended.records[-1]
    body = _with_answers(appended)
    headers = {
        "ETag": f'"{digest(gate.document)}"',
        "Cache-Control": "no-store",
        "Location": f"/v1/gates/{gate.subject}",
    }
    if appended.replayed:
        headers["Idempotency-Replayed"] = "true"
    document = orjson.loads(gate.document)
    if enforce and not document["allowed"]:
        del headers["ETag"]
        messages = dict.fromkeys(reason["message"] for reason in document["reasons"])
        detail = "; ".join(messages) or f"the decision is {document['decision']}"
        return problem_response(NOT_ALLOWED, detail, headers, gate=orjson.loads(body))
    return Response(body, 201, headers, "application/json")


def _with_answers(appended: Appended) -> bytes:
    """The recorded gate with its determinations and its place set beside it, in that order."""
    *determinations, gate = appended.records
    documents = b",".join(with_position(r.document, r.position) for r in determinations)
    return with_position(gate.document[:-1] + b',"answers":[' + documents + b"]}", gate.position)


@router.get(
    "/gates/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, RecordedGate, "The gate", 304, 404),
)
async def read_gate(id: str, request: Request, context: Reading) -> Response:
    """The gate as it was recorded; its determinations are read by their ids. The headers say where
    it no longer answers: `Determination-Expired`, `Determination-Superseded`.
    """
    record = await context.store.record(id)
    if record is None or record.kind is not Kind.GATE:
        raise NotFound("gate", id)
    return read_response(request, record, standing_headers(await standing_of_gate(context, record)))


@router.get(
    "/gates/{id}/replay",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, Replay, "The recorded bytes beside those recomputed now", 404),
)
async def read_gate_replay(id: str, context: Reading) -> JSONResponse:
    """Recompute the gate, with the determinations that were recorded with it, from what the ledger
    held then, and say whether the bytes are the same, or in which places they differ.
    """
    found = await replay_gate(context, id)
    return JSONResponse(found.model_dump(mode="json"), headers={"Cache-Control": "no-store"})
