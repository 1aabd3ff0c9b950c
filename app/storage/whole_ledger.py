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

from app.errors import Unavailable
from app.ledger.filing import FILINGS, Filed
from app.ledger.merkle import Frontier
from app.ledger.tiles import Tile
from app.ledger.verification import Finding, StoredEntry
from app.storage import tables
from app.storage.database import Database, is_trouble

PAGE_BYTES: Final = 32 * 1024 * 1024
"""How many bytes of documents a page holds, where it holds more than one."""

MOST_MISNAMED: Final = 100
"""How many entries are named that another's idempotency key leads to."""


@dataclass(frozen=True, slots=True)
class StoredHead:
    """The ledger's head as it is stored, and how far the other tables go.

    `entries`: the index after the last entry; `streams`, `requests`, `tiles` and `rows`: the size
    that the largest of these needs.
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
    last_at: datetime

    def beyond(self) -> Iterable[Finding]:
        """What there is beyond the ledger's end: something that it once had, and has no more."""
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
        if is_trouble(error):
            raise Unavailable("database", "the database went away; ask again") from error
        raise
    finally:
        connection.terminate()


async def stored_head(connection: Any) -> StoredHead | None:
    """The head and how far the other tables go, as of one instant; `None`: nothing was ever
    recorded.
    """
    row = await connection.fetchrow(_HEAD)
    return None if row is None else StoredHead(**row)


@dataclass(frozen=True, slots=True)
class Page:
    """The entries in a range of indexes, and the rows by which they are found."""

    entries: list[StoredEntry]
    filed: Filed


async def pages(connection: Any, indexes: range) -> AsyncIterator[Page]:
    """What there is in that range, in as many pages as its bytes need."""
    left = [indexes]
    while left:
        here = left.pop()
        of = here.start, here.stop
        if len(here) > 1 and await connection.fetchval(_BYTES, *of) > PAGE_BYTES:
            middle = here.start + len(here) // 2
            left += range(middle, here.stop), range(here.start, middle)
            continue
        entries = [StoredEntry(*row) for row in await connection.fetch(_ENTRIES, *of)]
        filed = {
            table: {row[0]: row for row in await connection.fetch(statement, *of)}
            for table, statement in _FILED.items()
        }
        yield Page(entries, filed)


async def tiles(connection: Any, asked: Iterable[Tile]) -> dict[Tile, tuple[bytes, bytes]]:
    """The stored hashes and root of those tiles that are there."""
    places = [(tile.level, tile.number) for tile in asked]
    if not places:
        return {}
    rows = await connection.fetch(_TILES, *map(list, zip(*places, strict=True)))
    return {Tile(row["level"], row["number"]): (row["hashes"], row["root"]) for row in rows}


async def checkpoint_notes(connection: Any, *, above: int) -> list[tuple[int, str]]:
    """Size and note of every checkpoint on record of more than *above* entries, smallest first."""
    asked = "SELECT size, note FROM ledger_checkpoint WHERE size > $1 ORDER BY size"
    return [(row["size"], row["note"]) for row in await connection.fetch(asked, above)]


async def recorded_at(connection: Any, index: int) -> datetime | None:
    """When the entry with that index was recorded, or the next that there is."""
    asked = "SELECT at FROM ledger_entry WHERE index >= $1 ORDER BY index LIMIT 1"
    at: datetime | None = await connection.fetchval(asked, index)
    return at


async def misnamed(connection: Any) -> list[Finding]:
    """The entries that a caller would be given who repeats a request, and that another recorded."""
    asked = """
        SELECT e.index, i.credential, e.actor FROM idempotency i
        CROSS JOIN LATERAL generate_series(i.index, i.index + i.count - 1) AS named (index)
        JOIN ledger_entry e ON e.index = named.index
        WHERE e.actor <> i.credential ORDER BY e.index LIMIT $1
    """
    rows = await connection.fetch(asked, MOST_MISNAMED)
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
        coalesce((SELECT max(index) + 1 FROM ledger_entry), 0) AS entries,
        coalesce((SELECT max(version) FROM stream), 0) AS streams,
        coalesce((SELECT max(index + count) FROM idempotency), 0) AS requests,
        coalesce((SELECT max((number + 1) << (8 * (level + 1))) FROM ledger_tile), 0) AS tiles,
        greatest(0, {", ".join(f"(SELECT max(index) + 1 FROM {t.name})" for t in tables.FILED)})
            AS rows,
        (SELECT max(size) FROM ledger_checkpoint) AS checkpoint, last_at
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
    return f"(SELECT model FROM evidence WHERE evidence.id = filed.{column})"  # noqa: S608


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
