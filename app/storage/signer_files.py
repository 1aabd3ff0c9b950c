"""What the signer keeps in files, out of reach of whoever rules over the database.

Its keys, and its last word: the largest checkpoint that it has signed, or seen signed. A database
that does not extend that one was put back, or changed, and is not signed again.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.ledger.note import (
    InvalidNote,
    Note,
    SignatureType,
    SigningKey,
    VerifierKey,
    read_note,
    read_signing_key,
    read_verifier_key,
)
from app.storage.secret_files import replace_file

_RETIRED: Final = "retired "


class UnusableSigner(Exception):
    """A key, or a last word, that the signer cannot work with; `str()` says which and why."""


@dataclass(frozen=True, slots=True)
class LedgerKeys:
    """The keys that sign, and those that sign no more, which the log then says on record."""

    sign: tuple[SigningKey, ...] = ()
    retired: frozenset[VerifierKey] = frozenset()


def new_ledger_key(log: str) -> bytes:
    """The text of a file with one new key for the log of that name."""
    key = SigningKey(log, SignatureType.LOG, Ed25519PrivateKey.generate())
    return f"{key.secret()}\n".encode()


def read_ledger_keys(text: str, log: str) -> LedgerKeys:
    """The keys in *text*: a signing key in each line, or `retired` and the verifier key of one
    that signs no more. Empty lines, and what stands after `#`, say nothing.

    Raises `UnusableSigner`, without any key.
    """
    sign: list[SigningKey] = []
    retired: set[VerifierKey] = set()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            if line.startswith(_RETIRED):
                retired.add(read_verifier_key(line.removeprefix(_RETIRED).strip()))
            else:
                sign.append(read_signing_key(line))
        except InvalidNote as fault:
            raise UnusableSigner(f"line {number} of the ledger's keys: {fault}") from None
    for key in (*(one.verifier for one in sign), *retired):
        if key.name != log or key.type is not SignatureType.LOG:
            raise UnusableSigner(f"`{key}` is no key of the log `{log}`")
    if not sign:
        raise UnusableSigner("there is no signing key among the ledger's keys")
    if {one.verifier for one in sign} & retired:
        raise UnusableSigner("one of the ledger's keys both signs and is retired")
    return LedgerKeys(tuple(sign), frozenset(retired))


class LastWord:
    """The file with the signer's last word. It is read anew each time: several processes of one
    machine may share it, one after another.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # A write that the disk holds up must not come after a later one.
        self._writing = threading.Lock()

    def __str__(self) -> str:
        return str(self._path)

    def read(self) -> Note | None:
        """The last checkpoint; `None`: there is no such file.

        Raises `UnusableSigner` where the file is something else, `OSError` where it cannot be read.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return read_note(data)
        except InvalidNote as fault:
            raise UnusableSigner(f"`{self._path}` is no checkpoint: {fault}") from None

    def keep(self, note: Note) -> None:
        """Let *note* be the last word: durable, and at no instant half of it. Raises `OSError`."""
        with self._writing:
            replace_file(self._path, str(note).encode())
