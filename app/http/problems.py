"""Refusals as RFC 9457 problem details: one table from what we refuse to how HTTP says it."""

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from app.errors import (
    AlreadyInForce,
    AlreadyRecorded,
    DeterminationLapsed,
    DeterminationSuperseded,
    DocumentTooLarge,
    DocumentTooSlow,
    ExceptionEnded,
    Forbidden,
    FourEyes,
    IdempotencyKeyReused,
    InvalidDocument,
    InvalidParameter,
    NoAttestationKey,
    NoDigest,
    NoPolicyInForce,
    NotAboutNow,
    NotApproved,
    NotFound,
    NotFromSender,
    NotRecomputable,
    OutsideBinding,
    Refusal,
    RetroactiveActivation,
    RoleNotHeld,
    SelfActivation,
    SelfApproval,
    SoleApprover,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UndecodableDocument,
    UnsupportedMediaType,
    WithdrawalByAnother,
)
from app.storage.ledger import LedgerFault

MEDIA_TYPE: Final = "application/problem+json"


class Problem(NamedTuple):
    """The status and the name of a problem; its `type` is `urn:aslgate:problem:<name>`."""

    status: int
    name: str
    title: str


PROBLEMS: Final[Mapping[type[Refusal], Problem]] = {
    UndecodableDocument: Problem(400, "undecodable-document", "The document cannot be read"),
    InvalidDocument: Problem(422, "invalid-document", "The document does not say what it must"),
    DocumentTooLarge: Problem(413, "document-too-large", "The document is too large"),
    DocumentTooSlow: Problem(408, "document-too-slow", "The body did not arrive in time"),
    UnsupportedMediaType: Problem(415, "unsupported-media-type", "The body has another type"),
    InvalidParameter: Problem(422, "invalid-parameter", "A parameter cannot be used"),
    Unauthenticated: Problem(401, "unauthenticated", "A valid API key is needed"),
    Forbidden: Problem(403, "forbidden", "The caller lacks a permission"),
    NotFromSender: Problem(401, "not-from-sender", "The delivery is not believed"),
    OutsideBinding: Problem(403, "outside-binding", "The binding may not speak of that"),
    TooManyRequests: Problem(429, "too-many-requests", "Ask less often"),
    RoleNotHeld: Problem(403, "role-not-held", "The caller does not hold the role"),
    SoleApprover: Problem(409, "sole-approver", "Somebody else must approve first"),
    NotFound: Problem(404, "not-found", "Nothing is recorded under that name"),
    NoPolicyInForce: Problem(404, "no-policy-in-force", "No version was in force"),
    SelfApproval: Problem(409, "self-approval", "Somebody else must approve it"),
    FourEyes: Problem(409, "four-eyes", "A second person must approve it"),
    ExceptionEnded: Problem(409, "exception-ended", "The exception has ended"),
    SelfActivation: Problem(409, "self-activation", "Somebody else must activate it"),
    NotApproved: Problem(409, "not-approved", "Somebody else must approve it first"),
    AlreadyInForce: Problem(409, "already-in-force", "The version is in force"),
    RetroactiveActivation: Problem(422, "retroactive-activation", "The instant is past"),
    WithdrawalByAnother: Problem(
        409, "withdrawal-by-another", "Only who recorded it may withdraw it"
    ),
    AlreadyRecorded: Problem(409, "already-recorded", "Something else has that name"),
    IdempotencyKeyReused: Problem(422, "idempotency-key-reused", "The key has another request"),
    DeterminationSuperseded: Problem(
        409, "determination-superseded", "The recorded answer no longer answers"
    ),
    DeterminationLapsed: Problem(409, "determination-lapsed", "The recorded answer has lapsed"),
    NotRecomputable: Problem(409, "not-recomputable", "The recorded answer cannot be recomputed"),
    NotAboutNow: Problem(409, "not-about-now", "The recorded answer is about the past"),
    NoDigest: Problem(409, "no-digest", "The model version has no digest"),
    NoAttestationKey: Problem(404, "no-attestation-key", "There are no attestations here"),
    Unavailable: Problem(503, "unavailable", "Not decidable now; ask again"),
}

NOT_ALLOWED: Final = Problem(403, "not-allowed", "The action is not allowed")
"""What `enforce=true` answers to anything but `allow`; the determination is inside."""
INTERNAL: Final = Problem(500, "internal", "Something went wrong here")


def problem_response(
    problem: Problem, detail: str, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """A problem document; *more* are its extension members."""
    body = {
        "type": f"urn:aslgate:problem:{problem.name}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        **more,
    }
    return Response(orjson.dumps(body), problem.status, headers, MEDIA_TYPE)


def reason_of(refusal: Refusal) -> dict[str, str]:
    """Why a request was refused, for the log: stable words of ours, and nothing that was sent."""
    said = {"refusal": PROBLEMS[type(refusal)].name}
    if isinstance(refusal, InvalidDocument):
        said["reason"] = " ".join(sorted({fault.code for fault in refusal.faults}))
    elif isinstance(refusal, Unavailable | Unauthenticated | NotFromSender):
        said["reason"] = refusal.reason
    elif isinstance(refusal, Forbidden):
        said["reason"] = refusal.permission
    elif isinstance(refusal, RoleNotHeld):
        said["reason"] = " ".join(refusal.roles)
    if isinstance(refusal, Unauthenticated) and refusal.credential is not None:
        said["credential"] = refusal.credential
    return said


def refusal_response(refusal: Refusal) -> Response:
    """The problem document of *refusal*."""
    headers = {}
    more: dict[str, Any] = {}
    if isinstance(refusal, InvalidDocument):
        more["errors"] = [
            {name: value for name, value in asdict(fault).items() if value is not None}
            for fault in refusal.faults
        ]
    elif isinstance(refusal, Unavailable):
        more["reason"] = refusal.reason
        # Spread the retries, so that those who waited together do not come back together.
        after = 1 if refusal.reason == "checkpoint-pending" else random.randint(1, 5)  # noqa: S311
        headers["Retry-After"] = str(after)
    elif isinstance(refusal, Unauthenticated):
        # RFC 6750 §3.1: what came does not open anything, or nothing came.
        tried = refusal.reason != "none"
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"' if tried else "Bearer"
    elif isinstance(refusal, NotFromSender):
        headers["WWW-Authenticate"] = "Signature"
    elif isinstance(refusal, TooManyRequests):
        headers["Retry-After"] = str(refusal.after_seconds)
    elif isinstance(refusal, InvalidParameter):
        more["parameter"] = refusal.name
    elif isinstance(
        refusal, DeterminationSuperseded | DeterminationLapsed | NotAboutNow | NotRecomputable
    ):
        more["determination"] = refusal.determination
    elif isinstance(refusal, SoleApprover) and refusal.sign_offs:
        more["sign_offs"] = refusal.sign_offs
        more["assessments"] = refusal.assessments
    return problem_response(PROBLEMS[type(refusal)], str(refusal), headers, **more)


def failure_response(request_id: str) -> Response:
    """What a caller is told of a failure of ours: a constant text, and where to find the rest."""
    detail = "the fault is on our side and is logged under this request id"
    return problem_response(INTERNAL, detail, request_id=request_id)


def install(app: FastAPI, methods_at: Callable[[Scope], list[str]]) -> None:
    """Answer every refusal and every HTTP error as a problem document.

    *methods_at* knows which methods there are at a request's path.
    """

    async def refused(request: Request, refusal: Exception) -> Response:
        assert isinstance(refusal, Refusal)
        request.state.refusal = refusal
        return refusal_response(refusal)

    async def ledger_fault(_: Request, error: Exception) -> Response:
        # Something that cannot be: nothing more is recorded until someone has looked.
        structlog.get_logger("aslgate.ledger").error("ledger fault", exc_info=error)
        message = "the ledger cannot be written to now; its operator has been told in the log"
        return refusal_response(Unavailable("ledger", message))

    async def unusable_parameters(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        refusals = [
            InvalidParameter(str(fault["loc"][-1]), fault["msg"][:1].lower() + fault["msg"][1:])
            for fault in error.errors()
        ]
        detail = "; ".join(map(str, refusals))
        return problem_response(PROBLEMS[InvalidParameter], detail, parameter=refusals[0].name)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        name = {404: "no-such-path", 405: "method-not-allowed"}.get(error.status_code, "http")
        problem = Problem(error.status_code, name, str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # The router names the methods of the first route at this path only.
            headers["Allow"] = ", ".join(methods_at(request.scope))
        return problem_response(problem, str(error.detail), headers)

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(LedgerFault, ledger_fault)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, unusable_parameters)
