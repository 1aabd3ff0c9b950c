"""Export: the log as files, which any web server can show to any reader of C2SP tlog-tiles."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from app.errors import NotFound
from app.ledger.checkpoint import Checkpoint, read_checkpoint
from app.ledger.merkle import HASH_BYTES, Frontier, leaf_hash
from app.ledger.note import Note
from app.ledger.tiles import FULL_BYTES, HEIGHT, WIDTH, Tile, entry_bundle
from app.storage import checkpoints, records, tree
from app.storage.checkpoints import KeyOnRecord
from app.storage.database import Database

AT_ONCE: Final = 16 * WIDTH
"""How many entries are read in one statement."""

PAGE_SECONDS: Final = 60.0

Write = Callable[[str, bytes], None]
"""Keeps a file of that path, with its folders parted by `/`."""
Progress = Callable[[int, int], None]
"""Is told how many entries were written, and how many there are."""


@dataclass(eq=False)
class Contradiction(Exception):
    """What is recorded is not what a checkpoint was signed over; `str()` of it says which."""

    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the checkpoint, and what is on record of the keys that sign."""

    note: Note
    keys: tuple[KeyOnRecord, ...]

    @property
    def checkpoint(self) -> Checkpoint:
        """What the note says."""
        return read_checkpoint(self.note.text)


async def export_log(
    database: Database, before: Checkpoint | None, write: Write, progress: Progress, *, quorum: int
) -> Exported:
    """Write every entry bundle and every tile of the largest checkpoint that so many witnesses have
    cosigned; the checkpoint itself is the caller's to write, after all else.

    The tiles are made from the entries, and none is copied: so what is written is what was signed.
    `before`: what was exported earlier, which the log must extend. Raises `Contradiction`,
    `NotFound` where there is no checkpoint, `Unavailable`.
    """
    async with database.reading() as connection:
        signed = await checkpoints.latest(connection, quorum=quorum)
        keys = await checkpoints.key_statements(connection)
        if signed is None:
            raise NotFound("checkpoint", "the ledger's")
        checkpoint = read_checkpoint(signed.note.text)
        if before is not None:
            same = before.origin == checkpoint.origin and before.size <= checkpoint.size
            if not same or await tree.root_at(connection, before.size) != before.root:
                raise Contradiction(
                    f"`{before.origin}` was exported with {before.size} entries, and the ledger "
                    "does not extend that"
                )
    growing = _Growing(write)
    while growing.size < checkpoint.size:
        many = min(AT_ONCE, checkpoint.size - growing.size)
        async with database.reading(seconds=PAGE_SECONDS) as connection:
            page = await records.entries_from(connection, growing.size, many)
        if [index for index, _, _ in page] != list(range(growing.size, growing.size + many)):
            raise Contradiction(f"entries are missing from {growing.size} on")
        growing.extend([entry for _, entry, _ in page])
        progress(growing.size, checkpoint.size)
    growing.end()
    if growing.root != checkpoint.root:
        raise Contradiction(
            f"the checkpoint of size {checkpoint.size} was signed over other entries"
        )
    return Exported(signed.note, keys)


@dataclass
class _Growing:
    """A tree that is written down as it grows."""

    write: Write
    _frontier: Frontier = field(default_factory=Frontier)
    _rows: dict[int, bytearray] = field(default_factory=dict)
    """By level, the hashes of the tile that is not full yet."""

    @property
    def size(self) -> int:
        return self._frontier.size

    @property
    def root(self) -> bytes:
        return self._frontier.root

    def extend(self, entries: list[bytes]) -> None:
        """Write the entries, which begin where a bundle begins, and the tiles that they fill."""
        for first in range(0, len(entries), WIDTH):
            some = entries[first : first + WIDTH]
            tile = Tile(0, (self.size + first) >> HEIGHT, len(some))
            self.write(f"tile/{tile.bundle_path}", entry_bundle(some))
        self._frontier, completed = self._frontier.extended(map(leaf_hash, entries))
        for node, hashed in completed.items():
            level, beside = divmod(node.level, HEIGHT)
            if beside:
                continue
            row = self._rows.setdefault(level, bytearray())
            row += hashed
            if len(row) == FULL_BYTES:
                self.write(f"tile/{Tile(level, node.number >> HEIGHT).path}", bytes(row))
                row.clear()

    def end(self) -> None:
        """Write the tiles that are not full."""
        for level, row in self._rows.items():
            if row:
                number = self.size >> HEIGHT * (level + 1)
                tile = Tile(level, number, len(row) // HASH_BYTES)
                self.write(f"tile/{tile.path}", bytes(row))
