"""`/access/v1`: OpenID AuthZEN 1.0, for whoever speaks that; an evaluation is a gate like any other.

What is wrong with a request is 400 here, whatever it is, and a no is 200: AuthZEN has it so.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import orjson
from fastapi import APIRouter, Request
from fastapi.params import Depends
from pydantic import BaseModel, RootModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from app.canonical import canonical_json
from app.decoding import decode_json
from app.errors import Fault, InvalidDocument, InvalidParameter, UndecodableDocument
from app.http.bodies import media_type, takes
from app.http.callers import FOR_EVERYONE, Reading, Recording, needs
from app.http.cursors import MAX_PAGE, PAGE, read_search_token, search_token
from app.http.documents import answers, open_answers
from app.http.permissions import Permission
from app.integrations import authzen
from app.integrations.authzen import Item, Question, ResourceSearch, Semantic
from app.operations.ask_gate import AskedGate, GateQuestion, ask_gates, gates_in
from app.operations.context import Context
from app.operations.find_allowed import find_allowed
from app.storage.ledger import Appended
from app.vocabulary import Document

PREFIX: Final = "/access/v1"

router = APIRouter(prefix=PREFIX, tags=["authzen"])
discovery = APIRouter(tags=["authzen"])

T = TypeVar("T")


# --- What answers look like --------------------------------------------------------------------


class AuthzenDecision(Document):
    """Whether it may go ahead. `context` says which gate that is, what each policy says, why not, on which
    conditions, until when it holds, and where it is recorded and proved.
    """

    decision: bool
    context: dict[str, Any]


class AuthzenDecisions(Document):
    """The decisions, in the order of the evaluations."""

    evaluations: tuple[AuthzenDecision, ...]


class AuthzenEvaluated(RootModel[AuthzenDecisions | AuthzenDecision]):
    """The decisions; or the one, where it was asked for one."""


class AuthzenResource(Document):
    """A model version."""

    type: str
    id: str


class AuthzenPage(Document):
    """`next_token` is empty on the last page."""

    next_token: str
    count: int


class AuthzenResources(Document):
    """The model versions that were found; a page may hold none, and there may be more all the same."""

    page: AuthzenPage
    results: tuple[AuthzenResource, ...]


class AuthzenMetadata(BaseModel):
    """Where the service speaks AuthZEN."""

    policy_decision_point: str
    access_evaluation_endpoint: str
    access_evaluations_endpoint: str
    search_resource_endpoint: str


# --- The routes --------------------------------------------------------------------------------


def _body_as(read: Callable[[object], T]) -> Any:
    """A dependency that reads the request's body; 400 for whatever is wrong with it."""

    async def read_body(request: Request) -> T:
        if media_type(request) != "application/json":
            fault = Fault("", "media-type", "must be sent as `application/json`")
            raise UndecodableDocument((fault,))
        try:
            return read(decode_json(await request.body()))
        except InvalidDocument as invalid:
            raise UndecodableDocument(invalid.faults) from None

    return Depends(read_body)


def _base(request: Request) -> str:
    base: str | None = request.app.state.public_url
    return base or ""


@router.post(
    "/evaluation",
    dependencies=[needs(Permission.DETERMINE)],
    openapi_extra=takes(authzen.Evaluation),
    responses=answers(200, AuthzenDecision, "The decision", 409, takes_body=True),
)
async def evaluate_access(
    request: Request, context: Recording, item: Item = _body_as(authzen.read_evaluation)
) -> JSONResponse:
    """May the subject do the action on the model version? Asks the gate, which is recorded."""
    return await _evaluated(request, context, item)


@router.post(
    "/evaluations",
    dependencies=[needs(Permission.DETERMINE)],
    openapi_extra=takes(authzen.Evaluations),
    responses=answers(200, AuthzenEvaluated, "The decisions", 409, takes_body=True),
)
async def evaluate_accesses(
    request: Request,
    context: Recording,
    asked: tuple[Semantic, tuple[Item, ...]] | Item = _body_as(authzen.read_evaluations),
) -> JSONResponse:
    """Up to 100 of these in one commit: all, or up to the first denial, or up to the first permission."""
    if not isinstance(asked, tuple):
        return await _evaluated(request, context, asked)
    semantic, items = asked
    decisions, replayed = await _decisions(request, context, semantic, items)
    return _answered({"evaluations": decisions}, replayed)


async def _evaluated(request: Request, context: Context, item: Item) -> JSONResponse:
    (decision,), replayed = await _decisions(request, context, "execute_all", (item,))
    return _answered(decision, replayed)


def _answered(body: dict[str, Any], replayed: bool) -> JSONResponse:
    headers = {"Cache-Control": "no-store"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(body, headers=headers)


async def _decisions(
    request: Request, context: Context, semantic: Semantic, items: Sequence[Item]
) -> tuple[list[dict[str, Any]], bool]:
    """A decision for each of *items*, up to where *semantic* ends it, and whether they are repeated."""
    questions = _questions(semantic, items)
    appended = Appended((), replayed=False)
    if questions:
        try:
            appended = await ask_gates(
                context, questions, until=lambda gate: authzen.stops(semantic, gate.allowed)
            )
        except InvalidDocument as invalid:
            raise UndecodableDocument(invalid.faults) from None
    gates, decisions = gates_in(appended), list[dict[str, Any]]()
    for item in items:
        if isinstance(item, Question):
            decisions.append(_decision(next(gates), _base(request)))
        else:
            decisions.append(authzen.denial_of(item))
        if authzen.stops(semantic, decisions[-1]["decision"]):
            break
    return decisions, appended.replayed


def _questions(semantic: Semantic, items: Sequence[Item]) -> list[GateQuestion]:
    """What the gate is asked: nothing of what comes after an item that ends it without being asked."""
    questions = []
    for item in items:
        if isinstance(item, Question):
            asked = AskedGate(model=item.model, action=item.action)
            questions.append(GateQuestion(asked, item.accepts_conditions, item.on_behalf_of))
        elif authzen.stops(semantic, decision=False):
            break
    return questions


def _decision(appended: Appended, base: str) -> dict[str, Any]:
    *determinations, gate = appended.records
    said = [orjson.loads(one.document) for one in determinations]
    return authzen.decision_of(orjson.loads(gate.document), said, gate.position.index, base)


@router.post(
    "/search/resource",
    dependencies=[needs(Permission.READ)],
    openapi_extra=takes(ResourceSearch),
    responses=answers(200, AuthzenResources, "A page of what was found", takes_body=True),
)
async def search_resources(
    context: Reading, search: ResourceSearch = _body_as(authzen.read_resource_search)
) -> JSONResponse:
    """On which registered model versions would the action be allowed now? Recorded nowhere: whoever acts
    on one of them asks for an evaluation of it.
    """
    about = canonical_json(search.model_dump(mode="json", exclude={"page"}))
    first = _first(search.page.token, about)
    limit = PAGE if search.page.limit is None else min(search.page.limit, MAX_PAGE)
    models: tuple[str, ...] = ()
    following = None
    if search.resource.type == authzen.RESOURCE_TYPE and authzen.is_action(search.action.name):
        found = await find_allowed(
            context,
            search.action.name,
            accepts_conditions=search.accepts_conditions,
            first=first,
            limit=limit,
        )
        models, following = found.models, found.next
    token = "" if following is None else search_token(following, about)
    body = {
        "page": {"next_token": token, "count": len(models)},
        "results": [{"type": authzen.RESOURCE_TYPE, "id": model} for model in models],
    }
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


def _first(token: str | None, about: bytes) -> int:
    if token is None:
        return 0
    try:
        return read_search_token(token, about)
    except InvalidParameter:
        message = "is no token that this service gave for this search"
        raise UndecodableDocument((Fault("/page/token", "invalid-value", message),)) from None


@discovery.get(
    "/.well-known/authzen-configuration",
    dependencies=[FOR_EVERYONE],
    responses=open_answers("Where the service speaks AuthZEN", AuthzenMetadata, 404),
)
async def read_authzen_configuration(request: Request) -> JSONResponse:
    """AuthZEN's discovery document; there is one where the service is told its public address."""
    base = _base(request)
    if not base:
        raise HTTPException(404, "the service was not told its address (ASLGATE_PUBLIC_URL)")
    return JSONResponse(authzen.metadata(base), headers={"Cache-Control": "max-age=3600"})
