"""Signed notes and their keys: what the specifications give as examples, and nothing but that."""

import base64
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tlog_scales import signing, tlog

from app.ledger.note import (
    MOST_SIGNATURES,
    InvalidNote,
    Note,
    SignatureLine,
    SignatureType,
    SigningKey,
    UnverifiedNote,
    read_note,
    read_signatures,
    read_signing_key,
    read_verifier_key,
    signed,
    timestamp_of,
    verified,
)

VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
LINE = (
    "— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
)
EXAMPLE = f"This is an example message.\n\n{LINE}\n"
"""The example that C2SP signed-note gives, with its key."""

GO_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
"""The pair of keys that the documentation of Go's note package uses."""


def key(
    name: str = "log.test/a", seed: int = 1, kind: SignatureType = SignatureType.LOG
) -> SigningKey:
    return SigningKey(name, kind, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def witness(seed: int = 2, name: str = "witness.test/w") -> SigningKey:
    return key(name, seed, SignatureType.COSIGNATURE)


def test_the_example_of_the_specification_is_verified() -> None:
    note = read_note(EXAMPLE.encode())
    (line,) = verified(note, [read_verifier_key(VKEY)])
    assert note.text == "This is an example message.\n"
    assert str(line) == LINE
    assert str(note) == EXAMPLE


def test_keys_are_those_of_gos_note_package() -> None:
    """Either tool can take over the other's key."""
    secret = read_signing_key(GO_SECRET)
    assert str(secret.verifier) == GO_VKEY
    assert secret.secret() == GO_SECRET
    assert read_verifier_key(GO_VKEY) == secret.verifier


def test_the_key_of_the_go_checksum_database_is_read() -> None:
    vkey = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    assert str(read_verifier_key(vkey)) == vkey


def test_an_independent_reader_verifies_what_we_sign() -> None:
    """tlog-scales shares no code with us."""
    text = f"log.test/a\n7\n{base64.b64encode(bytes(32)).decode()}\n"
    note = signed(text, [key()]).with_signatures([witness().sign(text, at=1_700_000_000)])
    read = tlog.Checkpoint.from_text(str(note))

    assert read.serialize() == str(note)
    for signer in (key(), witness()):
        read.verify(signing.Vkey.from_string(str(signer.verifier)))


def test_an_independent_signer_is_verified_by_us() -> None:
    theirs = signing.PlainEd25519Signer("log.test/b", bytes([9]) * 32)
    text = str(tlog.Checkpoint.make_signed("log.test/b", 3, bytes(32), [theirs]).serialize())
    vkey = theirs.vkey.serialize()  # type: ignore[no-untyped-call]
    assert verified(read_note(text.encode()), [read_verifier_key(vkey)])


def test_a_cosignature_says_when_it_was_given() -> None:
    """Its bytes are a time and a signature over that time, two fixed words, and the text."""
    line = witness().sign("text\n", at=1_679_315_147)
    assert timestamp_of(line) == 1_679_315_147
    message = b"cosignature/v1\ntime 1679315147\ntext\n"
    witness().private_key.public_key().verify(line.signature[8:], message)


def test_a_cosignature_of_another_time_is_none() -> None:
    line = witness().sign("text\n", at=5)
    moved = SignatureLine(line.name, line.key_id, (6).to_bytes(8, "big") + line.signature[8:])
    beyond = SignatureLine(line.name, line.key_id, (2**63).to_bytes(8, "big") + line.signature[8:])
    assert witness().verifier.has_signed("text\n", line)
    assert not witness().verifier.has_signed("text\n", moved)
    assert not witness().verifier.has_signed("text\n", beyond)


@pytest.mark.parametrize("at", [None, -1, 2**63])
def test_a_cosignature_needs_a_time_that_there_is(at: int | None) -> None:
    with pytest.raises(ValueError):
        witness().sign("text\n", at=at)


def test_one_key_cannot_pass_for_another_type() -> None:
    """The id holds the type, so a log's signature is never read as a cosignature."""
    log, cosigner = key("same", 1), key("same", 1, SignatureType.COSIGNATURE)
    assert log.verifier.key_id != cosigner.verifier.key_id
    with pytest.raises(UnverifiedNote):
        verified(signed("text\n", [log]), [cosigner.verifier])


def test_lines_by_unknown_keys_are_kept_and_mean_nothing() -> None:
    """A known name with another id, and a known id under another name, are unknown keys."""
    mine = key().verifier
    others = (
        SignatureLine(mine.name, bytes(4), bytes(64)),
        SignatureLine("else.test", mine.key_id, bytes(64)),
        SignatureLine("grease.test", b"abcd", b"x"),
    )
    note = signed("text\n", [key()]).with_signatures(others)
    assert verified(read_note(str(note).encode()), [mine]) == note.signatures[:1]
    assert str(read_note(str(note).encode())) == str(note)


def test_a_false_line_by_a_known_key_spoils_the_note() -> None:
    """Even beside a true one: nobody writes that by accident."""
    mine = key().verifier
    false = SignatureLine(mine.name, mine.key_id, bytes(64))
    note = signed("text\n", [key()]).with_signatures([false])
    with pytest.raises(UnverifiedNote, match=r"log\.test/a"):
        verified(note, [mine])


def test_a_note_without_a_known_signature_is_refused() -> None:
    with pytest.raises(UnverifiedNote):
        verified(signed("text\n", [key()]), [key(seed=3).verifier])
    with pytest.raises(UnverifiedNote):
        verified(signed("text\n", [key()]), [])


@given(st.data())
def test_no_byte_of_a_signed_note_can_be_changed(data: st.DataObject) -> None:
    """It is then no note, or unverified, or one whose other lines changed: never another text."""
    whole = str(signed("log.test/a\n12\nroot\n", [key()])).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != whole[at]))
    changed = whole[:at] + bytes([byte]) + whole[at + 1 :]
    with pytest.raises((InvalidNote, UnverifiedNote)):
        verified(read_note(changed), [key().verifier])


@given(st.binary(max_size=200))
def test_whatever_is_read_as_a_note_is_written_the_same(data: bytes) -> None:
    """One note has one spelling."""
    try:
        note = read_note(data)
    except InvalidNote:
        return
    assert str(note).encode() == data


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        f"text\n\n{LINE}",
        f"text\n{LINE}\n",
        f"\n\n{LINE}\n",
        f"text\r\n\n{LINE}\n",
        f"te\0xt\n\n{LINE}\n",
        f"text\n\n{LINE}\n{LINE[1:]}\n",
        f"text\n\n{LINE}\n\n",
        f"text\n\n{LINE} \n",
        f"text\n\n{LINE}=\n",
        f"text\n\n{LINE[:-2]}N=\n",
        "text\n\n— name UQ2QOg==\n",
        "text\n\n—  Uw2QOkn8srV1\n",
        "text\n\n— na+me Uw2QOkn8srV1\n",
        "text\n\n— na\u2003me Uw2QOkn8srV1\n",
        "text\n\n- name Uw2QOkn8srV1\n",
        "text\n\n— name Uw2QOkn8\nsrV1\n",
        "text\n\n" + f"{LINE}\n" * (MOST_SIGNATURES + 1),
        "x" * 1_000_000 + f"\n\n{LINE}\n",
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(InvalidNote):
        read_note(note.encode())


def test_a_note_is_utf_8() -> None:
    with pytest.raises(InvalidNote):
        read_note(b"te\xffxt\n\n" + LINE.encode() + b"\n")


def test_as_many_signatures_as_a_reader_must_accept_are_accepted() -> None:
    assert len(read_signatures(f"{LINE}\n" * 16)) == 16


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "a",
        "a+b",
        VKEY.replace("530d903a", "530d903b"),
        VKEY.replace("530d903a", "530D903A"),
        VKEY.replace("foo", "fop"),
        VKEY.replace("example.com/foo", ""),
        VKEY.replace("example.com/foo", "a b"),
        VKEY + "A",
        VKEY[:-4],
        VKEY.replace("+Aek", "+Cek"),
        VKEY.replace("+Aek", "+Bek"),
        "example.com/foo+530d903a+",
    ],
)
def test_what_is_no_key_is_refused(vkey: str) -> None:
    with pytest.raises(InvalidNote):
        read_verifier_key(vkey)


def test_a_refused_signing_key_is_not_shown() -> None:
    """What is said of it ends in a log."""
    material = GO_SECRET.rpartition("+")[2]
    for damaged in (GO_SECRET[:-4], GO_SECRET.replace("c74f20a3", "c74f20a4"), GO_SECRET[12:]):
        with pytest.raises(InvalidNote) as refused:
            read_signing_key(damaged)
        assert material[:12] not in str(refused.value)
        assert material[:12] not in repr(refused.value.__cause__)
    assert material[:12] not in repr(read_signing_key(GO_SECRET))


def test_signatures_are_added_once() -> None:
    note = signed("text\n", [key()])
    assert note.with_signatures(note.signatures) == note
    lines = [witness(seed, f"w{seed}").sign("text\n", at=1) for seed in (3, 4)]
    both = note.with_signatures(lines).with_signatures(lines[:1])
    assert all(one != other for one, other in pairwise(both.signatures))
    assert both.signatures == (*note.signatures, *lines)


def test_only_a_text_that_a_note_can_have_is_signed() -> None:
    for text in ("no newline", "", "control\x01\n"):
        with pytest.raises(InvalidNote):
            signed(text, [key()])
    with pytest.raises(InvalidNote):
        signed("text\n", [])
    assert isinstance(signed("two\n\nparts\n", [key()]), Note)
