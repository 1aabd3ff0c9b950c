"""Read an evaluation log of another system, and say what would be recorded of it.

Nothing is recorded here, and nothing of the log's samples is kept: the draft holds the metrics that the
map names, and its sources are the digests of the log, of the map and of a signature.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, Final

from app.assessment.evaluations import (
    Draft,
    EvaluationRun,
    ImportMap,
    System,
    draft,
    read_map,
    source,
)
from app.canonical import sha256_hex
from app.decoding import decode_foreign_json, pointer
from app.errors import Fault, InvalidDocument, UndecodableDocument
from app.integrations import (
    every_eval_ever,
    inspect_log,
    lm_eval,
    metr_horizon,
    promptlayer_report,
    table,
)
from app.integrations.foreign import MAX_LOG_BYTES
from app.ledger.envelope import Opened, SignerKey, is_envelope, open_envelope
from app.ledger.statement import PAYLOAD_TYPE, STATEMENT_TYPE
from app.operations.context import Context
from app.operations.names import lines_of, unknown_in_assessment
from app.policy.timeline import in_force_at
from app.policy.version import PolicyVersion

_CHUNK: Final = 1024 * 1024

READERS: Final[Mapping[System, Callable[[BinaryIO, ImportMap], EvaluationRun]]] = {
    "inspect": inspect_log.read,
    "lm-eval": lm_eval.read,
    "eee": every_eval_ever.read,
    "metr": metr_horizon.read,
    "promptlayer": promptlayer_report.read,
    "table": table.read,
}
"""Who reads the logs of each system."""


@dataclass(frozen=True, slots=True)
class GivenLog:
    """A log as it was given. `statement` is a DSSE envelope around an in-toto Statement about the log's
    digest; the log may also itself be an envelope.
    """

    file: BinaryIO
    map: bytes
    model: str
    uri: str | None = None
    statement: bytes | None = None
    skip_unusable: bool = False
    """Whether metrics whose numbers cannot be used are left out, and the others kept."""


def read_log(
    system: System, given: GivenLog, keys: Sequence[SignerKey], *, must_be_signed: bool = False
) -> tuple[Draft, ImportMap]:
    """What would be recorded of the log, and the map by which. Reads the file and nothing else.

    Raises `InvalidDocument`: faults of the map have a line and a column, those of the log do not.
    `DocumentTooLarge`: the map.
    """
    said = read_map(given.map, system)
    try:
        file, signed = _unwrapped(given.file, keys)
        sha256 = _sha256(file)
        if given.statement is not None:
            if signed is not None:
                raise _refused("signed-twice", "the log is signed itself: leave the statement out")
            signed = open_envelope(given.statement, keys)
            _refuse_other_subject(signed, sha256)
        if must_be_signed and signed is None:
            raise _refused("not-signed", "the log is not signed, and a key was given")
        run = READERS[system](file, said)
    except UndecodableDocument as fault:
        # Lines and columns are the map's alone; of a log, they would be taken for that.
        raise InvalidDocument(tuple(_without_place(one) for one in fault.faults)) from None
    sources = [
        source(run.title, sha256, given.uri),
        source(f"import map for {system}", sha256_hex(given.map)),
        *(source(title, digest) for title, digest in run.artefacts),
    ]
    if signed is not None:
        sources.append(source(f"signature over the log by key {signed.key.id}", signed.sha256))
    drafted = draft(
        run, said, model=given.model, sources=sources, skip_unusable=given.skip_unusable
    )
    return drafted, said


def _without_place(fault: Fault) -> Fault:
    where = f" (line {fault.line}, column {fault.column} of the log)" if fault.line else ""
    return Fault(fault.pointer, fault.code, fault.message + where)


def _unwrapped(file: BinaryIO, keys: Sequence[SignerKey]) -> tuple[BinaryIO, Opened | None]:
    """The log itself, and the signature around it where there is one."""
    data = file.read(MAX_LOG_BYTES)
    file.seek(0)
    if not is_envelope(data):
        return file, None
    opened = open_envelope(data, keys)
    if opened.payload_type == PAYLOAD_TYPE:
        message = (
            "the envelope holds a statement about a log: give the log, and it as the statement"
        )
        raise _refused("statement", message)
    return BytesIO(opened.payload), opened


def _refuse_other_subject(opened: Opened, sha256: str) -> None:
    """Refuse a signed statement that is not about the bytes of the log."""
    value: Any = decode_foreign_json(opened.payload, max_bytes=MAX_LOG_BYTES)
    is_statement = (
        opened.payload_type == PAYLOAD_TYPE
        and isinstance(value, dict)
        and value.get("_type") == STATEMENT_TYPE
        and isinstance(value.get("subject"), list)
    )
    if not is_statement:
        raise _refused("undecodable", "the envelope holds no in-toto Statement v1")
    digests = [s.get("digest") for s in value["subject"] if isinstance(s, dict)]
    if not any(isinstance(one, dict) and one.get("sha256") == sha256 for one in digests):
        raise _refused("other-subject", f"the statement is not about this log, sha256 {sha256}")


def _sha256(file: BinaryIO) -> str:
    hashed = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        hashed.update(chunk)
    file.seek(0)
    return hashed.hexdigest()


def _refused(code: str, message: str) -> InvalidDocument:
    return InvalidDocument((Fault("", code, message),))


def warnings_of_lines(
    drafted: Draft, said: ImportMap, versions: Iterable[PolicyVersion]
) -> Iterator[Fault]:
    """What the policy versions say of the lines that results are held against: saturated, withdrawn."""
    policies: dict[str, set[str | None]] = {}
    for entry in said.results:
        policies.setdefault(entry.line, set()).add(entry.policy)
    for version in versions:
        for i, result in enumerate(drafted.assessment.results):
            line = version.lines.get(result.line)
            if line is None or line.status == "current":
                continue
            if policies[result.line] & {None, version.policy}:
                message = f"`{version.policy}` {version.version} says that `{result.line}` is {line.status}"
                note = f": {line.note}" if line.note else ""
                yield Fault(pointer("results", i, "line"), line.status, message + note)


async def preview(
    context: Context, system: System, given: GivenLog, keys: Sequence[SignerKey]
) -> tuple[Draft, tuple[Fault, ...]]:
    """What would be recorded of the log, and all warnings: those of the log, and what the recorded
    policies and models make of the draft. Raises as `read_log` does.
    """
    # In a thread: a log may take a second to read, and others are answered meanwhile.
    drafted, said = await asyncio.to_thread(read_log, system, given, keys)
    known = await context.store.known()
    spans = (in_force_at(timeline, context.now) for timeline in known.timelines.values())
    in_force = [one.version for one in spans if one is not None]
    warnings = [
        *drafted.warnings,
        *warnings_of_lines(drafted, said, in_force),
        *unknown_in_assessment(
            drafted.assessment,
            lambda policy: known.named_at(policy, context.now),
            lines_of(known.every_version()),
        ),
    ]
    model = await context.store.known_model(given.model)
    if model.recorded is None:
        message = f"model `{given.model}` is not registered"
        warnings.append(Fault("/model", "unknown-model", message))
    return drafted, tuple(warnings)
