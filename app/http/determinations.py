"""`/v1/determinations` and `/v1/simulations`: ask, ask many, read, list."""

from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from app.determination.explain import Form
from app.determination.settling import Settling
from app.errors import InvalidParameter, NotFound
from app.http.bodies import body_of, recorded_response, standing_headers, takes, with_position
from app.http.callers import Attesting, Reading, Recording, needs
from app.http.cursors import MAX_PAGE, PAGE, cursor, read_cursor
from app.http.documents import (
    PAGE_TYPES,
    AttestationKeyAnswer,
    AttestationKeys,
    DeterminationBatch,
    DeterminationPage,
    DsseEnvelope,
    RecordedDetermination,
    SigstoreBundle,
    SimulatedDetermination,
    answers,
    content_of,
    page_answers,
)
from app.http.parameters import IN_DIGITS
from app.http.permissions import Permission
from app.http.problems import NOT_ALLOWED, problem_response
from app.ledger.entry import Kind
from app.ledger.statement import BUNDLE_TYPE, ENVELOPE_TYPE, verifier_id
from app.operations.attest import AttestationForm, attest
from app.operations.determine import Asked, determine, standing_of
from app.operations.explain import explain_determination
from app.operations.replay import Replay, replay_determination
from app.operations.settle import settle_determination
from app.operations.simulate import Simulated, simulate
from app.storage.ledger import Appended, Recorded
from app.vocabulary import Decision, Document

router = APIRouter(prefix="/v1", tags=["determinations"])

DOCUMENT_TYPE: Final = "application/vnd.aslgate.determination+json"
"""Accept this to be given the recorded bytes alone, exactly as they were hashed."""

MAX_BATCH: Final = 1000


class AskedMany(Document):
    """Up to 1,000 questions; all are answered in one durable commit, or none is."""

    determinations: Annotated[tuple[Asked, ...], Field(min_length=1, max_length=MAX_BATCH)]


@router.post(
    "/determinations",
    status_code=201,
    dependencies=[needs(Permission.DETERMINE)],
    openapi_extra=takes(Asked),
    responses=answers(
        201, RecordedDetermination, "Decided and recorded, whatever it says", 409, takes_body=True
    ),
)
async def make_determination(
    context: Recording,
    asked: Asked = body_of(Asked),
    enforce: bool = Query(
        False, description="Answer 403 to anything but `allow`, for callers that read the status"
    ),
    accept_conditions: bool = Query(
        False, description="With `enforce`: let `allow_with_conditions` pass too"
    ),
) -> Response:
    """Decide what the policy requires of the model and whether the action may go ahead.

    A "no" is an answer: 201 whatever it says, unless `enforce=true`.
    """
    if enforce and (asked.at is not None or asked.known_at is not None):
        message = "an enforced answer is about now; leave out `at` and `known_at`"
        raise InvalidParameter("enforce", message)
    appended = await determine(context, [asked])
    record = appended.records[0]
    location = f"/v1/determinations/{record.subject}"
    if enforce and not _may_pass(record, accept_conditions):
        return _not_allowed(record, location, appended.replayed)
    return recorded_response(record, status=201, location=location, replayed=appended.replayed)


def _may_pass(record: Recorded, accept_conditions: bool) -> bool:
    decision = Decision(orjson.loads(record.document)["decision"])
    return decision is Decision.ALLOW or (
        accept_conditions and decision is Decision.ALLOW_WITH_CONDITIONS
    )


def _not_allowed(record: Recorded, location: str, replayed: bool) -> Response:
    document = orjson.loads(with_position(record.document, record.position))
    blocking = [reason["message"] for reason in document["reasons"] if reason["blocks"]]
    detail = "; ".join(blocking) or f"the decision is {document['decision']}"
    headers = {"Location": location, "Cache-Control": "no-store"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return problem_response(NOT_ALLOWED, detail, headers, determination=document)


@router.post(
    "/determinations/batch",
    status_code=201,
    dependencies=[needs(Permission.DETERMINE)],
    openapi_extra=takes(AskedMany),
    responses=answers(201, DeterminationBatch, "All decided and recorded", 409, takes_body=True),
)
async def make_determinations(
    context: Recording, asked: AskedMany = body_of(AskedMany)
) -> Response:
    """Decide up to 1,000 questions in one durable commit; an answer for each, in their order."""
    appended = await determine(context, asked.determinations, listed_under="determinations")
    headers = {
        "Cache-Control": "no-store",
        "Location": f"/v1/determinations?after={_cursor_before(appended)}&limit={MAX_PAGE}",
    }
    if appended.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(_list(appended.records, b"}"), 201, headers, "application/json")


def _list(records: Any, ending: bytes) -> bytes:
    documents = b",".join(with_position(r.document, r.position) for r in records)
    return b'{"determinations":[' + documents + b"]" + ending


def _with_the_recorded_bytes(said: dict[int | str, dict[str, Any]]) -> Any:
    said[200]["content"][DOCUMENT_TYPE] = {"schema": {"type": "object"}}
    return said


@router.get(
    "/determinations/{id}",
    dependencies=[needs(Permission.READ)],
    responses=_with_the_recorded_bytes(
        answers(200, RecordedDetermination, "The determination", 404)
    ),
)
async def read_determination(id: str, request: Request, context: Reading) -> Response:
    """The determination as it was answered; with `Accept: application/vnd.aslgate.determination+json`
    the recorded bytes alone. The headers say where it no longer answers: `Determination-Expired`,
    `Determination-Superseded`.
    """
    record = await context.store.record(id)
    if record is None or record.kind is not Kind.DETERMINATION:
        raise NotFound("determination", id)
    headers = standing_headers(await standing_of(context, record))
    if DOCUMENT_TYPE in request.headers.get("accept", ""):
        headers["Cache-Control"] = "no-store"
        return Response(record.document, 200, headers, DOCUMENT_TYPE)
    response = recorded_response(record, status=200)
    response.headers.update(headers)
    return response


@router.get(
    "/determinations/{id}/explanation",
    dependencies=[needs(Permission.READ)],
    responses=page_answers("The page", 404),
)
async def read_explanation(
    id: str,
    request: Request,
    context: Reading,
    settling: bool = Query(True, description="Say also what would have changed the answer"),
) -> Response:
    """The determination as a page for people, clause by clause; with `Accept: text/plain` without
    Markdown.
    """
    form = _form(request.headers.get("accept", ""))
    page = await explain_determination(context, id, form, with_settling=settling)
    headers = {"Cache-Control": "no-store"}
    return Response(page, 200, headers, PAGE_TYPES[form])


def _form(accept: str) -> Form:
    """Markdown, unless plain text is asked for first."""
    plain, markdown = accept.find("text/plain"), accept.find("text/markdown")
    return "plain" if plain >= 0 and (markdown < 0 or plain < markdown) else "markdown"


@router.get(
    "/determinations/{id}/settling",
    dependencies=[needs(Permission.SIMULATE)],
    responses=answers(200, Settling, "What would have changed it", 404),
)
async def read_settling(id: str, context: Reading) -> JSONResponse:
    """The smallest sets of evidence that would have changed the answer, on what it saw."""
    found = await settle_determination(context, id)
    return JSONResponse(found.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


@router.get(
    "/determinations/{id}/replay",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, Replay, "The recorded bytes beside those recomputed now", 404),
)
async def read_replay(id: str, context: Reading) -> JSONResponse:
    """Recompute the determination from its provenance, under the semantics that it names, and say
    whether the bytes are the same, or in which places they differ.
    """
    found = await replay_determination(context, id)
    return JSONResponse(found.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


def _attestation_answers() -> dict[int | str, dict[str, Any]]:
    said = answers(200, DsseEnvelope, "The signed statement", 404, 409)
    said[200]["content"] = content_of(DsseEnvelope, ENVELOPE_TYPE)
    said[200]["content"] |= content_of(SigstoreBundle, BUNDLE_TYPE)
    said[409]["description"] = "It no longer answers, or is about the past, or there is no digest"
    return said


@router.get(
    "/determinations/{id}/attestation",
    dependencies=[needs(Permission.READ)],
    responses=_attestation_answers(),
)
async def read_attestation(
    id: str,
    context: Reading,
    attestor: Attesting,
    form: AttestationForm = Query(
        "dsse", alias="format", description="A plain DSSE envelope, or a Sigstore bundle of it"
    ),
) -> Response:
    """The determination as a signed SLSA verification summary, as long as it would be answered now.

    It passes only where the decision is `allow`. 409 where the determination has lapsed, is
    superseded or is about the past, and where the model version has no digest.
    """
    signed = await attest(context, id, attestor, form)
    media = ENVELOPE_TYPE if form == "dsse" else BUNDLE_TYPE
    return Response(signed, 200, {"Cache-Control": "no-store"}, media)


@router.get(
    "/attestation-keys",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, AttestationKeys, "The public keys", 404),
)
async def read_attestation_keys(attestor: Attesting) -> JSONResponse:
    """The public keys that verify attestations, and the verifier that they sign for."""
    key = attestor.key
    named = AttestationKeyAnswer(keyid=key.id, algorithm="ed25519", public_key=key.public_pem)
    said = AttestationKeys(verifier=verifier_id(attestor.log), keys=(named,))
    return JSONResponse(said.model_dump(mode="json"))


@router.get(
    "/determinations",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, DeterminationPage, "A page, newest first"),
)
async def list_determinations(
    context: Reading,
    model: str | None = None,
    action: str | None = None,
    decision: Literal["allow", "allow_with_conditions", "deny"] | None = None,
    policy: str | None = None,
    after: str | None = Query(None, description="The `next` of the page before"),
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE), IN_DIGITS] = PAGE,
) -> Response:
    """Recorded determinations, newest first, by page."""
    records = await context.store.determinations(
        model=model,
        action=action,
        decision=decision,
        policy=policy,
        before=read_cursor(after),
        limit=limit + 1,
    )
    page = records[:limit]
    more = len(records) > limit
    following = f'"{cursor(page[-1].position.index)}"' if more else "null"
    body = _list(page, f',"next":{following}}}'.encode())
    return Response(body, 200, {"Cache-Control": "no-store"}, "application/json")


def _cursor_before(appended: Appended) -> str:
    """The cursor whose page begins with the newest of these records."""
    return cursor(appended.records[-1].position.index + 1)


@router.post(
    "/simulations",
    tags=["simulations"],
    dependencies=[needs(Permission.SIMULATE)],
    openapi_extra=takes(Simulated),
    responses=answers(
        200, SimulatedDetermination, "Decided, and recorded nowhere", 404, takes_body=True
    ),
)
async def make_simulation(
    context: Reading, simulated: Simulated = body_of(Simulated)
) -> JSONResponse:
    """What would be said on evidence given here. It is recorded nowhere, and says so."""
    return JSONResponse(await simulate(context, simulated), headers={"Cache-Control": "no-store"})
