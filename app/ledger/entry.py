"""One entry of the ledger: the small envelope that is hashed into the tree.

A recorded document is kept as the exact bytes that were hashed. Its entry is a canonical JSON
envelope that names the document by SHA-256 and binds it to an index, a time, an actor and this
log, so that the log can be shown to everyone without showing what is inside.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from app.canonical import canonical_json, sha256_hex
from app.vocabulary import write_instant


class Kind(Enum):
    """What kinds of thing are recorded."""

    POLICY_VERSION = "policy-version"
    POLICY_APPROVAL = "policy-approval"
    POLICY_ACTIVATION = "policy-activation"
    MODEL = "model"
    ASSESSMENT = "assessment"
    WITHDRAWAL = "withdrawal"
    SAFEGUARD = "safeguard"
    SIGN_OFF = "sign-off"
    EXCEPTION = "exception"
    EXCEPTION_APPROVAL = "exception-approval"
    ORDER = "order"
    LIFTING = "lifting"
    DETERMINATION = "determination"
    GATE = "gate"


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the ledger a document stands. `at` is the server's time of recording."""

    index: int
    leaf_hash: str
    at: datetime


def entry_bytes(
    *, log: str, index: int, kind: Kind, subject: str, document: bytes, actor: str, at: datetime
) -> bytes:
    """The canonical envelope of *document*: a few hundred bytes, however large the document.

    `log` names this log, so that an entry cannot be shown as another log's. `subject` is the id of
    what was recorded, `actor` who recorded it.
    """
    return canonical_json(
        {
            "actor": actor,
            "at": write_instant(at),
            "index": index,
            "kind": kind.value,
            "log": log,
            "payload": {
                "sha256": sha256_hex(document),
                "size": len(document),
                "type": payload_type(kind),
            },
            "subject": subject,
            "v": 1,
        }
    )


def payload_type(kind: Kind) -> str:
    """The media type of a document of that kind."""
    return f"application/vnd.aslgate.{kind.value}+json"
