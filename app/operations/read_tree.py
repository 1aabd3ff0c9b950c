"""Read the ledger's tree: its tiles, the entries under them, and proofs for any of its sizes.

Nothing that is answered here will ever be answered otherwise, for the tree of a size never changes.
"""

from dataclasses import dataclass

from app.errors import InvalidParameter, NotFound
from app.ledger.merkle import consistency_ranges, inclusion_ranges
from app.ledger.tiles import Tile, parse_tile
from app.storage import tree
from app.storage.database import DatabaseConnection
from app.storage.store import Store


@dataclass(frozen=True, slots=True)
class Inclusion:
    """That the entry with that index and leaf hash is in the tree of `size` and `root`."""

    index: int
    leaf_hash: bytes
    size: int
    root: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Consistency:
    """That the tree of the size `new` extends that of the size `old`."""

    old: int
    old_root: bytes
    new: int
    new_root: bytes
    proof: tuple[bytes, ...]


async def read_tile(store: Store, level: str, place: str) -> bytes:
    """The hashes of a tile by its path. Raises `NotFound`, also while the ledger is too small."""
    tile = _tile(level, place)
    async with store.reading() as connection:
        hashes = await tree.tile_hashes(connection, tile)
    if hashes is None:
        raise NotFound("tile", tile.path)
    return hashes


async def read_bundle(store: Store, place: str) -> bytes:
    """The entries under a tile of the lowest level by its path. Raises `NotFound`, also while the
    ledger is too small.
    """
    tile = _tile("0", place)
    async with store.reading() as connection:
        entries = await tree.bundle(connection, tile)
    if entries is None:
        raise NotFound("entry bundle", tile.bundle_path)
    return entries


def _tile(level: str, place: str) -> Tile:
    try:
        return parse_tile(level, place)
    except ValueError:
        raise NotFound("tile", f"{level}/{place}") from None


async def read_inclusion(store: Store, index: int, size: int | None) -> Inclusion:
    """How an entry is proven to be in the tree of *size*, or of now.

    Raises `InvalidParameter` where there is no such size, or no such entry in it.
    """
    async with store.reading() as connection:
        size = await _known_size(connection, size, "size")
        if index >= size:
            raise InvalidParameter("index", f"is not below `{size}`, the size of the tree")
        of_leaf, of_tree = range(index, index + 1), range(size)
        asked = (of_leaf, of_tree, *inclusion_ranges(index, size))
        leaf, root, *proof = await tree.range_hashes(connection, asked)
    return Inclusion(index, leaf, size, root, tuple(proof))


async def read_consistency(store: Store, old: int, new: int | None) -> Consistency:
    """How the tree of the size *new*, or of now, is proven to extend that of the size *old*.

    Raises `InvalidParameter` where there are no such sizes, or the new one is the smaller.
    """
    async with store.reading() as connection:
        new = await _known_size(connection, new, "to")
        if old > new:
            raise InvalidParameter("from", f"is more than `{new}`, the size that it is to end at")
        asked = (range(old), range(new), *consistency_ranges(old, new))
        old_root, new_root, *proof = await tree.range_hashes(connection, asked)
    return Consistency(old, old_root, new, new_root, tuple(proof))


async def _known_size(connection: DatabaseConnection, size: int | None, parameter: str) -> int:
    head = await tree.head(connection)
    assert head is not None, "an open store has a named ledger"
    if size is not None and size > head.size:
        raise InvalidParameter(parameter, f"is more than the ledger has: `{head.size}` entries")
    return head.size if size is None else size
