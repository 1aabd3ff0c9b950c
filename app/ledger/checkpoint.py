"""A checkpoint: the log's signed word that at this size its tree has this root.

The text is C2SP tlog-checkpoint with nothing added: three lines, for what stands in further ones
no witness vouches for. Beside it stand the two other texts that are built on it: a statement of a
log's key on which key signs from when on, and a receipt (C2SP tlog-proof), which shows that an
entry is in the tree of a checkpoint.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.ledger.merkle import HASH_BYTES, InvalidProof, leaf_hash, verify_inclusion
from app.ledger.note import (
    InvalidNote,
    Note,
    SignatureType,
    SigningKey,
    VerifierKey,
    read_base64,
    read_note,
    read_verifier_key,
    signed,
    verified,
    write_base64,
)

LARGEST_SIZE: Final = 2**63 - 1
MOST_PROOF_LINES: Final = 63

_KEY_STATEMENTS: Final = "aslgate/ledger-key/"
_KEY_STATEMENT: Final = f"{_KEY_STATEMENTS}v1"
_RECEIPT: Final = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log `origin` has `size` entries, and the tree over them that `root`."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{write_base64(self.root)}\n"

    def signed(self, keys: Iterable[SigningKey]) -> Note:
        """The checkpoint as a note by each of *keys*."""
        return signed(str(self), keys)


def read_checkpoint(text: str) -> Checkpoint:
    """The checkpoint that a note's text is: three lines, no more. Raises `InvalidNote`."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[-1]:
        raise InvalidNote("a checkpoint has three lines: origin, size and root")
    origin, size, root = lines[:3]
    if not origin:
        raise InvalidNote("a checkpoint names its origin")
    hashed = read_base64(root)
    if len(hashed) != HASH_BYTES:
        raise InvalidNote(f"a root has {HASH_BYTES} bytes")
    return Checkpoint(origin, read_size(size), hashed)


def verified_checkpoint(note: Note, keys: Iterable[VerifierKey], *, origin: str) -> Checkpoint:
    """The checkpoint of the log *origin* that *note* is, signed by one of the log's *keys*.

    Raises `InvalidNote`, `UnverifiedNote`.
    """
    # A witness's key vouches for what it saw, never for the log.
    verified(note, (key for key in keys if key.type is SignatureType.LOG and key.name == origin))
    checkpoint = read_checkpoint(note.text)
    if checkpoint.origin != origin:
        raise InvalidNote(f"the checkpoint is one of `{checkpoint.origin}`, not of `{origin}`")
    return checkpoint


# --- Which key signs ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyStatement:
    """That `key` signs the log's checkpoints from `size` entries on, or (`signs` is false) no more.

    Its text cannot be taken for a checkpoint, nor for one of another log.
    """

    key: VerifierKey
    signs: bool
    size: int

    def __str__(self) -> str:
        word = "begins" if self.signs else "ends"
        return f"{_KEY_STATEMENT}\n{self.key.name}\n{word} {self.size}\n{self.key}\n"

    def signed(self, keys: Iterable[SigningKey]) -> Note:
        """The statement as a note by each of *keys*: those that a reader knows already."""
        return signed(str(self), keys)


def read_key_statement(text: str) -> KeyStatement:
    """The statement that a note's text is. Raises `InvalidNote`."""
    lines = text.split("\n")
    if len(lines) != 5 or lines[0] != _KEY_STATEMENT or lines[-1]:
        raise InvalidNote("this is no statement on a ledger's key")
    key = read_verifier_key(lines[3])
    word, _, size = lines[2].partition(" ")
    if word not in ("begins", "ends") or lines[1] != key.name or key.type is not SignatureType.LOG:
        raise InvalidNote("this is no statement on a ledger's key")
    return KeyStatement(key, word == "begins", read_size(size))


@dataclass(frozen=True, slots=True)
class Followed:
    """A log's keys as its statements leave them.

    `ended` are those that sign no more, for good. `unread` are statements by one of the log's keys
    in a form that is not known here, so that what they say is not in the other two.
    """

    signing: frozenset[VerifierKey]
    ended: frozenset[VerifierKey]
    unread: tuple[Note, ...]


def follow(
    known: Iterable[VerifierKey], statements: Iterable[Note], *, ended: Iterable[VerifierKey] = ()
) -> Followed:
    """The keys that sign now, beginning with those that are *known*: each of *statements*, in their
    order, counts if a key that signed until then has signed it, and is passed over if none has.

    So a log can change its key under a reader who was told of one key only, and nobody but who
    has that key can make the reader believe in another. A key that has *ended* before is not
    believed again, whoever names it and whatever is left out.
    """
    over = set(ended)
    signing = set(known) - over
    unread: list[Note] = []
    for note in statements:
        by = {
            key.name
            for key in signing
            for line in note.signatures
            if key.made(line) and key.has_signed(note.text, line)
        }
        if not by:
            continue
        try:
            statement = read_key_statement(note.text)
        except InvalidNote:
            # Anybody can show an old checkpoint here, so only what calls itself a statement is one.
            if note.text.startswith(_KEY_STATEMENTS):
                unread.append(note)
            continue
        if statement.key.name not in by:
            continue
        if not statement.signs:
            over.add(statement.key)
            signing.discard(statement.key)
        elif statement.key not in over:
            signing.add(statement.key)
    return Followed(frozenset(signing), frozenset(over), tuple(unread))


def vouched_for(known: Iterable[VerifierKey], statements: Iterable[Note]) -> set[VerifierKey]:
    """The keys that sign now, as `follow` finds them."""
    return set(follow(known, statements).signing)


# --- Receipts -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receipt:
    """That `entry` is the log's entry number `index`: shown by the lines of `proof`, from the leaf
    up, against the checkpoint in `note`.
    """

    entry: bytes
    index: int
    proof: tuple[bytes, ...]
    note: Note

    def __str__(self) -> str:
        lines = [
            _RECEIPT,
            f"extra {write_base64(self.entry)}",
            f"index {self.index}",
            *map(write_base64, self.proof),
        ]
        return "".join(f"{line}\n" for line in lines) + f"\n{self.note}"

    def verified(self, keys: Iterable[VerifierKey], *, origin: str) -> Checkpoint:
        """The checkpoint, once it is seen to be by one of the log's *keys* and to hold the entry.

        Raises `InvalidNote`, `UnverifiedNote`, `InvalidProof`.
        """
        checkpoint = verified_checkpoint(self.note, keys, origin=origin)
        leaf = leaf_hash(self.entry)
        verify_inclusion(leaf, self.index, checkpoint.size, self.proof, checkpoint.root)
        return checkpoint


def read_receipt(data: bytes) -> Receipt:
    """The receipt that *data* is, with nothing verified. Raises `InvalidNote`, `InvalidProof`."""
    above, parted, note = data.partition(b"\n\n")
    try:
        lines = above.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidNote("a receipt is UTF-8") from error
    if not parted or lines[0] != _RECEIPT:
        raise InvalidNote(f"a receipt begins with `{_RECEIPT}`")
    if len(lines) < 3 or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise InvalidNote("a receipt of this log has its entry under `extra`, and an `index`")
    return Receipt(
        entry=read_base64(lines[1].removeprefix("extra ")),
        index=read_size(lines[2].removeprefix("index ")),
        proof=read_hashes(lines[3:]),
        note=read_note(note),
    )


def read_hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    """The hashes that *lines* are, one each. Raises `InvalidNote`, `InvalidProof`."""
    if len(lines) > MOST_PROOF_LINES:
        raise InvalidProof(f"a proof has at most {MOST_PROOF_LINES} lines")
    hashes = tuple(map(read_base64, lines))
    if any(len(one) != HASH_BYTES for one in hashes):
        raise InvalidProof(f"a hash has {HASH_BYTES} bytes")
    return hashes


def read_size(text: str) -> int:
    """The number that *text* is, in the one spelling that there is. Raises `InvalidNote`."""
    if not (text.isascii() and text.isdecimal()) or (text[0] == "0" and text != "0"):
        raise InvalidNote(f"`{text[:40]}` is not a number of entries")
    if len(text) > 19 or int(text) > LARGEST_SIZE:
        raise InvalidNote(f"`{text[:40]}` is more entries than any log has")
    return int(text)
