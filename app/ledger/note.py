"""Signed notes: text with signature lines under it, and the keys that make and check them.

The format is C2SP signed-note; of its signature types we know two, both of Ed25519: a plain
signature over the text (a log's own), and a cosignature, which says when a witness saw it (C2SP
tlog-cosignature). Lines by keys that we do not know mean nothing, and are kept as they came: so a
log can change its key, and gain witnesses, under readers that were never told.

A note says nothing before `verified` has passed it. Everything is read strictly: of two spellings
of one note only one is accepted, so that notes can be compared as text.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MOST_BYTES: Final = 1_000_000
MOST_SIGNATURES: Final = 100
LATEST_TIMESTAMP: Final = 2**63 - 1

_KEY_ID_BYTES: Final = 4
_PUBLIC_KEY_BYTES: Final = 32
_TIMESTAMP_BYTES: Final = 8
_SIGNATURE_BYTES: Final = 64
_LINE_BEGINS: Final = "— "
_SECRET_BEGINS: Final = "PRIVATE+KEY+"  # noqa: S105 - what every one of them begins with
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
"""What stands in an argument of a command for a byte that is not UTF-8."""


class InvalidNote(ValueError):
    """What should be a note, a line of one, or a key, is none; `str()` of it says why."""


class UnverifiedNote(Exception):
    """No key that we know has signed the note, or one of them has not signed this text."""


class SignatureType(IntEnum):
    """The types of signature that we make and check, by their numbers in C2SP signed-note."""

    LOG = 0x01
    """Ed25519 over the text."""
    COSIGNATURE = 0x04
    """Ed25519 over the text and the time at which a witness saw it."""


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One line under a note: whose key, and the bytes that it gave."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{_LINE_BEGINS}{self.name} {write_base64(self.key_id + self.signature)}"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends in a newline, and the lines that sign it. Nothing is verified yet."""

    text: str
    signatures: tuple[SignatureLine, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(f"{line}\n" for line in self.signatures)

    def with_signatures(self, more: Iterable[SignatureLine]) -> "Note":
        """The same text with *more* lines under it, each of them once."""
        return Note(self.text, tuple(dict.fromkeys((*self.signatures, *more))))


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name: what a reader of notes trusts, and hands on as a vkey."""

    name: str
    type: SignatureType
    public_key: bytes

    def __post_init__(self) -> None:
        refuse_unusable_name(self.name)
        if len(self.public_key) != _PUBLIC_KEY_BYTES:
            raise InvalidNote(f"an Ed25519 public key has {_PUBLIC_KEY_BYTES} bytes")

    def __str__(self) -> str:
        material = bytes([self.type]) + self.public_key
        return f"{self.name}+{self.key_id.hex()}+{write_base64(material)}"

    @property
    def key_id(self) -> bytes:
        """Four bytes that say which key of that name it is; not enough to trust it by."""
        named = self.name.encode() + b"\n" + bytes([self.type]) + self.public_key
        return hashlib.sha256(named).digest()[:_KEY_ID_BYTES]

    def made(self, line: SignatureLine) -> bool:
        """Whether *line* says that it is by this key. It may lie."""
        return (line.name, line.key_id) == (self.name, self.key_id)

    def has_signed(self, text: str, line: SignatureLine) -> bool:
        """Whether this key made *line*'s signature for *text*."""
        signature, message = line.signature, text.encode()
        if self.type is SignatureType.COSIGNATURE:
            if len(signature) != _TIMESTAMP_BYTES + _SIGNATURE_BYTES:
                return False
            at, signature = timestamp_of(line), signature[_TIMESTAMP_BYTES:]
            if at > LATEST_TIMESTAMP:
                return False
            message = _cosigned(text, at)
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its name. It is written in the form that Go's note package reads."""

    name: str
    type: SignatureType
    private_key: Ed25519PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        refuse_unusable_name(self.name)

    @property
    def verifier(self) -> VerifierKey:
        """What checks this key's signatures."""
        return VerifierKey(self.name, self.type, self.private_key.public_key().public_bytes_raw())

    def secret(self) -> str:
        """The key as text, to be kept where nobody else can read it."""
        material = bytes([self.type]) + self.private_key.private_bytes_raw()
        return f"{_SECRET_BEGINS}{self.name}+{self.verifier.key_id.hex()}+{write_base64(material)}"

    def sign(self, text: str, *, at: int | None = None) -> SignatureLine:
        """The line that this key puts under *text*; *at*, for a cosignature, in seconds since 1970."""
        if self.type is SignatureType.COSIGNATURE:
            if at is None or not 0 <= at <= LATEST_TIMESTAMP:
                raise ValueError("a cosignature says when it was given")
            stamp = at.to_bytes(_TIMESTAMP_BYTES, "big")
            signature = stamp + self.private_key.sign(_cosigned(text, at))
        else:
            signature = self.private_key.sign(text.encode())
        return SignatureLine(self.name, self.verifier.key_id, signature)


def _cosigned(text: str, at: int) -> bytes:
    """What a cosignature is made over. Its first line keeps it apart from a log's own signature."""
    return f"cosignature/v1\ntime {at}\n{text}".encode()


def timestamp_of(line: SignatureLine) -> int:
    """When a cosignature says that it was given, in seconds since 1970. Verify it first."""
    return int.from_bytes(line.signature[:_TIMESTAMP_BYTES], "big")


def signed(text: str, keys: Iterable[SigningKey]) -> Note:
    """*text* as a note, signed by each of *keys*; the text must be one that a note may have."""
    return read_note(str(Note(text, tuple(key.sign(text) for key in keys))).encode())


def verified(note: Note, keys: Iterable[VerifierKey]) -> tuple[SignatureLine, ...]:
    """The lines under *note* by *keys*, which have all signed it; at least one.

    Raises `UnverifiedNote` where there is none, and where a line that names one of the keys is
    not by it: whoever made such a note means no good.
    """
    known = tuple(keys)
    good: dict[SignatureLine, None] = {}
    for line in note.signatures:
        for key in known:
            if not key.made(line):
                continue
            if not key.has_signed(note.text, line):
                raise UnverifiedNote(f"the signature by `{line.name}` is not one of this text")
            good[line] = None
    if not good:
        raise UnverifiedNote("no key that is known has signed it")
    return tuple(good)


# --- Reading ------------------------------------------------------------------------------------


def read_note(data: bytes) -> Note:
    """The note that *data* is, with nothing verified. Raises `InvalidNote`."""
    if len(data) > MOST_BYTES:
        raise InvalidNote(f"a note has at most {MOST_BYTES} bytes")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidNote("a note is UTF-8") from error
    if _CONTROL.search(whole):
        raise InvalidNote("a note has no control characters but newlines")
    # The last empty line parts the text from the signatures: a text may have empty lines too.
    text, parted, lines = whole.rpartition("\n\n")
    if not parted or not text or not lines:
        raise InvalidNote("a note is a text, an empty line, and at least one signature")
    return Note(text + "\n", read_signatures(lines))


def read_signatures(lines: str) -> tuple[SignatureLine, ...]:
    """The signature lines that *lines* is, each of which ends in a newline."""
    if not lines.endswith("\n"):
        raise InvalidNote("the last signature line does not end")
    each = lines[:-1].split("\n")
    if len(each) > MOST_SIGNATURES:
        raise InvalidNote(f"a note has at most {MOST_SIGNATURES} signatures")
    return tuple(map(_read_line, each))


def _read_line(line: str) -> SignatureLine:
    name, parted, encoded = line.removeprefix(_LINE_BEGINS).partition(" ")
    if not line.startswith(_LINE_BEGINS) or not parted:
        raise InvalidNote(f"`{line[:80]}` is not a signature line")
    refuse_unusable_name(name)
    decoded = read_base64(encoded)
    if len(decoded) <= _KEY_ID_BYTES:
        raise InvalidNote(f"the signature by `{name}` is empty")
    return SignatureLine(name, decoded[:_KEY_ID_BYTES], decoded[_KEY_ID_BYTES:])


def read_verifier_key(vkey: str) -> VerifierKey:
    """The key that *vkey* is, `name+key id+key`. Raises `InvalidNote`."""
    name, key_id, type_, material = _read_key(vkey)
    key = VerifierKey(name, type_, material)
    if key.key_id.hex() != key_id:
        raise InvalidNote(f"`{vkey}` is no verifier key: its id is not that of its name and key")
    return key


def read_signing_key(secret: str) -> SigningKey:
    """The private key that `SigningKey.secret` wrote. Raises `InvalidNote`, without the key."""
    if not secret.startswith(_SECRET_BEGINS):
        raise InvalidNote(f"a signing key begins with `{_SECRET_BEGINS}`")
    try:
        name, key_id, type_, material = _read_key(secret.removeprefix(_SECRET_BEGINS))
        key = SigningKey(name, type_, Ed25519PrivateKey.from_private_bytes(material))
    except ValueError:
        raise InvalidNote("this is not a signing key") from None
    if key.verifier.key_id.hex() != key_id:
        raise InvalidNote("a signing key's id is not that of its name and key")
    return key


def _read_key(text: str) -> tuple[str, str, SignatureType, bytes]:
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise InvalidNote("a key has a name, an id and key material, with `+` between them")
    name, key_id, encoded = parts
    refuse_unusable_name(name)
    material = read_base64(encoded)
    known = {int(one) for one in SignatureType}
    if not material or material[0] not in known:
        raise InvalidNote(f"the key of `{name}` is of a type that is not known here")
    return name, key_id, SignatureType(material[0]), material[1:]


def refuse_unusable_name(name: str) -> None:
    """Raise `InvalidNote` where a key cannot have that name."""
    if _SURROGATE.search(name):
        raise InvalidNote("what names a key is UTF-8")
    if not name or "+" in name or any(one.isspace() for one in name) or _CONTROL.search(name):
        raise InvalidNote(f"`{name}` cannot name a key: it has no spaces and no `+`")


def write_base64(data: bytes) -> str:
    """*data* in the base64 of RFC 4648 §4."""
    return base64.b64encode(data).decode("ascii")


def read_base64(text: str) -> bytes:
    """The bytes that *text* is, in the one spelling that `write_base64` gives."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidNote(f"`{text[:80]}` is not base64") from None
    if write_base64(data) != text:
        raise InvalidNote(f"`{text[:80]}` is not base64 as it is written")
    return data
