"""One entry of the ledger: the small envelope that is hashed into the tree.

A recorded document is kept as the exact bytes that were hashed. Its entry is a canonical JSON
envelope that names the document by SHA-256 and binds it to an index, a time, an actor and this
log, so that the log can be shown to everyone without showing what is inside.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import orjson

from app.canonical import canonical_json, sha256_hex
from app.vocabulary import read_instant, write_instant


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
    FULFILMENT = "fulfilment"
    CREDENTIAL = "credential"
    REVOCATION = "credential-revocation"


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the ledger a document stands. `at` is the server's time of recording."""

    index: int
    leaf_hash: str
    at: datetime


class InvalidEntry(ValueError):
    """Bytes that should be an entry are none; `str()` of it says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry says. `log` names this log, so that an entry cannot be shown as another log's;
    `subject` is the id of what was recorded, `actor` who recorded it, `at` the server's time.
    """

    log: str
    index: int
    kind: Kind
    subject: str
    actor: str
    at: datetime
    sha256: str
    """Of the document, in hexadecimal."""
    size: int
    """How many bytes the document has."""

    def __bytes__(self) -> bytes:
        return canonical_json(
            {
                "actor": self.actor,
                "at": write_instant(self.at),
                "index": self.index,
                "kind": self.kind.value,
                "log": self.log,
                "payload": {
                    "sha256": self.sha256,
                    "size": self.size,
                    "type": payload_type(self.kind),
                },
                "subject": self.subject,
                "v": 1,
            }
        )


def entry_bytes(
    *, log: str, index: int, kind: Kind, subject: str, document: bytes, actor: str, at: datetime
) -> bytes:
    """The canonical envelope of *document*: a few hundred bytes, however large the document."""
    size, hashed = len(document), sha256_hex(document)
    return bytes(Entry(log, index, kind, subject, actor, at, hashed, size))


def read_entry(data: bytes) -> Entry:
    """What the entry says that *data* is, in the one spelling that there is. Raises `InvalidEntry`."""
    read, written = None, b""
    try:
        said = orjson.loads(data)
        read = Entry(
            log=said["log"],
            index=said["index"],
            kind=Kind(said["kind"]),
            subject=said["subject"],
            actor=said["actor"],
            at=read_instant(said["at"]),
            sha256=said["payload"]["sha256"],
            size=said["payload"]["size"],
        )
        written = bytes(read)
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    if read is None or written != data or not _has_its_types(read):
        raise InvalidEntry("this is no entry of the ledger")
    return read


def _has_its_types(entry: Entry) -> bool:
    texts = (entry.log, entry.subject, entry.actor, entry.sha256)
    numbers = (entry.index, entry.size)
    return all(type(one) is str for one in texts) and all(type(one) is int for one in numbers)


def payload_type(kind: Kind) -> str:
    """The media type of a document of that kind."""
    return f"application/vnd.aslgate.{kind.value}+json"
