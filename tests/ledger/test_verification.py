"""A walk through a ledger finds what is wrong with it, and says where; here without a database."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.canonical import canonical_json, digest
from app.ledger.checkpoint import Checkpoint
from app.ledger.entry import Kind, entry_bytes
from app.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash
from app.ledger.tiles import Tile, completed_tiles
from app.ledger.verification import Finding, StoredEntry, Stretch, Walk, first_of, look

LOG = "example.com/log"
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def stored(index: int, *, log: str = LOG, kind: Kind = Kind.ASSESSMENT) -> StoredEntry:
    document = canonical_json({"number": index})
    subject = digest(document) if kind is Kind.POLICY_VERSION else f"asm_{index}"
    return sealed(
        StoredEntry(
            index, kind.value, subject, "key_1", BEGUN + timedelta(seconds=index), b"", b"",
            document, b"",
        ),
        log,
    )  # fmt: skip


def sealed(one: StoredEntry, log: str = LOG) -> StoredEntry:
    entry = entry_bytes(
        log=log,
        index=one.index,
        kind=Kind(one.kind),
        subject=one.subject,
        document=one.document,
        actor=one.actor,
        at=one.at,
    )
    sha256 = bytes.fromhex(digest(one.document).removeprefix("sha256:"))
    return replace(one, entry=entry, leaf_hash=leaf_hash(entry), document_sha256=sha256)


@cache
def _ledger(size: int) -> tuple[StoredEntry, ...]:
    return tuple(stored(index) for index in range(size))


def ledger(size: int) -> list[StoredEntry]:
    return list(_ledger(size))


def tree_of(entries: Iterable[StoredEntry]) -> tuple[Frontier, dict[Tile, tuple[bytes, bytes]]]:
    """The head's frontier and the tiles that the service would have kept."""
    frontier, nodes = Frontier().extended(one.leaf_hash for one in entries)
    return frontier, {
        tile: (b"".join(nodes[node] for node in tile.nodes), nodes[tile.root])
        for tile in completed_tiles(0, frontier.size)
    }


def walked(
    entries: list[StoredEntry],
    kept: tuple[Frontier, dict[Tile, tuple[bytes, bytes]]],
    *signed: Checkpoint,
    page: int = 100,
) -> Walk:
    """A walk, page after page, that compares all that was kept."""
    walk = Walk(LOG)
    by_size = {one.size: one for one in signed}
    for first in range(0, len(entries), page):
        seen = look(LOG, entries[first : first + page])
        walk.compare_tiles(walk.take(seen, by_size), kept[1])
    walk.missing(kept[0].size)
    walk.compare_head(kept[0], kept[0].root)
    return walk


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000])
@pytest.mark.parametrize("page", [1, 7, 256, 5000])
def test_a_whole_ledger_is_sound_in_pages_of_any_size(size: int, page: int) -> None:
    entries = ledger(size)
    frontier, tiles = tree_of(entries)
    signed = [
        Checkpoint(LOG, some, tree_of(entries[:some])[0].root)
        for some in {1, size // 3, size - 1, size}
        if 0 < some <= size
    ]
    walk = walked(entries, (frontier, tiles), *signed, page=page)

    assert walk.findings == []
    assert walk.index == size
    assert walk.frontier == frontier
    assert walk.agreed == size


def test_an_upper_tile_is_held_against_the_tree_too() -> None:
    """65,536 leaves fill a tile of level 1."""
    leaves = [bytes([i % 251]) * 32 for i in range(65536)]
    frontier, nodes = Frontier().extended(leaves)
    stored = {
        tile: (b"".join(nodes[node] for node in tile.nodes), nodes[tile.root])
        for tile in completed_tiles(0, frontier.size)
    }
    upper = Tile(1, 0)
    hashes, root = stored[upper]
    stored[upper] = hashes[:64] + bytes(32) + hashes[96:], root
    walk = Walk(LOG)
    for seen in (Stretch(0, BEGUN, BEGUN, leaves[:300]), Stretch(300, BEGUN, BEGUN, leaves[300:])):
        walk.compare_tiles(walk.take([seen], {}), stored)

    (one,) = walk.findings
    assert one.index == 512
    assert "tile 1/000 has another hash for entries 512 to 767" in one.what
    assert frontier.root == nodes[upper.root]


CHANGES: dict[str, Callable[[StoredEntry], StoredEntry]] = {
    "document": lambda one: replace(one, document=one.document + b" "),
    "entry": lambda one: replace(one, entry=one.entry + b" "),
    "leaf_hash": lambda one: replace(one, leaf_hash=bytes(32)),
    "document_sha256": lambda one: replace(one, document_sha256=bytes(32)),
    "actor": lambda one: replace(one, actor="key_2"),
    "subject": lambda one: replace(one, subject="asm_x"),
    "kind": lambda one: replace(one, kind="order"),
    "no kind": lambda one: replace(one, kind="rumour"),
    "later": lambda one: replace(one, at=one.at + timedelta(microseconds=1)),
    "all of it": lambda one: sealed(replace(one, document=b"{}")),
    "another log": lambda one: sealed(one, "example.com/other"),
    "spelling": lambda one: with_entry(one, one.entry.replace(b'"v":1', b'"v": 1')),
    "more": lambda one: with_entry(one, one.entry.replace(b'"v":1', b'"v":1,"w":2')),
    "a truth": lambda one: with_entry(one, one.entry.replace(b'"v":1', b'"v":true')),
    "a float": lambda one: with_entry(one, one.entry.replace(b'"v":1', b'"v":1.0')),
    "other version": lambda one: with_entry(one, one.entry.replace(b'"v":1', b'"v":2')),
    "no envelope": lambda one: with_entry(one, b'"text"'),
    "no JSON": lambda one: with_entry(one, b"\xff"),
}


def with_entry(one: StoredEntry, entry: bytes) -> StoredEntry:
    return replace(one, entry=entry, leaf_hash=leaf_hash(entry))


WHOLE = ledger(300)
KEPT = tree_of(WHOLE)


@pytest.mark.parametrize("change", CHANGES)
@given(index=st.integers(0, 299))
def test_whatever_is_changed_is_found_where_it_is(change: str, index: int) -> None:
    """In a row alone, or with all that is made of it: then the tree tells, and a range of entries is
    all that is known where it is not in a full tile.
    """
    entries = list(WHOLE)
    entries[index] = CHANGES[change](entries[index])
    first = first_of(walked(entries, KEPT).findings)

    assert first is not None
    assert first.index is not None
    if change == "all of it" and index >= 256:
        assert first.index <= index < first.index + 32
    else:
        assert first.index == index


def test_a_policy_version_is_called_what_its_text_hashes_to() -> None:
    one = stored(0, kind=Kind.POLICY_VERSION)
    assert walked([one], tree_of([one])).findings == []
    other = sealed(replace(one, document=b"{}"))

    (found,) = walked([other], tree_of([other])).findings
    assert (found.index, "the policy version is called" in found.what) == (0, True)


@given(gone=st.integers(0, 298))
def test_a_gap_is_found_and_ends_the_tree(gone: int) -> None:
    entries = list(WHOLE)
    del entries[gone]
    walk = walked(entries, KEPT)

    assert walk.findings == [Finding(gone, f"it is missing: the next one is {gone + 1}")]
    assert not walk.is_whole


def test_what_comes_before_a_gap_is_held_against_the_tree() -> None:
    entries = ledger(600)
    kept = tree_of(entries)
    entries[3] = sealed(replace(entries[3], document=b"{}"))
    del entries[400:402]
    walk = walked(entries, kept, page=5000)

    assert [one.index for one in walk.findings] == [400, 3]
    assert walk.findings[0].what == "2 entries are missing: the next one is 402"


def test_an_end_that_is_missing_is_found() -> None:
    entries = ledger(300)
    walk = walked(entries[:290], tree_of(entries))

    assert walk.findings == [
        Finding(290, "the head counts 300 entries, and from 290 on there are none")
    ]


def test_time_never_goes_back() -> None:
    entries = ledger(5)
    entries[3] = sealed(replace(entries[3], at=BEGUN))
    walk = walked(entries, tree_of(entries))

    (one,) = walk.findings
    assert (one.index, "backdated" in one.what) == (3, True)


def test_a_checkpoint_narrows_down_what_was_changed() -> None:
    entries = ledger(40)
    signed = [Checkpoint(LOG, size, tree_of(entries[:size])[0].root) for size in (10, 20, 30, 40)]
    entries[23] = sealed(replace(entries[23], document=b"{}"))
    walk = walked(entries, tree_of(entries), *signed)

    (one,) = walk.findings
    assert (walk.agreed, walk.disagreed) == (20, 30)
    assert one.index == 20
    assert "one of 20 to 29 is not what it was" in one.what


def test_the_walk_goes_on_where_the_ledger_has_grown() -> None:
    entries = ledger(700)
    walk = Walk(LOG)
    for size in (100, 300, 300, 700):
        frontier, tiles = tree_of(entries[:size])
        walk.compare_tiles(walk.take(look(LOG, entries[walk.index : size]), {}), tiles)
        walk.compare_head(frontier, frontier.root)

    assert walk.findings == []
    assert walk.index == 700


def decided(index: int, semantics: int) -> StoredEntry:
    provenance = {"engine": {"semantics": semantics, "version": "0.1.0"}, "known_at": index}
    words = {"id": f"det_{index}", "provenance": provenance}
    kind, document = Kind.DETERMINATION.value, canonical_json(words)
    return sealed(replace(stored(index), kind=kind, subject=f"det_{index}", document=document))


@pytest.mark.parametrize("page", [1, 2, 100])
def test_nobody_decides_under_older_semantics_than_the_one_before(page: int) -> None:
    """Else who records could choose, among the engines that there were, the one that says allow."""
    entries = [stored(0), *(decided(i, n) for i, n in enumerate((1, 2, 2, 3, 2, 3, 1), 1))]
    walk = walked(entries, tree_of(entries), page=page)

    assert [one.index for one in walk.findings] == [5, 7]
    assert "under semantics 2, and entry 4 before it under 3" in walk.findings[0].what


def test_a_word_of_somebody_is_not_taken_for_the_engine() -> None:
    said = '"engine":{"semantics":1,"version":'
    last = decided(1, 2)
    words = {"a": said, **orjson.loads(last.document)}
    entries = [decided(0, 2), sealed(replace(last, document=canonical_json(words)))]

    assert walked(entries, tree_of(entries)).findings == []


def test_a_head_with_another_root_than_its_frontier_is_found() -> None:
    entries = ledger(3)
    walk = walked(entries, tree_of(entries))
    walk.compare_head(tree_of(entries)[0], EMPTY_ROOT)

    assert walk.findings == [Finding(None, "the head's root is not that of its own frontier")]


def test_the_first_finding_is_the_one_with_the_smallest_index() -> None:
    whole, late, early = Finding(None, "w"), Finding(7, "l"), Finding(2, "e")
    assert first_of([]) is None
    assert first_of([whole]) == whole
    assert first_of([whole, late, early]) == early


@pytest.mark.parametrize("page", [1, 3, 100])
def test_nothing_is_recorded_with_a_key_that_is_revoked(page: int) -> None:
    """Its own revocation may be the last that it recorded."""
    entries = ledger(8)
    document = canonical_json({"credential": "key_2"})
    for index, actor in ((1, "person:a/key_2"), (3, "person:a/key_2"), (6, "person:a/key_3")):
        entries[index] = sealed(replace(entries[index], actor=actor))
    revoking = replace(entries[3], kind=Kind.REVOCATION.value, document=document)
    entries[3] = sealed(revoking)
    assert not keys_found(entries, page)
    entries[6] = sealed(replace(entries[6], actor="person:a/key_2"))
    assert keys_found(entries, page) == [
        Finding(6, "recorded with `key_2`, which was revoked at entry 3")
    ]


def keys_found(entries: list[StoredEntry], page: int) -> list[Finding]:
    walk = Walk(LOG)
    for begin in range(0, len(entries), page):
        walk.take(look(LOG, entries[begin : begin + page]), {})
    return walk.findings
