"""What comes from a log is exactly as long as it must be: nothing that ends early is believed.

The whole file is, so that each refusal is for the cut and for nothing else.
"""

import pytest

from app.ledger.checkpoint import Checkpoint, read_checkpoint, read_receipt, verified_checkpoint
from app.ledger.merkle import InvalidProof, Node
from app.ledger.note import InvalidNote, UnverifiedNote, read_note
from app.ledger.tiles import Tile, entries_in, entry_bundle, node_in
from tests.ledger.test_checkpoint import LOG, key, keys, receipt

STEP = 7
"""Finer than the lines and hashes of any of them, and a divisor of none."""


def cuts(whole: bytes) -> range:
    return range(0, len(whole), STEP)


def test_a_checkpoint_that_ends_early_is_refused() -> None:
    whole = str(Checkpoint(LOG, 300, b"r" * 32).signed([key()])).encode()
    assert verified_checkpoint(read_note(whole), keys(1), origin=LOG).size == 300
    for end in cuts(whole):
        with pytest.raises((InvalidNote, UnverifiedNote)):
            verified_checkpoint(read_note(whole[:end]), keys(1), origin=LOG)


def test_the_text_of_a_checkpoint_that_ends_early_is_none() -> None:
    whole = str(Checkpoint(LOG, 300, b"r" * 32))
    assert read_checkpoint(whole).size == 300
    for end in range(len(whole)):
        with pytest.raises(InvalidNote):
            read_checkpoint(whole[:end])


def test_a_receipt_that_ends_early_is_refused() -> None:
    whole = str(receipt(12, 300)).encode()
    assert read_receipt(whole).verified(keys(1), origin=LOG).size == 300
    for end in cuts(whole):
        with pytest.raises((InvalidNote, InvalidProof, UnverifiedNote)):
            read_receipt(whole[:end]).verified(keys(1), origin=LOG)


def test_a_bundle_of_entries_that_ends_amid_one_is_refused() -> None:
    """At the end of an entry it is a shorter bundle, and the tree has another size."""
    entries = [b"e" * (400 + number) for number in range(20)]
    whole = entry_bundle(entries)
    ends = {len(entry_bundle(entries[:count])) for count in range(21)}
    assert entries_in(whole) == tuple(entries)
    for end in cuts(whole):
        if end not in ends:
            with pytest.raises(ValueError, match="in the middle"):
                entries_in(whole[:end])


def test_a_tile_that_ends_early_does_not_hold_what_is_asked_of_it() -> None:
    tile = Tile(0, 0)
    hashes = bytes(range(256)) * 32
    node = Node(0, 255)
    assert node_in(tile, hashes, node) == hashes[-32:]
    for end in cuts(hashes):
        with pytest.raises(LookupError):
            node_in(tile, hashes[:end], node)
