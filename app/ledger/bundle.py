"""A bundle: one determination with all that it rests on, to be checked where nothing else is.

Each record stands in it with its entry, its document and its proof of inclusion, all of them
against one checkpoint. Whoever has the log's key sees that every one of them was recorded, in which
order, by whom and when; and whoever has the engine too can decide again. Evidence may be left out:
then the digests in the entries stand for it.

What a bundle cannot show is what is not in it. That nothing else was recorded, only the whole
ledger shows.

The format is this module, and `docs/verify.py`, which shares no line with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, StrictInt, StrictStr, ValidationError

from app.canonical import canonical_json, sha256_hex
from app.decoding import decode_json
from app.errors import UndecodableDocument
from app.ledger.checkpoint import Checkpoint, read_hashes, verified_checkpoint
from app.ledger.entry import Entry, InvalidEntry, read_entry
from app.ledger.merkle import InvalidProof, leaf_hash, verify_inclusion
from app.ledger.note import (
    InvalidNote,
    Note,
    UnverifiedNote,
    VerifierKey,
    read_base64,
    read_note,
    verified,
    write_base64,
)
from app.vocabulary import Document

SCHEMA: Final = "aslgate/bundle/v1"


class InvalidBundle(ValueError):
    """A bundle does not show what it is said to show; `str()` of it says why."""


class BundledRecord(Document):
    """One record: `entry`, `document` and the lines of `inclusion`, from the leaf up, are base64.

    `document: null`: it was left out.
    """

    index: StrictInt
    entry: StrictStr
    document: StrictStr | None
    inclusion: tuple[StrictStr, ...]


class Bundle(Document):
    """A determination and what it rests on, in the order of the ledger. `checkpoint` is the signed
    note that all proofs lead to.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    schema_: Annotated[Literal["aslgate/bundle/v1"], Field(alias="schema")]
    determination: StrictStr
    checkpoint: StrictStr
    records: tuple[BundledRecord, ...]

    def __bytes__(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))


@dataclass(frozen=True, slots=True)
class Proven:
    """A record that is in the tree of a checkpoint. `document: None`: it was left out."""

    entry: Entry
    leaf_hash: bytes
    document: bytes | None


def bundle_of(
    determination: str,
    note: Note,
    records: Iterable[tuple[int, bytes, bytes | None, Iterable[bytes]]],
) -> Bundle:
    """The bundle of index, entry, document and proof of each record."""
    bundled = tuple(
        BundledRecord(
            index=index,
            entry=write_base64(entry),
            document=None if document is None else write_base64(document),
            inclusion=tuple(map(write_base64, proof)),
        )
        for index, entry, document, proof in records
    )
    return Bundle.model_validate(
        {
            "schema": SCHEMA,
            "determination": determination,
            "checkpoint": str(note),
            "records": bundled,
        }
    )


def read_bundle(data: bytes) -> Bundle:
    """The bundle that *data* is, with nothing verified. Raises `InvalidBundle`."""
    try:
        return Bundle.model_validate(decode_json(data))
    except UndecodableDocument as error:
        raise InvalidBundle("this is no JSON document") from error
    except ValidationError as error:
        raise InvalidBundle("this is no bundle, or of a version that is not known here") from error


def proven(
    bundle: Bundle, keys: Iterable[VerifierKey], witnesses: Iterable[VerifierKey], *, origin: str
) -> tuple[Checkpoint, tuple[Proven, ...]]:
    """The checkpoint and the records, once it is seen that

    1. one of the log's *keys* has signed the checkpoint, and each of *witnesses* cosigned it;
    2. every entry is in the tree of that checkpoint, at its index, and says so itself;
    3. every document is the one that its entry names;
    4. they stand in the order of the ledger.

    Raises `InvalidBundle`.
    """
    try:
        note = read_note(bundle.checkpoint.encode())
        checkpoint = verified_checkpoint(note, keys, origin=origin)  # (1)
        for witness in witnesses:
            verified(note, [witness])
    except (InvalidNote, UnverifiedNote, UnicodeEncodeError) as fault:
        raise InvalidBundle(f"the checkpoint cannot be believed: {fault}") from fault
    records = []
    last = -1
    for record in bundle.records:
        try:
            records.append(_proven(record, checkpoint))
        except (InvalidEntry, InvalidNote, InvalidProof) as fault:
            raise InvalidBundle(f"entry {record.index}: {fault}") from fault
        if record.index <= last:  # (4)
            raise InvalidBundle(f"entry {record.index} does not come after entry {last}")
        last = record.index
    return checkpoint, tuple(records)


def _proven(record: BundledRecord, checkpoint: Checkpoint) -> Proven:
    written = read_base64(record.entry)
    leaf = leaf_hash(written)
    proof = read_hashes(record.inclusion)
    verify_inclusion(leaf, record.index, checkpoint.size, proof, checkpoint.root)  # (2)
    entry = read_entry(written)
    if (entry.index, entry.log) != (record.index, checkpoint.origin):
        raise InvalidEntry("it says that it belongs elsewhere")
    if record.document is None:
        return Proven(entry, leaf, None)
    document = read_base64(record.document)
    if (sha256_hex(document), len(document)) != (entry.sha256, entry.size):  # (3)
        raise InvalidEntry("its document is not the one that was recorded")
    return Proven(entry, leaf, document)
