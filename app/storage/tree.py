"""The Merkle tree as it is kept: full tiles, and what lies right of them.

A full tile is written down by the transaction that completes it, and never changes. The last, open
tile of each level is not kept: at the lowest level its hashes are the leaf hashes of the newest
entries, above that the roots of the full tiles below. So an append writes one tile for every 256
entries, and whatever is asked of the tree costs three statements and a few tiles, however large it
is.

What reads here reads on a connection from `Database.reading`, and so sees the tree of one size.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ledger.merkle import (
    HASH_BYTES,
    Frontier,
    Node,
    consistency_ranges,
    inclusion_ranges,
    nodes_of,
    range_hash,
)
from app.ledger.tiles import HEIGHT, WIDTH, Tile, completed_tiles, entry_bundle, node_in, tile_of
from app.storage.tables import ledger_entry, ledger_head, ledger_tile


class BrokenTree(Exception):
    """What is stored of the tree does not fit together, or not with the entries."""


@dataclass(frozen=True, slots=True)
class Head:
    """The ledger's end: its name, its tree, and when the last entry was recorded."""

    log: str
    frontier: Frontier
    root: bytes
    last_at: datetime

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self.frontier.size


# --- Reading -----------------------------------------------------------------------------------


async def head(connection: AsyncConnection) -> Head | None:
    """The ledger's head as it is stored; `None`: the ledger has no name yet.

    Raises `BrokenTree` where its frontier is that of no tree of its size.
    """
    row = (await connection.execute(select(ledger_head))).first()
    if row is None:
        return None
    try:
        frontier = Frontier.from_bytes(row.size, row.frontier)
    except ValueError as error:
        raise BrokenTree(f"the frontier of the ledger's head is none: {error}") from error
    return Head(row.log, frontier, row.root, row.last_at)


async def stored_frontier(connection: AsyncConnection, size: int) -> Frontier:
    """The frontier of the tree of *size* leaves, from tiles and entries. Raises `LookupError`."""
    nodes = nodes_of(range(size))
    hashes = await node_hashes(connection, nodes)
    return Frontier(size, tuple(hashes[node] for node in nodes))


async def root_at(connection: AsyncConnection, size: int) -> bytes:
    """The root when the ledger had *size* entries. Raises `LookupError` where it never had."""
    (root,) = await range_hashes(connection, [range(size)])
    return root


async def inclusion_proof(connection: AsyncConnection, index: int, size: int) -> tuple[bytes, ...]:
    """The proof that entry *index* is in the tree of *size* leaves.

    Raises `ValueError` where it cannot be, `LookupError` where the ledger never had that size.
    """
    return await range_hashes(connection, inclusion_ranges(index, size))


async def inclusion_proofs(
    connection: AsyncConnection, indexes: Sequence[int], size: int
) -> tuple[tuple[bytes, ...], ...]:
    """The proof for each of those entries; raises as `inclusion_proof` does."""
    asked = [inclusion_ranges(index, size) for index in indexes]
    hashes = await node_hashes(
        connection, {node for ranges in asked for part in ranges for node in nodes_of(part)}
    )

    def folded() -> tuple[tuple[bytes, ...], ...]:
        return tuple(tuple(range_hash(part, hashes) for part in ranges) for ranges in asked)

    # There may be thousands of them, and everyone else would wait for it.
    return await asyncio.to_thread(folded)


async def consistency_proof(connection: AsyncConnection, old: int, new: int) -> tuple[bytes, ...]:
    """The proof that the tree of *new* leaves extends that of *old*.

    Raises `ValueError` where it cannot, `LookupError` where the ledger never had those sizes.
    """
    return await range_hashes(connection, consistency_ranges(old, new))


async def range_hashes(connection: AsyncConnection, ranges: Sequence[range]) -> tuple[bytes, ...]:
    """The hash of each range, as `app.ledger.merkle` has them. Raises `LookupError` where a leaf of
    one is not there yet.
    """
    hashes = await node_hashes(connection, (node for part in ranges for node in nodes_of(part)))
    return tuple(range_hash(part, hashes) for part in ranges)


async def node_hashes(connection: AsyncConnection, nodes: Iterable[Node]) -> dict[Node, bytes]:
    """The hashes of nodes. Raises `LookupError` where a node is not complete yet."""
    by_tile: dict[Tile, list[Node]] = {}
    for node in nodes:
        by_tile.setdefault(tile_of(node), []).append(node)
    asked = {tile: max(map(_end_in_tile, some)) for tile, some in by_tile.items()}
    found = await _tiles(connection, asked)
    return {
        node: node_in(tile, found[tile], node) for tile, some in by_tile.items() for node in some
    }


def _end_in_tile(node: Node) -> int:
    """How wide a tile must be to hold all that the node covers of it."""
    return (((node.number + 1) << node.level % HEIGHT) - 1) % WIDTH + 1


async def tile_hashes(connection: AsyncConnection, tile: Tile) -> bytes | None:
    """The hashes of a tile, one after the other; `None` where no tree of the ledger had it yet."""
    if tile.size > await _size(connection):
        return None
    whole = Tile(tile.level, tile.number)
    hashes = (await _tiles(connection, {whole: tile.width}))[whole]
    return hashes[: tile.width * HASH_BYTES]


async def bundle(connection: AsyncConnection, tile: Tile) -> bytes | None:
    """The entries under a tile of level 0; `None` where the ledger does not have them all yet."""
    if tile.size > await _size(connection):
        return None
    first = tile.number * WIDTH
    asked = (
        select(ledger_entry.c.entry)
        .where(ledger_entry.c.index >= first, ledger_entry.c.index < first + tile.width)
        .order_by(ledger_entry.c.index)
    )
    return entry_bundle(await connection.scalars(asked))


async def _size(connection: AsyncConnection) -> int:
    return await connection.scalar(select(ledger_head.c.size)) or 0


async def _tiles(connection: AsyncConnection, asked: Mapping[Tile, int]) -> dict[Tile, bytes]:
    """The hashes of full tiles; of an open one, as many of the first ones as are asked for, or as
    there are.
    """
    places = [(tile.level, tile.number) for tile in asked]
    full = await connection.execute(
        select(ledger_tile.c.level, ledger_tile.c.number, ledger_tile.c.hashes).where(
            tuple_(ledger_tile.c.level, ledger_tile.c.number).in_(places)
        )
    )
    found = {Tile(row.level, row.number): row.hashes for row in full}
    pieces: dict[Tile, list[bytes]] = {tile: [] for tile in asked if tile not in found}
    upper = [
        and_(
            ledger_tile.c.level == tile.level - 1,
            ledger_tile.c.number >= tile.number * WIDTH,
            ledger_tile.c.number < tile.number * WIDTH + asked[tile],
        )
        for tile in pieces
        if tile.level
    ]
    if upper:
        roots = await connection.execute(
            select(ledger_tile.c.level, ledger_tile.c.number, ledger_tile.c.root)
            .where(or_(*upper))
            .order_by(ledger_tile.c.level, ledger_tile.c.number)
        )
        for level, number, root in roots:
            pieces[Tile(level + 1, number // WIDTH)].append(root)
    lowest = [
        and_(
            ledger_entry.c.index >= tile.number * WIDTH,
            ledger_entry.c.index < tile.number * WIDTH + asked[tile],
        )
        for tile in pieces
        if not tile.level
    ]
    if lowest:
        leaves = await connection.execute(
            select(ledger_entry.c.index, ledger_entry.c.leaf_hash)
            .where(or_(*lowest))
            .order_by(ledger_entry.c.index)
        )
        for index, leaf in leaves:
            pieces[Tile(0, index // WIDTH)].append(leaf)
    return found | {tile: b"".join(hashes) for tile, hashes in pieces.items()}


# --- Growing -----------------------------------------------------------------------------------

TileRow = tuple[int, int, bytes, bytes]
"""The level, number, hashes and root of a full tile."""

_LEAVES: Final = """
    SELECT leaf_hash FROM ledger_entry WHERE index >= $1 AND index < $2 ORDER BY index
"""
_ROOTS: Final = """
    SELECT root FROM ledger_tile
    WHERE level = $3 AND number >= $1 AND number < $2 ORDER BY number
"""


async def grown_tiles(
    connection: Any, old: int, new: int, completed: Mapping[Node, bytes]
) -> list[TileRow]:
    """The tiles that a tree of *old* leaves gains when it grows to *new*, in the writer's own
    transaction, on its asyncpg connection. `completed` are the nodes that this completes.

    Raises `BrokenTree` where what is stored does not have the root that the frontier says.
    """
    rows = []
    for tile in completed_tiles(old, new):
        stored = [node.number for node in tile.nodes if node not in completed]
        hashes: list[bytes] = []
        if stored:
            span = (stored[0], stored[-1] + 1)
            if tile.level:
                found = await connection.fetch(_ROOTS, *span, tile.level - 1)
            else:
                found = await connection.fetch(_LEAVES, *span)
            hashes = [row[0] for row in found]
        hashes += [completed[node] for node in tile.nodes if node in completed]
        written, root = b"".join(hashes), completed[tile.root]
        if len(hashes) != WIDTH or node_in(tile, written, tile.root) != root:
            raise BrokenTree(f"the stored hashes of tile {tile.path} are not those of the tree")
        rows.append((tile.level, tile.number, written, root))
    return rows
