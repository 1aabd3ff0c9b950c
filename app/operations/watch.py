"""Watch a log: keep its last checkpoint, and see that each later one extends it.

Whoever does this elsewhere is who can prove that the log was put back, or shows different people
different things: the two checkpoints, both signed by its key, are the proof.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from app.integrations.tiled_log import NoAnswer, TiledLog
from app.ledger.checkpoint import Checkpoint, follow, read_checkpoint, verified_checkpoint
from app.ledger.merkle import InvalidProof, verify_consistency
from app.ledger.note import (
    InvalidNote,
    Note,
    UnverifiedNote,
    VerifierKey,
    read_note,
    read_verifier_key,
)

_ENDED: Final = "ended "


@dataclass(frozen=True, slots=True)
class Kept:
    """What a watcher has kept: the log's keys as it knows them, and the last checkpoint.

    `ended` are the keys that the log once said to sign no more. They are kept because a log in the
    hands of who has such a key would leave that out, and the watcher may be told of the key still.
    """

    keys: frozenset[VerifierKey]
    ended: frozenset[VerifierKey]
    note: Note

    @property
    def checkpoint(self) -> Checkpoint:
        """What the note says."""
        return read_checkpoint(self.note.text)

    def __str__(self) -> str:
        lines = [*sorted(map(str, self.keys)), *sorted(f"{_ENDED}{key}" for key in self.ended)]
        return "".join(f"{line}\n" for line in lines) + f"\n{self.note}"


@dataclass(eq=False)
class Fork(Exception):
    """The log contradicts what it has signed, or someone else answers in its name.

    `before` is what was kept, `now` what is shown.
    """

    before: Note | None
    now: Note
    why: str

    def __str__(self) -> str:
        return self.why


def read_kept(data: bytes) -> Kept:
    """What `str()` of a `Kept` was. Raises `InvalidNote`."""
    above, parted, note = data.partition(b"\n\n")
    try:
        lines = above.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidNote("this is not what a watcher keeps") from error
    if not parted:
        raise InvalidNote("this is not what a watcher keeps")
    ended = [line for line in lines if line.startswith(_ENDED)]
    kept = Kept(
        frozenset(read_verifier_key(line) for line in lines if line not in ended),
        frozenset(read_verifier_key(line.removeprefix(_ENDED)) for line in ended),
        read_note(note),
    )
    if not kept.keys:
        raise InvalidNote("a watcher keeps a key of the log")
    read_checkpoint(kept.note.text)
    return kept


def watch(log: TiledLog, kept: Kept | None, told: Iterable[VerifierKey] = ()) -> Kept:
    """What is to be kept from now on.

    1. Fetch the checkpoint, and the statements on the log's keys.
    2. Whom to believe: the keys that were kept, or told of, and those that they vouch for; at the
       first time, where none was told of, those that the log itself offers. Never a key that ended.
    3. See that one of these has signed the checkpoint. Where none has, and the log says something
       of its keys that cannot be read here, it may be by one that follows: nothing can be said.
    4. See that it extends the one that was kept.

    Raises `Fork`, and `NoAnswer` where nothing can be said.
    """
    offered = log.keys()  # (1)
    now = log.checkpoint()
    before = None if kept is None else kept.note
    known = frozenset(told) | (frozenset() if kept is None else kept.keys)  # (2)
    ended = frozenset() if kept is None else kept.ended
    keys = follow(known or offered.vkeys, offered.statements, ended=ended)
    try:
        said = verified_checkpoint(now, keys.signing, origin=_origin(keys.signing))  # (3)
    except (InvalidNote, UnverifiedNote) as fault:
        if keys.unread:
            why = "the log says something of its keys in a form that this program does not know"
            raise NoAnswer(f"{why}, and no key that it knows has signed the checkpoint") from fault
        raise Fork(before, now, f"the checkpoint is not the log's: {fault}") from fault
    if kept is not None:  # (4)
        _refuse_a_fork(log, kept, now, said)
    return Kept(keys.signing, keys.ended, now)


def _origin(keys: Iterable[VerifierKey]) -> str:
    """The log whose keys they are."""
    names = {key.name for key in keys}
    if len(names) != 1:
        raise InvalidNote(f"there must be keys of one log, not of {len(names)}")
    return names.pop()


def _refuse_a_fork(log: TiledLog, kept: Kept, now: Note, said: Checkpoint) -> None:
    before = kept.checkpoint
    if said.origin != before.origin:
        raise Fork(kept.note, now, f"it is another log, `{said.origin}`")
    if said.size < before.size:
        why = f"the log had {before.size} entries, and shows {said.size}: it was put back"
        raise Fork(kept.note, now, why)
    try:
        proof = log.consistency_proof(before.size, said.size)
        verify_consistency(before.size, before.root, said.size, said.root, proof)
    except InvalidProof as fault:
        raise Fork(kept.note, now, f"the log does not extend what it was: {fault}") from fault
