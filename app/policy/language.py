"""The text of a policy version, read: a `PolicyVersion`, or every fault that it has.

A document is YAML or JSON. Its identity is the SHA-256 of its canonical JSON, which is the same
for both and keeps decimals as text; those canonical bytes are what is recorded.
"""

from typing import Any, Literal

from pydantic import TypeAdapter

from app.canonical import canonical_json, digest
from app.decoding import decode_json, decode_yaml
from app.errors import DocumentTooLarge, InvalidDocument
from app.parsing import parse, place
from app.policy.lint import lint
from app.policy.version import PolicyVersion
from app.vocabulary import JSON, TEXT

_VERSION = TypeAdapter(PolicyVersion)

MAX_BYTES = 256 * 1024
"""The largest policy document that is read."""


def read_policy(text: bytes, media: Literal["yaml", "json"]) -> PolicyVersion:
    """The version that *text* says.

    Raises `UndecodableDocument` where it is not the JSON or YAML that we accept, `InvalidDocument`
    where it does not say what a version must, or says what would break a law: all faults at once,
    in the order of the text.
    """
    if len(text) > MAX_BYTES:
        raise DocumentTooLarge(MAX_BYTES)
    if media == "yaml":
        decoded = decode_yaml(text)
        value, places, context = decoded.value, decoded.places, TEXT
    else:
        value, places, context = decode_json(text), {}, JSON
    version = parse(_VERSION, value, context, places)
    if faults := lint(version):
        placed = (place(fault, places) if places else fault for fault in faults)
        raise InvalidDocument(tuple(sorted(placed, key=lambda f: (f.line or 0, f.pointer))))
    return version


def checked_policy(document: bytes) -> PolicyVersion:
    """The version that canonical bytes say which nobody has checked yet.

    Raises `InvalidDocument` with every fault.
    """
    version = parse(_VERSION, decode_json(document), TEXT)
    if faults := lint(version):
        raise InvalidDocument(tuple(faults))
    return version


def recorded_policy(document: bytes) -> PolicyVersion:
    """The version that a recorded document, our own canonical bytes, says."""
    return _VERSION.validate_python(decode_json(document), context=dict(TEXT))


def canonical_policy(version: PolicyVersion) -> bytes:
    """The bytes that are recorded and hashed: only what the author wrote, in canonical form."""
    return canonical_json(version.model_dump(mode="json", by_alias=True, exclude_unset=True))


def policy_digest(version: PolicyVersion) -> str:
    """The identity of a version: `sha256:` of its canonical bytes."""
    return digest(canonical_policy(version))


def policy_schema() -> dict[str, Any]:
    """The JSON Schema of the language, for editors."""
    return _VERSION.json_schema(by_alias=True)
