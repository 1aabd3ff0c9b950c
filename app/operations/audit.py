"""Audit: read the whole ledger, and see that it is what was recorded and that its answers hold.

It has a way into the database of its own, on which nothing can be written, and asks the running
service nothing. What it cannot see by itself it is given: a checkpoint that somebody kept elsewhere
shows what was removed from the end, or written anew as a whole.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import orjson

from app.ledger.checkpoint import (
    LARGEST_SIZE,
    Checkpoint,
    follow,
    read_checkpoint,
    verified_checkpoint,
)
from app.ledger.entry import Kind, Position
from app.ledger.note import InvalidNote, Note, UnverifiedNote, VerifierKey, read_note
from app.ledger.verification import Finding, StoredEntry, Walk, first_of
from app.operations.looking import WORTH_ENTRIES, Looked, looked_at, looked_at_by
from app.operations.replay import SKEW, Replayer, said_otherwise
from app.storage import checkpoints, whole_ledger
from app.storage.checkpoints import KeyOnRecord
from app.storage.database import Database
from app.storage.ledger import Recorded
from app.vocabulary import read_instant, write_instant

REPLAY_SECONDS: Final = 120.0
"""How long the answers of one page may take to be recomputed in one snapshot."""

MOST_EMPTY: Final = 256
"""How many ranges of the ledger in which nothing is, one after another, are looked at."""

MOST_FAULTS: Final = 10
"""How many checkpoints on record that are none are named."""

Progress = Callable[[int, int], None]
"""Is told how many entries were looked at, and how many there are."""


def _silence(_done: int, _of: int) -> None:
    """For whoever need not know."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """What an auditor was told by others than the database: its log's keys, and checkpoints."""

    keys: tuple[VerifierKey, ...] = ()
    checkpoints: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """How a sweep stands.

    `verified` of `size` entries were looked at and are sound; `unverified` is the index of the first
    of which that cannot be said, `since` when that one was recorded. `root` is the tree's over the
    entries as they are; `agreed` the size of the last checkpoint that it agrees with, `outside` that
    of the last one which was kept elsewhere.
    """

    log: str | None
    size: int
    verified: int
    replayed: int
    findings: tuple[Finding, ...]
    unverified: int | None
    since: datetime | None
    root: bytes | None
    agreed: int
    outside: int

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def first(self) -> Finding | None:
        """The first finding by index."""
        return first_of(self.findings)


@dataclass
class Sweep:
    """One walk through the whole ledger, which goes on where the ledger has grown.

    `replays`: every determination and gate is recomputed too. `processes`: how many look at the
    entries at once, where there are enough of these and nothing is recomputed.
    """

    database: Database
    replays: bool = False
    processes: int = 1
    trusted: Trusted = field(default_factory=Trusted)
    replayed: int = 0
    _walk: Walk | None = None
    _size: int = 0
    _outside: int = 0
    _replayer: Replayer | None = None

    async def go_on(self, progress: Progress = _silence) -> Report:
        """Look at everything that was recorded since, up to the present end.

        Raises `Unavailable`: then the sweep is void, for part of a page was not looked at.
        """
        async with whole_ledger.reading(self.database) as connection:
            head = await whole_ledger.stored_head(connection)
            if head is None:
                return await self._headless(connection)
            if self._walk is None:
                self._walk = Walk(head.log)
            await self._look(connection, self._walk, head, progress)
            first = self._unverified(self._walk)
            if first is None:
                return self._report(self._walk, None)
            return self._report(self._walk, await whole_ledger.recorded_at(connection, first))

    async def _headless(self, connection: Any) -> Report:
        """How a ledger without a head stands, which is well only where nothing was ever recorded."""
        report = self.so_far()
        begun = self._size or self.trusted.checkpoints or await whole_ledger.is_begun(connection)
        if not begun:
            return report
        gone = Finding(None, "the ledger has no head, and had one: it was removed")
        return replace(report, findings=(*report.findings, gone))

    def so_far(self) -> Report:
        """How it stands amid a page: `since` is then when the last entry was recorded that was
        looked at.
        """
        if self._walk is None:
            return Report(None, 0, 0, 0, (), None, None, None, 0, 0)
        return self._report(self._walk, self._walk.last_at)

    async def _look(
        self,
        connection: Any,
        walk: Walk,
        head: whole_ledger.StoredHead,
        progress: Progress,
    ) -> None:
        """1. See that the ledger has not become smaller, and that nothing reaches beyond its end.
        2. Read what was signed of it, here and elsewhere; and, once, whose requests are answered by
           which entries.
        3. Range after range: the entries, the tree over them, the rows by which they are found, and
           what was answered.
        4. See that the head tells the same tree.
        """
        if head.size < self._size or head.log != walk.log:
            was = f"`{walk.log}` had {self._size} entries"
            walk.found(head.size, f"{was}, and now `{head.log}` has {head.size}")  # (1)
            return
        self._size = head.size
        for one in head.beyond():
            walk.found(one.index, one.what)
        signed = await self._signed(connection, walk, head)  # (2)
        if walk.frontier.size in signed:
            walk.compare_checkpoint(signed[walk.frontier.size])
        if walk.index == 0:
            for one in await whole_ledger.misnamed(connection):
                walk.found(one.index, one.what)
        # A head that counts more than there are would have us look for those one range after another.
        end = min(head.size, head.entries)
        empty = 0
        async with aclosing(self._seen(connection, walk, end)) as all_seen:  # (3)
            async for seen in all_seen:
                empty = 0 if seen.stretches or seen.misfiled else empty + 1
                if empty > MOST_EMPTY:
                    # One entry at the end of all indexes would have us look for the rest for ever.
                    walk.found(
                        walk.index, "so many are missing from here on that none was looked at"
                    )
                    break
                filled = walk.take(seen.stretches, signed)
                walk.compare_tiles(filled, await whole_ledger.tiles(connection, filled))
                for one in seen.misfiled:
                    walk.found(one.index, one.what)
                if self.replays:
                    await self._replay(walk, seen.entries)
                progress(walk.index, head.size)
        if walk.index < head.size:
            walk.missing(head.size)
            return
        if walk.last_at is not None and walk.last_at != head.last_at:  # (4)
            walk.found(None, "the head's time is not that of the last entry")
        frontier = head.read_frontier()
        if frontier is None:
            walk.found(None, "the head's frontier is none of a tree of its size")
        else:
            walk.compare_head(frontier, head.root)

    def _seen(self, connection: Any, walk: Walk, size: int) -> AsyncGenerator[Looked, None]:
        """What is seen of the entries that the walk has not taken, up to *size*."""
        indexes = range(walk.index, size)
        if self.replays or self.processes == 1 or len(indexes) < WORTH_ENTRIES:
            return looked_at(connection, walk.log, indexes)
        return looked_at_by(self.processes, self.database, walk.log, indexes)

    async def _signed(
        self, connection: Any, walk: Walk, head: whole_ledger.StoredHead
    ) -> dict[int, Checkpoint]:
        """The checkpoints to hold the tree against, by size: those that are new to this sweep."""
        notes = await whole_ledger.checkpoint_notes(connection, at_least=walk.frontier.size)
        statements: Sequence[KeyOnRecord] = ()
        async with self.database.reading(seconds=REPLAY_SECONDS) as reading:
            try:
                statements = await checkpoints.key_statements(reading)
            except InvalidNote as fault:
                walk.found(None, f"what is on record of the log's keys is no statement: {fault}")
        keys = _keys(self.trusted.keys, statements)
        read, faults = await asyncio.to_thread(_read, notes, keys, head.log)
        for what in faults[:MOST_FAULTS]:
            walk.found(None, what)
        if len(faults) > MOST_FAULTS:
            walk.found(None, f"{len(faults) - MOST_FAULTS} more checkpoints on record are none")
        for note in self.trusted.checkpoints:
            checkpoint, why = _checkpoint(str(note), keys, head.log)
            if checkpoint is None:
                walk.found(None, f"the checkpoint that was kept elsewhere says nothing: {why}")
            elif checkpoint.size > head.size:
                gone = f"the ledger had {checkpoint.size} entries when it was signed"
                walk.found(head.size, f"{gone}, and now has {head.size}: the rest was removed")
            elif read.get(checkpoint.size, checkpoint).root != checkpoint.root:
                walk.found(
                    None, f"two checkpoints of size {checkpoint.size} differ: the log forked"
                )
            else:
                read[checkpoint.size] = checkpoint
                self._outside = max(self._outside, checkpoint.size)
        return read

    async def _replay(self, walk: Walk, page: Iterable[StoredEntry]) -> None:
        if self._replayer is None:
            self._replayer = Replayer(lambda: self.database.reading(seconds=REPLAY_SECONDS))
        asked = {one.index: one for one in page if one.kind in _ANSWERS}
        answers = map(_recorded, asked.values())
        async for replay in self._replayer.replay_each(answers, size=self._size):
            self.replayed += 1
            one = asked[replay.index]
            if not replay.same:
                walk.found(one.index, said_otherwise(replay))
                continue
            provenance = _provenance(one)
            if (named := provenance["actor"]) != one.actor:
                walk.found(one.index, f"it names the actor `{named}`, and `{one.actor}` asked")
            if read_instant(provenance["at"]) > one.at + SKEW:
                what = f"it speaks for {provenance['at']}, after it was recorded at"
                walk.found(one.index, f"{what} {write_instant(one.at)}")

    def _unverified(self, walk: Walk) -> int | None:
        first = min(walk.bad, default=walk.index)
        return first if first < self._size else None

    def _report(self, walk: Walk, since: datetime | None) -> Report:
        # From a gap on there is no tree, and nothing shows that the rest stands where it stood.
        seen = walk.index if walk.is_whole else min(walk.bad)
        return Report(
            log=walk.log,
            size=self._size,
            verified=seen - sum(index < seen for index in walk.bad),
            replayed=self.replayed,
            findings=tuple(walk.findings),
            unverified=self._unverified(walk),
            since=since,
            root=walk.frontier.root if walk.is_whole else None,
            agreed=walk.agreed,
            outside=self._outside if walk.disagreed is None and self._outside <= walk.agreed else 0,
        )


_ANSWERS: Final = (Kind.DETERMINATION.value, Kind.GATE.value)


def _recorded(one: StoredEntry) -> Recorded:
    position = Position(one.index, one.leaf_hash.hex(), one.at)
    return Recorded(Kind(one.kind), one.subject, one.document, position)


def _provenance(one: StoredEntry) -> Mapping[str, Any]:
    """What an answer says of itself: of a gate, that stands among the rest."""
    document: Mapping[str, Any] = orjson.loads(one.document)
    if one.kind == Kind.GATE.value:
        return document
    provenance: Mapping[str, Any] = document["provenance"]
    return provenance


_Keys = Sequence[tuple[VerifierKey, range]]
"""The keys that ever signed, each with the sizes of the checkpoints that it may have signed."""


def _keys(trusted: Iterable[VerifierKey], on_record: Sequence[KeyOnRecord]) -> _Keys:
    """The keys that ever signed. Whoever was told of one from elsewhere believes in that one and in
    those that it vouched for; who was not, in the first on record. None is believed any more from
    the size on at which it ended.
    """
    first = set(trusted) or {one.statement.key for one in on_record[:1]}
    signing = dict.fromkeys(first, 0)
    over: frozenset[VerifierKey] = frozenset()
    ended = []
    for one in on_record:
        size, now = one.statement.size, follow(signing, [one.note], ended=over)
        ended += [(key, range(signing[key], size)) for key in signing.keys() - now.signing]
        signing = {key: signing.get(key, size) for key in now.signing}
        over = now.ended
    return *ended, *((key, range(since, LARGEST_SIZE + 1)) for key, since in signing.items())


def _read(
    notes: Iterable[tuple[int, str]], keys: _Keys, log: str
) -> tuple[dict[int, Checkpoint], list[str]]:
    """The checkpoints that the notes are, by size, and what is wrong with the others."""
    read: dict[int, Checkpoint] = {}
    faults = []
    for size, text in notes:
        checkpoint, why = _checkpoint(text, keys, log)
        if checkpoint is None or checkpoint.size != size:
            faults.append(f"the checkpoint of size {size} on record is none: {why or 'another'}")
        else:
            read[size] = checkpoint
    return read, faults


def _checkpoint(text: str, keys: _Keys, log: str) -> tuple[Checkpoint | None, str]:
    """The checkpoint that a note is, or why it is none."""
    try:
        note = read_note(text.encode())
        size = read_checkpoint(note.text).size
        signed = (key for key, sizes in keys if size in sizes)
        return verified_checkpoint(note, signed, origin=log), ""
    except (InvalidNote, UnverifiedNote) as fault:
        return None, str(fault)
