"""Checkpoints, the keys that follow one another, and receipts."""

import base64
import hashlib
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tlog_scales import tlog

from app.ledger.checkpoint import (
    Checkpoint,
    KeyStatement,
    Receipt,
    follow,
    read_checkpoint,
    read_key_statement,
    read_receipt,
    read_size,
    verified_checkpoint,
    vouched_for,
)
from app.ledger.merkle import (
    Frontier,
    InvalidProof,
    inclusion_ranges,
    leaf_hash,
    range_hash,
)
from app.ledger.note import (
    InvalidNote,
    Note,
    SignatureType,
    SigningKey,
    UnverifiedNote,
    VerifierKey,
    read_note,
)

LOG = "log.test/a"
ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
EXAMPLE = f"example.com/behind-the-sofa\n20852163\n{ROOT}\n"
"""The text that C2SP tlog-checkpoint gives as its example."""


def key(seed: int = 1, name: str = LOG, kind: SignatureType = SignatureType.LOG) -> SigningKey:
    return SigningKey(name, kind, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def test_the_example_of_the_specification_is_read() -> None:
    read = read_checkpoint(EXAMPLE)
    assert (read.origin, read.size) == ("example.com/behind-the-sofa", 20852163)
    assert read.root == base64.b64decode(ROOT)
    assert str(read) == EXAMPLE


def test_an_independent_reader_reads_what_we_write() -> None:
    note = Checkpoint(LOG, 7, hashlib.sha256(b"root").digest()).signed([key()])
    theirs = tlog.Checkpoint.from_text(str(note))
    assert (theirs.origin, theirs.size) == (LOG, 7)
    assert theirs.root_hash == hashlib.sha256(b"root").digest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"o\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"o\n\n{ROOT}\n",
        f"o\n01\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n 1\n{ROOT}\n",
        f"o\n1.0\n{ROOT}\n",
        f"o\n\N{ARABIC-INDIC DIGIT ONE}\n{ROOT}\n",
        f"o\n9223372036854775808\n{ROOT}\n",
        f"o\n{'1' * 40}\n{ROOT}\n",
        f"o\n1\n{ROOT[:-1]}\n",
        f"o\n1\n{ROOT[4:]}\n",
        f"o\n1\n{ROOT[:-2]}J=\n",
        f"o\n1\n{ROOT}\nan extension\n",
        f"o\n1\n{ROOT}\n\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidNote):
        read_checkpoint(text)


@given(st.text(max_size=40))
def test_a_number_of_entries_has_one_spelling(text: str) -> None:
    try:
        size = read_size(text)
    except InvalidNote:
        return
    assert str(size) == text


def test_a_checkpoint_is_of_the_log_that_signed_it() -> None:
    note = Checkpoint(LOG, 1, bytes(32)).signed([key()])
    assert verified_checkpoint(note, [key().verifier], origin=LOG).size == 1
    of_another = Checkpoint("log.test/b", 1, bytes(32)).signed([key()])
    with pytest.raises(InvalidNote, match="not of"):
        verified_checkpoint(of_another, [key().verifier], origin=LOG)
    with pytest.raises(UnverifiedNote):
        verified_checkpoint(note, [key().verifier], origin="log.test/b")


def test_no_witness_speaks_for_the_log() -> None:
    """Not even one that has the log's name."""
    witness = key(kind=SignatureType.COSIGNATURE)
    text = str(Checkpoint(LOG, 1, bytes(32)))
    with pytest.raises(UnverifiedNote):
        verified_checkpoint(Note(text, (witness.sign(text, at=1),)), [witness.verifier], origin=LOG)


# --- Keys that follow one another ---------------------------------------------------------------


def begins(seed: int, *by: int, name: str = LOG, size: int = 5) -> Note:
    statement = KeyStatement(key(seed, name).verifier, True, size)
    return statement.signed([key(one, name) for one in by])


def ends(seed: int, *by: int) -> Note:
    return KeyStatement(key(seed).verifier, False, 9).signed([key(one) for one in by])


def keys(*seeds: int) -> set[VerifierKey]:
    return {key(one).verifier for one in seeds}


def test_a_reader_of_the_first_key_follows_to_the_last() -> None:
    history = [begins(1, 1), begins(2, 1), ends(1, 2), begins(3, 2), ends(2, 3)]
    assert vouched_for(keys(1), history[:1]) == keys(1)
    assert vouched_for(keys(1), history[:2]) == keys(1, 2)
    assert vouched_for(keys(1), history) == keys(3)
    assert vouched_for(keys(3), history) == keys(3)


def test_nobody_but_the_log_vouches_for_a_key() -> None:
    """A key that vouches for itself, or is vouched for by one that has ended, counts nothing."""
    assert vouched_for(keys(1), [begins(4, 4)]) == keys(1)
    assert vouched_for(keys(1), [begins(2, 1), ends(1, 2), begins(4, 1)]) == keys(2)
    assert vouched_for(keys(1), [ends(1, 4)]) == keys(1)
    assert vouched_for(keys(1), [begins(4, 1, name="log.test/b")]) == keys(1)


def test_a_key_that_ended_signs_no_more_whatever_is_left_out() -> None:
    """Nor where one who signs still vouched for it once."""
    history = [begins(1, 1), begins(2, 1), begins(3, 2), ends(3, 2)]
    found = follow(keys(1), history)
    assert found.signing == keys(1, 2)
    assert found.ended == keys(3)
    assert follow(keys(2), history[:3], ended=keys(3)).signing == keys(2)
    assert follow(keys(1, 3), [], ended=keys(3)).signing == keys(1)
    assert follow(keys(1), [*history, begins(3, 2)]).signing == keys(1, 2)


def test_a_changed_statement_counts_nothing() -> None:
    for note in (begins(2, 1), ends(1, 1)):
        for old, new in (("begins 5", "begins 6"), ("ends 9", "ends 8")):
            changed = Note(note.text.replace(old, new), note.signatures)
            if changed != note:
                assert vouched_for(keys(1), [changed]) == keys(1)


def test_a_statement_is_read_as_it_was_written() -> None:
    for note in (begins(2, 1), ends(1, 2)):
        assert str(read_key_statement(note.text)) == note.text


def test_no_text_is_both_a_statement_and_a_checkpoint() -> None:
    """Else what was signed as the one could be shown as the other."""
    with pytest.raises(InvalidNote):
        read_checkpoint(begins(2, 1).text)
    with pytest.raises(InvalidNote):
        read_key_statement(str(Checkpoint(LOG, 1, bytes(32))))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("begins", "continues"),
        ("begins 5", "begins"),
        (LOG + "\n", "log.test/b\n"),
        ("v1", "v2"),
        ("5\n", "5\n\n"),
    ],
)
def test_what_is_no_statement_is_refused(old: str, new: str) -> None:
    with pytest.raises(InvalidNote):
        read_key_statement(begins(2, 1).text.replace(old, new, 1))


def test_no_statement_makes_a_witness_of_a_log() -> None:
    witness = key(kind=SignatureType.COSIGNATURE).verifier
    with pytest.raises(InvalidNote):
        read_key_statement(str(KeyStatement(witness, True, 1)))


# --- Receipts -----------------------------------------------------------------------------------


def receipt(index: int, size: int) -> Receipt:
    entries = [f"entry {number}".encode() for number in range(size)]
    frontier, nodes = Frontier().extended(map(leaf_hash, entries))
    proof = tuple(range_hash(one, nodes) for one in inclusion_ranges(index, size))
    note = Checkpoint(LOG, size, frontier.root).signed([key()])
    return Receipt(entries[index], index, proof, note)


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 2), (4, 5), (12, 21), (255, 257)])
def test_a_receipt_shows_that_its_entry_is_in_the_log(index: int, size: int) -> None:
    read = read_receipt(str(receipt(index, size)).encode())
    assert read == receipt(index, size)
    assert read.verified(keys(1), origin=LOG).size == size


@given(st.data())
def test_no_byte_of_a_receipt_can_be_changed(data: st.DataObject) -> None:
    whole = str(receipt(3, 6)).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = (
        whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :]
    )
    with pytest.raises((InvalidNote, InvalidProof, UnverifiedNote)):
        read_receipt(changed).verified(keys(1), origin=LOG)


def test_a_receipt_with_a_line_more_or_less_is_refused() -> None:
    lines = str(receipt(12, 21)).split("\n")
    for at, (line, _) in enumerate(pairwise(lines)):
        for changed in ([*lines[:at], *lines[at + 1 :]], [*lines[:at], line, *lines[at:]]):
            text = "\n".join(changed).encode()
            # The same signature twice says nothing that it does not say once.
            if read_or_none(text) == receipt(12, 21):
                continue
            with pytest.raises((InvalidNote, InvalidProof, UnverifiedNote)):
                read_receipt(text).verified(keys(1), origin=LOG)


def read_or_none(text: bytes) -> Receipt | None:
    try:
        read = read_receipt(text)
    except (InvalidNote, InvalidProof):
        return None
    note = Note(read.note.text, tuple(dict.fromkeys(read.note.signatures)))
    return Receipt(read.entry, read.index, read.proof, note)


def test_a_receipt_needs_its_entry() -> None:
    """`extra` may be left out in a proof of another log; ours says what it proves."""
    lines = str(receipt(3, 6)).split("\n")
    with pytest.raises(InvalidNote, match="entry"):
        read_receipt("\n".join([lines[0], *lines[2:]]).encode())


def test_a_receipt_may_carry_witnesses() -> None:
    base = receipt(3, 6)
    witness = key(7, "witness.test", SignatureType.COSIGNATURE)
    note = base.note.with_signatures([witness.sign(base.note.text, at=1_700_000_000)])
    seen = Receipt(base.entry, base.index, base.proof, note)
    assert read_receipt(str(seen).encode()).verified(keys(1), origin=LOG).size == 6
    assert read_note(str(note).encode()) == note
