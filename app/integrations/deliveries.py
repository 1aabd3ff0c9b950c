"""What others send: read for what we know of it, and only after its signature was seen to be right.

Their payloads grow fields at any time, so unknown ones are passed over here, unlike in our own API. The
bytes are still read by the one strict decoder, and it is their digest that is kept.
"""

import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from app.decoding import decode_json
from app.errors import NotFromSender
from app.integrations.bindings import SecretFile
from app.parsing import parse
from app.vocabulary import JSON

T = TypeVar("T")

FRESH_FOR: Final = timedelta(minutes=5)
"""How old, or how far ahead, the time may be that a signature is of."""


class ForeignDocument(BaseModel):
    """The base of every frozen type that is read from another's payload: what we do not know of it is
    passed over.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")


def read_foreign(kind: TypeAdapter[T], body: bytes) -> T:
    """*body*, which is JSON, as *kind*. Raises `UndecodableDocument` and `InvalidDocument`."""
    return parse(kind, decode_json(body), JSON)


def refuse_unsigned(secrets: Iterable[SecretFile], message: bytes, given: Iterable[bytes]) -> None:
    """Raise `NotFromSender` unless one of the *given* signatures is the HMAC-SHA256 of *message* by one
    of the *secrets*; all are compared, and each in constant time.
    """
    signatures = list(given)
    right = False
    for secret in secrets:
        expected = hmac.digest(secret.read(), message, hashlib.sha256)
        for signature in signatures:
            right |= hmac.compare_digest(signature, expected)
    if not right:
        raise NotFromSender("signature")


def refuse_stale(signed_at: datetime, now: datetime, fresh_for: timedelta = FRESH_FOR) -> None:
    """Raise `NotFromSender` where what was signed is of another time than now."""
    if abs(now - signed_at) > fresh_for:
        raise NotFromSender("stale")
