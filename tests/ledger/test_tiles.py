"""Tiles and bundles, as the published format has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ledger.merkle import Frontier, Node, leaf_hash
from app.ledger.tiles import (
    WIDTH,
    Tile,
    completed_tiles,
    entries_in,
    entry_bundle,
    node_in,
    parse_tile,
    tile_of,
    tiles_of,
)

tiles = st.builds(Tile, st.integers(0, 63), st.integers(0, 2**56), st.integers(1, WIDTH))
_, NODES = Frontier().extended([leaf_hash(b"%d" % i) for i in range(700)])


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "0/000"),
        (Tile(0, 1234067), "0/x001/x234/067"),
        (Tile(3, 1000, 8), "3/x001/000.p/8"),
        (Tile(63, 999, 255), "63/999.p/255"),
    ],
)
def test_a_tile_has_its_published_path(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_tile(*path.split("/", 1)) == tile


def test_entries_are_found_beside_the_tile_of_their_hashes() -> None:
    assert Tile(0, 1234067, 5).bundle_path == "entries/x001/x234/067.p/5"


@given(tiles)
def test_every_path_names_its_tile(tile: Tile) -> None:
    level, place = tile.path.split("/", 1)
    assert parse_tile(level, place) == tile


@pytest.mark.parametrize(
    "path",
    [
        "64/000",
        "00/000",
        "01/000",
        "-1/000",
        "/000",
        "a/000",
        "٣/000",
        "100/000",
        "0/",
        "0/0",
        "0/0000",
        "0/x000/000",
        "0/001/002",
        "0/x001/x002",
        "0/x001/002/",
        "0/X001/002",
        "0/٠٠١",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/999",
        "0/000.p/01",
        "0/000.p/1000",
        "0/000.p/",
        "0/000.p",
        "0/000.p/1/",
        "0/000\n",
        "0/../000",
    ],
)
def test_a_tile_has_one_spelling(path: str) -> None:
    with pytest.raises(ValueError, match="names no tile"):
        parse_tile(*path.split("/", 1))


def test_a_tree_of_70000_has_the_published_tiles() -> None:
    """The example of the format's text."""
    found = list(tiles_of(70_000))
    assert [t for t in found if t.level == 0] == [
        *(Tile(0, n) for n in range(273)),
        Tile(0, 273, 112),
    ]
    assert [t for t in found if t.level] == [Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(0)) == []


@given(st.integers(0, 200_000), st.integers(0, 2000))
def test_what_an_append_completes_is_what_was_not_there_before(old: int, more: int) -> None:
    before, after = set(tiles_of(old)), set(tiles_of(old + more))
    full = {tile for tile in after if tile.width == WIDTH}
    assert set(tiles_of(old + more, old)) == after - before
    assert list(completed_tiles(old, old + more)) == sorted(full - before)


@given(st.integers(1, 10**7))
def test_a_tile_is_there_from_its_size_on(size: int) -> None:
    for tile in tiles_of(size):
        assert tile.size <= size
        if tile.width < WIDTH:
            assert Tile(tile.level, tile.number, tile.width + 1).size > size


@given(st.sampled_from(sorted(NODES)))
def test_a_node_is_read_from_its_tile(node: Node) -> None:
    tile = tile_of(node)
    held = [NODES[n] for n in tile.nodes if n in NODES]
    assert node_in(tile, b"".join(held), node) == NODES[node]


def test_the_root_of_a_tile_is_a_hash_of_the_one_above() -> None:
    hashes = b"".join(NODES[node] for node in Tile(0, 1).nodes)
    assert node_in(Tile(0, 1), hashes, Tile(0, 1).root) == NODES[Node(8, 1)]
    assert Tile(0, 1).root in Tile(1, 0).nodes


@pytest.mark.parametrize("node", [Node(0, 255), Node(0, 512), Node(2, 100), Node(16, 0)])
def test_a_node_is_not_read_from_a_tile_that_does_not_hold_it(node: Node) -> None:
    with pytest.raises(LookupError):
        node_in(Tile(0, 1), bytes(32) * 100, node)
    with pytest.raises(LookupError):
        node_in(Tile(1, 0), bytes(32) * WIDTH, Node(7, 0))


# --- Bundles -----------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_gives_its_entries_back(entries: list[bytes]) -> None:
    assert entries_in(entry_bundle(entries)) == tuple(entries)


def test_an_entry_stands_behind_its_length() -> None:
    assert entry_bundle([b"ab", b"", b"x" * 258]) == b"\x00\x02ab\x00\x00\x01\x02" + b"x" * 258


def test_a_length_is_never_cut_short() -> None:
    """An encoder that wrapped it round would make two logs of one."""
    assert entries_in(entry_bundle([b"x" * 65_535])) == (b"x" * 65_535,)
    with pytest.raises(OverflowError):
        entry_bundle([b"x" * 65_536])


@pytest.mark.parametrize("bundle", [b"\x00", b"\x00\x02a", b"\x00\x01ab"])
def test_a_bundle_that_ends_too_early_is_refused(bundle: bytes) -> None:
    with pytest.raises(ValueError, match="middle of an entry"):
        entries_in(bundle)
