"""`/v1/imports/{source}`: what would be recorded of an evaluation log of another system."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import asdict
from io import BytesIO
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from app.assessment.evaluations import System
from app.canonical import exact_json
from app.decoding import pointer
from app.errors import DocumentTooLarge, Fault, InvalidDocument
from app.http.bodies import body_of, takes
from app.http.callers import Reading, needs
from app.http.documents import FaultAnswer, answers
from app.http.permissions import Permission
from app.ledger.envelope import SignerKey
from app.operations.import_evaluations import GivenLog, preview
from app.vocabulary import Document, Flag, Line, ModelRef

router = APIRouter(prefix="/v1", tags=["imports"])

_Text = Annotated[str, StringConstraints(min_length=1)]


class ImportedLog(Document):
    """An evaluation log, and the map by which it is read."""

    model: ModelRef
    map: _Text
    """The map's text, YAML or JSON: as it was reviewed, for its digest is kept."""
    log: Annotated[_Text, Field(json_schema_extra={"contentEncoding": "base64"})]
    """The log's bytes as they were written, in base64."""
    statement: Annotated[_Text | None, Field(json_schema_extra={"contentEncoding": "base64"})] = (
        None
    )
    """A DSSE envelope, in base64, around an in-toto Statement about the log."""
    uri: Line | None = None
    """Where the log can be found."""
    skip_unusable: Flag = False
    """Whether metrics whose numbers cannot be used are left out, and the others kept."""


def _draft_answers() -> dict[int | str, dict[str, Any]]:
    said = answers(200, FaultAnswer, "The draft; nothing is recorded", takes_body=True)
    # Its numbers are numbers, as the body of an assessment has them, and not text as on record.
    said[200]["content"]["application/json"]["schema"] = {
        "type": "object",
        "required": ["draft", "warnings"],
        "properties": {
            "draft": {"$ref": "#/requests/Assessment"},
            "warnings": {"type": "array", "items": {"$ref": "#/answers/FaultAnswer"}},
        },
    }
    return said


@router.post(
    "/imports/{source}",
    dependencies=[needs(Permission.SIMULATE)],
    openapi_extra=takes(ImportedLog),
    responses=_draft_answers(),
)
async def preview_import(
    source: System, request: Request, context: Reading, given: ImportedLog = body_of(ImportedLog)
) -> Response:
    """What would be recorded of an evaluation log: a draft, and warnings. Nothing is recorded; a person
    reads the draft and posts it to `/v1/assessments`.
    """
    keys: tuple[SignerKey, ...] = request.app.state.import_keys
    statement = None if given.statement is None else _decoded(given.statement, "statement")
    log = GivenLog(
        file=BytesIO(_decoded(given.log, "log")),
        map=given.map.encode(),
        model=given.model,
        uri=given.uri,
        statement=statement,
        skip_unusable=given.skip_unusable,
    )
    try:
        async with context.turns.explanations.turn():
            drafted, warnings = await preview(context, source, log, keys)
    except InvalidDocument as invalid:
        raise InvalidDocument(tuple(map(_in_the_body, invalid.faults))) from None
    except DocumentTooLarge as large:
        fault = Fault("/map", "too-large", str(large))
        raise InvalidDocument((fault,)) from None
    body = exact_json({"draft": drafted.body, "warnings": list(_as_json(warnings))})
    return Response(body, 200, {"Cache-Control": "no-store"}, "application/json")


def _decoded(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        fault = Fault(pointer(field), "not-base64", "must be base64")
        raise InvalidDocument((fault,)) from None


def _in_the_body(fault: Fault) -> Fault:
    """The fault where it stands in what was sent: the map and the log are each one text there."""
    field = "/log" if fault.line is None else "/map"
    message = f"`{fault.pointer}`: {fault.message}" if fault.pointer else fault.message
    return Fault(field, fault.code, message, fault.line, fault.column)


def _as_json(warnings: Iterable[Fault]) -> Iterable[dict[str, Any]]:
    for warning in warnings:
        yield {name: value for name, value in asdict(warning).items() if value is not None}
