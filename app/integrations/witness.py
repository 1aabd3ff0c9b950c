"""Witnesses: others who put their signature under a checkpoint once they have seen that it extends
all that they saw before (C2SP tlog-witness).

A witness is believed in one thing only: its own signature, which is verified here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from app.ledger.checkpoint import read_size
from app.ledger.note import (
    InvalidNote,
    Note,
    SignatureLine,
    SignatureType,
    UnverifiedNote,
    VerifierKey,
    read_signatures,
    read_verifier_key,
    verified,
    write_base64,
)

SECONDS: Final = 5.0
"""How long a witness may take in all."""
MOST_BYTES: Final = 65_536


class NoCosignature(Exception):
    """The witness did not cosign, or cannot be reached; `str()` of it says why."""


@dataclass(eq=False)
class OtherSize(NoCosignature):
    """The last checkpoint that the witness cosigned has another size than it was told."""

    size: int

    def __str__(self) -> str:
        return f"the witness has cosigned {self.size} entries"


@dataclass(frozen=True, slots=True)
class Witness:
    """One witness: its key, and the prefix of the address where checkpoints are submitted."""

    key: VerifierKey
    url: str

    async def cosign(
        self, http: httpx.AsyncClient, old: int, proof: Sequence[bytes], note: Note
    ) -> SignatureLine:
        """The witness's line under *note*; *proof* shows that it extends *old* entries, which the
        witness has cosigned before.

        Raises `OtherSize` where it has not, and `NoCosignature`.
        """
        lines = [f"old {old}", *map(write_base64, proof)]
        body = "".join(f"{line}\n" for line in lines) + f"\n{note}"
        status, answer = await self._post(http, body)
        try:
            if status == httpx.codes.CONFLICT:
                raise OtherSize(read_size(answer.removesuffix("\n")))
            if status != httpx.codes.OK:
                raise NoCosignature(f"the witness answered {status}")
            cosigned = verified(Note(note.text, read_signatures(answer)), [self.key])
        except InvalidNote as fault:
            raise NoCosignature(f"the witness's answer cannot be read: {fault}") from fault
        except UnverifiedNote as fault:
            raise NoCosignature(f"the witness's answer is not by its key: {fault}") from fault
        return cosigned[0]

    async def _post(self, http: httpx.AsyncClient, body: str) -> tuple[int, str]:
        """Status and text of the answer, which may be neither long nor slow."""
        address = f"{self.url.rstrip('/')}/add-checkpoint"
        read = bytearray()
        try:
            async with http.stream(
                "POST", address, content=body.encode(), timeout=SECONDS
            ) as response:
                async for some in response.aiter_bytes():
                    read += some
                    if len(read) > MOST_BYTES:
                        raise NoCosignature("the witness's answer is too long")
                return response.status_code, read.decode("utf-8", "replace")
        except httpx.HTTPError as error:
            raise NoCosignature(f"{type(error).__name__}: {error}") from error


def read_witnesses(text: str) -> tuple[Witness, ...]:
    """The witnesses in *text*: the key and the address of each, with white space between all.

    Raises `InvalidNote`.
    """
    words = text.split()
    if len(words) % 2:
        raise InvalidNote("a witness is a verifier key and an address")
    witnesses = []
    for vkey, url in zip(words[::2], words[1::2], strict=True):
        key = read_verifier_key(vkey)
        if key.type is not SignatureType.COSIGNATURE:
            raise InvalidNote(f"`{vkey}` is not the key of a witness")
        if not url.startswith(("https://", "http://")):
            raise InvalidNote(f"`{url}` is not an address of a witness")
        witnesses.append(Witness(key, url))
    if len({one.key for one in witnesses}) < len(witnesses):
        raise InvalidNote("a witness is named twice")
    return tuple(witnesses)
