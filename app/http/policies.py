"""`/v1/policies`: record a version, approve it, put it in force, ask which one is."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from app.canonical import digest
from app.errors import InvalidParameter, NoPolicyInForce, NotFound, UnsupportedMediaType
from app.http.bodies import (
    body_of,
    created,
    media_type,
    position_json,
    read_response,
    takes,
    unchanged,
)
from app.http.callers import Reading, Recording, needs
from app.http.documents import (
    JsonSchema,
    PolicyActivationAnswer,
    PolicyApprovalAnswer,
    PolicyStatus,
    PolicyVersionAnswer,
    PolicyVersions,
    answers,
    content_of,
)
from app.http.permissions import Permission
from app.operations import activate_policy as operation
from app.operations.backtest import Backtested, BacktestLine, backtest
from app.operations.record_policy import record_policy
from app.policy.diff import Diff, as_text, diff
from app.policy.language import policy_schema
from app.policy.timeline import (
    Activation,
    Approval,
    PolicyInForce,
    RecordedActivation,
    RecordedApproval,
    in_force_at,
)
from app.storage.store import OnRecord, Policies, RecordedPolicy, in_force_from
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


def _status(known: Policies, digest: str, now: datetime) -> PolicyStatus:
    spans = known.spans(digest)
    if in_force_at(spans, now) is not None:
        return "in-force"
    if any(span.since > now for span in spans):
        return "scheduled"
    if spans:
        return "superseded"
    return "approved" if known.approvals_of(digest) else "draft"


def _now_or_next(spans: Sequence[PolicyInForce], now: datetime) -> PolicyInForce | None:
    to_come = (span for span in spans if span.since > now)
    return in_force_at(spans, now) or next(to_come, None)


def _span(span: PolicyInForce | None) -> dict[str, str | None] | None:
    if span is None:
        return None
    until = None if span.until is None else write_instant(span.until)
    return {"from": write_instant(span.since), "until": until}


def _body(
    recorded: RecordedPolicy, known: Policies, now: datetime, then: PolicyInForce | None = None
) -> bytes:
    """The answer about a version; *then*: when it is in force around the instant asked about."""
    version, digest = recorded.version, recorded.digest
    spans = known.spans(digest)
    answer = {
        "policy": version.policy,
        "version": version.version,
        "digest": digest,
        "status": _status(known, digest, now),
        "in_force": _span(then or _now_or_next(spans, now)),
        "spans": [_span(span) for span in spans],
        "approvals": [
            {
                "id": one.record.subject,
                "by": one.said.by,
                "given_at": write_instant(one.said.given_at),
                "reason": one.said.reason,
            }
            for one in known.approvals_of(digest)
        ],
        "activations": [
            {
                "id": one.record.subject,
                "by": one.said.by,
                "in_force_from": write_instant(in_force_from(one.said)),
                "given_at": write_instant(one.said.given_at),
                "retroactive": one.said.retroactive,
                "reason": one.said.reason,
            }
            for one in known.activations_of(digest)
        ],
        "ledger": position_json(recorded.position),
    }
    # The recorded bytes go in as they are, so that the digest can be checked on what was received.
    return orjson.dumps(answer)[:-1] + b',"document":' + recorded.document + b"}"


def _response(body: bytes, status: int = 200, **headers: str) -> Response:
    return Response(body, status, headers, "application/json")


@router.post(
    "/{policy}/versions",
    status_code=201,
    dependencies=[needs(Permission.RECORD_POLICIES)],
    openapi_extra=_EITHER,
    responses=answers(201, PolicyVersionAnswer, "The version is recorded", 409, takes_body=True),
)
async def record_policy_version(policy: str, request: Request, context: Recording) -> Response:
    """Record a policy version, as YAML or JSON: a draft. Again, it gives the same answer."""
    media = media_type(request)
    if media not in (*YAML_TYPES, "application/json"):
        raise UnsupportedMediaType(("application/yaml", "application/json"))
    kind: Literal["json", "yaml"] = "json" if media == "application/json" else "yaml"
    done = await record_policy(context, policy, await request.body(), kind)
    version = done.recorded.version.version
    headers = {"Location": f"/v1/policies/{policy}/versions/{version}"}
    if done.replayed:
        headers["Idempotency-Replayed"] = "true"
    return _response(_body(done.recorded, done.policies, context.now), 201, **headers)


@router.get(
    "/{policy}/versions",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, PolicyVersions, "The versions", 404),
)
async def list_policy_versions(policy: str, context: Reading) -> Response:
    """All recorded versions of a policy, drafts included, in the order of recording."""
    known = await context.store.policies(policy)
    if not known.versions:
        raise NotFound("policy", policy)
    versions = [
        {
            "version": one.version.version,
            "digest": one.digest,
            "effective": write_instant(one.version.effective),
            "status": _status(known, one.digest, context.now),
            "in_force": _span(_now_or_next(known.spans(one.digest), context.now)),
        }
        for one in known.versions
    ]
    return _response(orjson.dumps({"policy": policy, "versions": versions}))


@router.get(
    "/{policy}/versions/{version}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, PolicyVersionAnswer, "The version", 304, 404),
)
async def read_policy_version(
    policy: str, version: str, request: Request, context: Reading
) -> Response:
    """The version with its digest, what became of it, and its document byte for byte."""
    known = await context.store.policies(policy)
    recorded = known.version(version)
    if recorded is None:
        raise NotFound("policy version", f"{policy} {version}")
    body = _body(recorded, known, context.now)
    # Of the whole answer: the document never changes, and what is said of it does.
    etag = f'"{digest(body)}"'
    if unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return _response(body, ETag=etag)


_DIFF = answers(200, Diff, "The changes; with `format=text`, for people", 404)
_DIFF[200]["content"]["text/plain"] = {"schema": {"type": "string"}}


@router.get(
    "/{policy}/versions/{version}/diff",
    dependencies=[needs(Permission.READ)],
    responses=_DIFF,
)
async def read_policy_diff(
    policy: str,
    version: str,
    context: Reading,
    against: str = Query(description="The version from which it is told, e.g. `2.1`"),
    form: Literal["json", "text"] = Query("json", alias="format", description="`json` or `text`"),
) -> Response:
    """What the version says otherwise than another of the policy, and what each change does."""
    known = await context.store.policies(policy)
    older, newer = known.version(against), known.version(version)
    if older is None or newer is None:
        raise NotFound("policy version", f"{policy} {against if older is None else version}")
    # The largest documents take most of a second, in which the service answers others.
    async with context.turns.explanations.turn():
        found = await asyncio.to_thread(diff, older.version, newer.version)
    if form == "text":
        return Response(as_text(found), media_type="text/plain")
    return _response(found.model_dump_json().encode())


NDJSON = "application/x-ndjson"

_BACKTEST = answers(
    200, BacktestLine, "The differences as they are found, then a summary", 404, takes_body=True
)
_BACKTEST[200]["content"] = content_of(BacktestLine, NDJSON)


@router.post(
    "/{policy}/versions/{version}/backtest",
    dependencies=[needs(Permission.SIMULATE)],
    openapi_extra=takes(Backtested),
    responses=_BACKTEST,
)
async def backtest_policy_version(
    policy: str, version: str, context: Reading, backtested: Backtested = body_of(Backtested)
) -> Response:
    """What the version would say otherwise, line by line; one without a summary was cut off."""
    lines = await backtest(context, policy, version, backtested)
    headers = {"Cache-Control": "no-store"}
    return StreamingResponse(_as_bytes(lines), headers=headers, media_type=NDJSON)


async def _as_bytes(lines: AsyncGenerator[BacktestLine, None]) -> AsyncIterator[bytes]:
    # A caller who goes away amid the lines gives up its turn at once.
    async with aclosing(lines):
        async for line in lines:
            yield line.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"


@router.post(
    "/{policy}/versions/{version}/approvals",
    status_code=201,
    dependencies=[needs(Permission.APPROVE_POLICIES)],
    openapi_extra=takes(Approval),
    responses=answers(201, PolicyApprovalAnswer, "Approved", 404, 409, takes_body=True),
)
async def approve_policy_version(
    policy: str, version: str, context: Recording, approval: Approval = body_of(Approval)
) -> Response:
    """Approve a version that somebody else recorded."""
    done = await operation.approve_policy(context, policy, version, approval)
    return created(done, f"/v1/policies/{policy}/versions/{version}/approvals")


@router.get(
    "/{policy}/versions/{version}/approvals/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, PolicyApprovalAnswer, "The approval", 304, 404),
)
async def read_policy_approval(
    policy: str, version: str, id: str, request: Request, context: Reading
) -> Response:
    """An approval as it was recorded."""
    known = await context.store.policies(policy)
    return _read("approval", id, version, known.approvals, request)


@router.post(
    "/{policy}/versions/{version}/activation",
    status_code=201,
    dependencies=[needs(Permission.ACTIVATE_POLICIES)],
    openapi_extra=takes(Activation),
    responses=answers(201, PolicyActivationAnswer, "Activated", 404, 409, takes_body=True),
)
async def activate_policy_version(
    policy: str, version: str, context: Recording, activation: Activation = body_of(Activation)
) -> Response:
    """Put an approved version in force, from now on or from a stated instant."""
    done = await operation.activate_policy(context, policy, version, activation)
    return created(done, f"/v1/policies/{policy}/versions/{version}/activations")


@router.get(
    "/{policy}/versions/{version}/activations/{id}",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, PolicyActivationAnswer, "The activation", 304, 404),
)
async def read_policy_activation(
    policy: str, version: str, id: str, request: Request, context: Reading
) -> Response:
    """An activation as it was recorded."""
    known = await context.store.policies(policy)
    return _read("activation", id, version, known.activations, request)


def _read(
    what: str,
    id: str,
    version: str,
    given: Sequence[OnRecord[RecordedApproval]] | Sequence[OnRecord[RecordedActivation]],
    request: Request,
) -> Response:
    for one in given:
        if one.record.subject == id and one.said.version == version:
            return read_response(request, one.record)
    raise NotFound(what, id)


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
    return _response(_body(recorded, known, context.now, found))


schemas = APIRouter(prefix="/v1/schemas", tags=["policies"])


@schemas.get(
    "/policy",
    dependencies=[needs(Permission.READ)],
    responses=answers(200, JsonSchema, "The JSON Schema"),
)
async def read_policy_schema() -> dict[str, Any]:
    """The JSON Schema of a policy version, for editors."""
    return policy_schema()
