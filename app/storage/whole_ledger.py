"""The ledger read from end to end, in large pages: for whoever verifies it.

Everything is read as it is stored, on a connection of its own that can only read. Nothing is
believed for standing in one place that can be read in another: the rows by which records are found
are held against the documents that they repeat.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from app.errors import Unavailable
from app.ledger.filing import FILINGS, Filed, Row
from app.ledger.merkle import Frontier
from app.ledger.tiles import Tile
from app.ledger.verification import Finding, StoredEntry
from app.storage import tables
from app.storage.database import Database, is_trouble

PAGE_BYTES: Final = 32 * 1024 * 1024
"""How many bytes of documents a page holds, where it holds more than one."""

_DAMAGED: Final = (
    asyncpg.DataCorruptedError,
    asyncpg.IndexCorruptedError,
    asyncpg.DataError,
    OverflowError,
    ValueError,
    TypeError,
)
"""How a stored value fails to be read that is none, or none of those that the service writes."""

MOST_MISNAMED: Final = 100
"""How many entries are named that another's idempotency key leads to."""


@dataclass(frozen=True, slots=True)
class StoredHead:
    """The ledger's head as it is stored, and how far the other tables go.

    `entries`: the index after the last entry; `streams`, `requests`, `tiles` and `rows`: the size
    that the largest of these needs. `lowest`: the smallest index that anything has, and never above
    0; `heads`: how many there are; `last_at`: `None` where the calendar has no such time.
    """

    log: str
    size: int
    frontier: bytes
    root: bytes
    entries: int
    streams: int
    requests: int
    tiles: int
    rows: int
    checkpoint: int | None
    lowest: int
    heads: int
    last_at: datetime | None

    def beyond(self) -> Iterable[Finding]:
        """What there is beyond the ledger's end, which it once had, and has no more; and what there
        is before its beginning, where nobody would look at it.
        """
        if self.lowest < 0:
            yield Finding(None, f"something stands at index {self.lowest}, before the first entry")
        if self.heads > 1:
            yield Finding(None, f"the ledger has {self.heads} heads")
        if self.entries > self.size:
            what = f"there are entries up to {self.entries - 1}, and the head counts {self.size}"
            yield Finding(self.size, what)
        end = max(self.size, self.entries)
        for name, reaches in (
            ("a stream was moved by", self.streams),
            ("a request's idempotency key names", self.requests),
            ("a tile of the tree covers", self.tiles),
            ("a table by which records are found names", self.rows),
            ("a checkpoint was signed over", self.checkpoint or 0),
        ):
            if reaches > end:
                what = f"{name} an entry {reaches - 1}, and the ledger ends at {end}"
                yield Finding(end, f"{what}: entries were removed from its end")

    def read_frontier(self) -> Frontier | None:
        """The head's frontier; `None` where it is none of a tree of that size."""
        try:
            return Frontier.from_bytes(self.size, self.frontier)
        except ValueError:
            return None


@asynccontextmanager
async def reading(database: Database) -> AsyncIterator[Any]:
    """An asyncpg connection of one's own. Raises `Unavailable` where there is none, or it fails."""
    connection = await database.connect()
    try:
        yield connection
        await connection.close()
    except Exception as error:
        if isinstance(error, asyncpg.DataCorruptedError | asyncpg.IndexCorruptedError):
            raise Unavailable("database", f"the database cannot read its files: {error}") from error
        if is_trouble(error):
            raise Unavailable("database", "the database went away; ask again") from error
        raise
    finally:
        connection.terminate()


async def stored_head(connection: Any) -> StoredHead | None:
    """The head and how far the other tables go, as of one instant; `None`: nothing was ever
    recorded, or the head was removed.
    """
    row = await connection.fetchrow(_HEAD)
    if row is None:
        return None
    head = dict(row)
    # An index may be the largest that there is, and what a row needs larger than any.
    head["entries"] += 1
    head["rows"] += 1
    head["requests"], head["tiles"] = int(head["requests"]), int(head["tiles"])
    return StoredHead(**head)


async def is_begun(connection: Any) -> bool:
    """Whether there are entries or checkpoints, whatever the head says."""
    asked = """
        SELECT EXISTS (SELECT FROM ledger_entry) OR EXISTS (SELECT FROM ledger_checkpoint)
    """
    begun: bool = await connection.fetchval(asked)
    return begun


@dataclass(frozen=True, slots=True)
class Page:
    """The entries in a range of indexes, and the rows by which they are found.

    `faults`: where the range is of one index, what there cannot be read, which is left out.
    """

    entries: list[StoredEntry]
    filed: Filed
    faults: tuple[Finding, ...] = ()


async def pages(connection: Any, indexes: range) -> AsyncIterator[Page]:
    """What there is in that range, in as many pages as its bytes need."""
    left = [indexes]
    while left:
        here = left.pop()
        try:
            page = await _page(connection, here)
        except _DAMAGED:
            page = await _one(connection, here.start) if len(here) == 1 else None
        if page is not None:
            yield page
            continue
        middle = here.start + len(here) // 2
        left += range(middle, here.stop), range(here.start, middle)


async def _page(connection: Any, indexes: range) -> Page | None:
    """What there is in that range; `None`: more than a page holds."""
    of = indexes.start, indexes.stop
    if len(indexes) > 1 and await connection.fetchval(_BYTES, *of) > PAGE_BYTES:
        return None
    entries = await _entries(connection, indexes)
    return Page(entries, {table: await _filed(connection, table, indexes) for table in _FILED})


async def _one(connection: Any, index: int) -> Page:
    """What can be read of one entry and of its rows, and what cannot."""
    entries: list[StoredEntry] = []
    faults = []
    here = range(index, index + 1)
    try:
        entries = await _entries(connection, here)
    except _DAMAGED as error:
        faults.append(Finding(index, f"its row cannot be read: {error}"))
    for table in _FILED:
        try:
            await _filed(connection, table, here)
        except _DAMAGED as error:
            faults.append(Finding(index, f"its row in `{table}` cannot be read: {error}"))
    return Page(entries, {}, tuple(faults))


async def _entries(connection: Any, indexes: range) -> list[StoredEntry]:
    rows = await connection.fetch(_ENTRIES, indexes.start, indexes.stop)
    entries = [StoredEntry(*row) for row in rows]
    for row, one in zip(rows, entries, strict=True):
        if None in row.values():
            raise ValueError("it lacks a value that every row has")
        if one.at.tzinfo is None:
            raise ValueError("it was recorded at an infinite time")
    return entries


async def _filed(connection: Any, table: str, indexes: range) -> dict[int, Row]:
    rows = await connection.fetch(_FILED[table], indexes.start, indexes.stop)
    return {row[0]: row for row in rows}


async def tiles(connection: Any, asked: Iterable[Tile]) -> dict[Tile, tuple[bytes, bytes]]:
    """The stored hashes and root of those tiles that are there."""
    places = [(tile.level, tile.number) for tile in asked]
    if not places:
        return {}
    rows = await connection.fetch(_TILES, *map(list, zip(*places, strict=True)))
    return {Tile(row["level"], row["number"]): (row["hashes"], row["root"]) for row in rows}


async def checkpoint_notes(connection: Any, *, at_least: int) -> list[tuple[int, str]]:
    """Size and note of every checkpoint on record of *at_least* so many entries, smallest first."""
    asked = "SELECT size, note FROM ledger_checkpoint WHERE size >= $1 ORDER BY size"
    return [(row["size"], row["note"]) for row in await connection.fetch(asked, at_least)]


async def recorded_at(connection: Any, index: int) -> datetime | None:
    """When the entry with that index was recorded, or the next that there is; `None`: there is none,
    or that cannot be read.
    """
    asked = "SELECT at FROM ledger_entry WHERE index >= $1 ORDER BY index LIMIT 1"
    try:
        at: datetime | None = await connection.fetchval(asked, index)
    except _DAMAGED:
        return None
    return at


async def misnamed(connection: Any) -> list[Finding]:
    """The entries that a caller would be given who repeats a request, and that another recorded."""
    asked = """
        SELECT e.index, i.credential, e.actor FROM idempotency i
        CROSS JOIN LATERAL generate_series(
            least(i.index, 1::bigint << 62),
            least(i.index, 1::bigint << 62) + least(i.count, 1000) - 1
        ) AS named (index)
        JOIN ledger_entry e ON e.index = named.index
        WHERE e.actor <> i.credential ORDER BY e.index LIMIT $1
    """
    try:
        rows = await connection.fetch(asked, MOST_MISNAMED)
    except _DAMAGED as error:
        what = "whose requests are answered by which entries cannot be read"
        return [Finding(None, f"{what}: {error}")]
    return [
        Finding(
            row["index"],
            f"the idempotency key of a request by `{row['credential']}` names it, and "
            f"`{row['actor']}` recorded it",
        )
        for row in rows
    ]


# --- Statements --------------------------------------------------------------------------------

_HEAD: Final = f"""
    SELECT log, size, frontier, root,
        coalesce((SELECT max(index) FROM ledger_entry), -1) AS entries,
        coalesce((SELECT max(version) FROM stream), 0) AS streams,
        coalesce((SELECT max(index::numeric + count) FROM idempotency), 0) AS requests,
        coalesce((
            SELECT max((number::numeric + 1) * 256::numeric ^ (least(level, 100)::int + 1))
            FROM ledger_tile
        ), 0) AS tiles,
        greatest(-1, {", ".join(f"(SELECT max(index) FROM {t.name})" for t in tables.FILED)})
            AS rows,
        least(
            0,
            (SELECT min(index) FROM ledger_entry WHERE index < 0),
            (SELECT min(index) FROM idempotency WHERE index < 0),
            (SELECT min(number) FROM ledger_tile WHERE number < 0),
            (SELECT min(size) FROM ledger_checkpoint WHERE size < 0),
            {", ".join(f"(SELECT min(index) FROM {t.name} WHERE index < 0)" for t in tables.FILED)}
        ) AS lowest,
        (SELECT max(size) FROM ledger_checkpoint) AS checkpoint,
        (SELECT count(*) FROM ledger_head) AS heads,
        CASE WHEN last_at BETWEEN '0001-01-02 00:00Z' AND '9999-12-30 00:00Z' THEN last_at END
            AS last_at
    FROM ledger_head
"""  # noqa: S608 - the tables are ours

_BYTES: Final = """
    SELECT coalesce(sum(octet_length(document)), 0)::bigint FROM ledger_entry
    WHERE index >= $1 AND index < $2
"""

_ENTRIES: Final = """
    SELECT index, kind, subject, actor, at, entry, leaf_hash, document, document_sha256
    FROM ledger_entry WHERE index >= $1 AND index < $2 ORDER BY index
"""

_TILES: Final = """
    SELECT t.* FROM unnest($1::smallint[], $2::bigint[]) AS asked (level, number)
    JOIN ledger_tile t USING (level, number)
"""


def _model_of(column: str) -> str:
    # The smallest: somebody may have made it two.
    return f"(SELECT min(model) FROM evidence WHERE evidence.id = filed.{column})"  # noqa: S608


# What is known beside a row's columns, by table, as `app.ledger.filing` asks for it.
_KNOWN: Final = {
    "determination": "as_known",
    "withdrawal": _model_of("evidence_id"),
    "exception_approval": _model_of("exception_id"),
    "lifting": _model_of("order_id"),
}

_FILED: Final = {
    one.table: f"""
        SELECT index, {", ".join(f'"{column}"' for column in one.columns)},
            {_KNOWN.get(one.table, "NULL")}
        FROM {one.table} AS filed WHERE index >= $1 AND index < $2 ORDER BY index
    """  # noqa: S608 - the names are ours
    for one in FILINGS
}
