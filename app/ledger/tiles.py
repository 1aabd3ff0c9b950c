"""The tree as files that never change: tiles and entry bundles of C2SP tlog-tiles.

A tile of level L holds up to 256 neighbouring nodes of level 8·L of the tree; one that holds fewer
is partial, and stands at the tree's right edge. A full tile's root is one hash of a tile of the
level above. A bundle holds the entries whose leaf hashes a tile of level 0 holds.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from app.ledger.merkle import HASH_BYTES, Node, subtree_hash

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
FULL_BYTES: Final = WIDTH * HASH_BYTES

_MAX_LEVEL: Final = 63
# Seven groups of three digits hold every 64-bit index.
_PATH: Final = re.compile(
    r"(?P<number>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


class Tile(NamedTuple):
    """`width` neighbouring nodes of level `8 * level`, from `256 * number` on."""

    level: int
    number: int
    width: int = WIDTH

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes whose hashes it holds, in their order."""
        first = self.number << HEIGHT
        return tuple(Node(self.level * HEIGHT, first + i) for i in range(self.width))

    @property
    def root(self) -> Node:
        """The node over all of a full tile, which is a hash of a tile of the level above."""
        return Node((self.level + 1) * HEIGHT, self.number)

    @property
    def size(self) -> int:
        """The size of the smallest tree that has this tile."""
        return ((self.number << HEIGHT) + self.width) << (self.level * HEIGHT)

    @property
    def path(self) -> str:
        """Where it is found below `tile/`, as in `0/x001/x234/067.p/8`."""
        return f"{self.level}/{self._place}"

    @property
    def bundle_path(self) -> str:
        """Where the entries of a tile of level 0 are found below `tile/`."""
        return f"entries/{self._place}"

    @property
    def _place(self) -> str:
        digits = f"{self.number:d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        *upper, last = (digits[i : i + 3] for i in range(0, len(digits), 3))
        place = "".join(f"x{three}/" for three in upper) + last
        return place if self.width == WIDTH else f"{place}.p/{self.width}"


def parse_tile(level: str, place: str) -> Tile:
    """The tile at *level* and *place*, both as in a path. Every tile has one spelling only.

    Raises `ValueError` where it is none.
    """
    found = _PATH.fullmatch(place)
    if found is None or not (level.isascii() and level.isdecimal()) or len(level) > 2:
        raise ValueError(f"`{level}/{place}` names no tile")
    number = int(found["number"].replace("x", "").replace("/", ""))
    tile = Tile(int(level), number, int(found["width"] or WIDTH))
    if tile.path != f"{level}/{place}" or tile.level > _MAX_LEVEL or tile.width > WIDTH:
        raise ValueError(f"`{level}/{place}` names no tile")
    return tile


def tiles_of(size: int, since: int = 0) -> Iterator[Tile]:
    """All tiles of a tree of *size* leaves, lowest level first, and of a level the partial one
    last: those that the tree of *since* leaves did not have already.
    """
    level, now, before = 0, size, since
    while now:
        full = now >> HEIGHT
        for number in range(before >> HEIGHT, full):
            yield Tile(level, number)
        if width := now % WIDTH:
            if now != before:
                yield Tile(level, full, width)
        level, now, before = level + 1, full, before >> HEIGHT


def completed_tiles(old: int, new: int) -> Iterator[Tile]:
    """The full tiles that the tree of *new* leaves has and that of *old* had not, lowest first."""
    return (tile for tile in tiles_of(new, old) if tile.width == WIDTH)


def tile_of(node: Node) -> Tile:
    """The full tile whose hashes give the node's."""
    level, height = divmod(node.level, HEIGHT)
    return Tile(level, (node.number << height) >> HEIGHT)


def node_in(tile: Tile, hashes: bytes, node: Node) -> bytes:
    """The hash of a node that lies in *tile*, or is the root of it, from the tile's *hashes*.

    Raises `LookupError` where the tile does not hold all that the node covers.
    """
    height = node.level - tile.level * HEIGHT
    wide = 1 << height if height >= 0 else 0
    first = node.number * wide - (tile.number << HEIGHT)
    last = first + wide
    if not wide or first < 0 or last * HASH_BYTES > len(hashes):
        raise LookupError(f"{node} is not in {tile}")
    return subtree_hash([hashes[i * HASH_BYTES : (i + 1) * HASH_BYTES] for i in range(first, last)])


# --- Bundles -----------------------------------------------------------------------------------


def entry_bundle(entries: Iterable[bytes]) -> bytes:
    """The entries one after the other, each behind its length in two bytes, the larger one first.

    Raises `OverflowError` where an entry is longer than that can say.
    """
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def entries_in(bundle: bytes) -> tuple[bytes, ...]:
    """The entries of a bundle. Raises `ValueError` where it ends in the middle of one."""
    entries = []
    rest = memoryview(bundle)
    while rest:
        end = 2 + int.from_bytes(rest[:2], "big")
        if len(rest) < end:
            raise ValueError("the bundle ends in the middle of an entry")
        entries.append(bytes(rest[2:end]))
        rest = rest[end:]
    return tuple(entries)
