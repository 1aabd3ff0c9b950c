"""DSSE envelopes that others signed: believed only as far as a known key has signed them.

What was verified is the payload's very bytes, and nothing but these is read afterwards (DSSE, protocol
1.0.2). An envelope's `keyid` is a hint by who wrote it; a signature is named by the key that verifies it.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from app.canonical import sha256_hex
from app.decoding import decode_foreign_json
from app.errors import Fault, InvalidDocument
from app.ledger.statement import pae

MOST_SIGNATURES: Final = 16
_PEM_BEGINS: Final = "-----BEGIN PUBLIC KEY-----"
_PEM_ENDS: Final = "-----END PUBLIC KEY-----"


class NotAPublicKey(ValueError):
    """The text is not an Ed25519 or ECDSA P-256 public key in PEM."""


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A public key whose signatures are believed."""

    public: Ed25519PublicKey | EllipticCurvePublicKey

    @property
    def id(self) -> str:
        """The SHA-256 of the key as DER, in hexadecimal."""
        return sha256_hex(self.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature over *message* is the key's."""
        try:
            if isinstance(self.public, Ed25519PublicKey):
                self.public.verify(signature, message)
            else:
                self.public.verify(signature, message, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def read_signer_keys(text: str) -> tuple[SignerKey, ...]:
    """The public keys in PEM, one after the other. Raises `NotAPublicKey`, also where there is none."""
    found: list[SignerKey] = []
    for part in text.split(_PEM_BEGINS)[1:]:
        pem = f"{_PEM_BEGINS}{part.partition(_PEM_ENDS)[0]}{_PEM_ENDS}\n"
        try:
            public = load_pem_public_key(pem.encode())
        except (ValueError, TypeError, UnsupportedAlgorithm):
            public = None
        if isinstance(public, Ed25519PublicKey):
            found.append(SignerKey(public))
        elif isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
            found.append(SignerKey(public))
        else:
            raise NotAPublicKey("it is not an Ed25519 or ECDSA P-256 public key in PEM")
    if not found:
        raise NotAPublicKey("it holds no public key in PEM")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Opened:
    """What an envelope holds, the key that signed it, and the digest of the envelope's own bytes."""

    payload_type: str
    payload: bytes
    key: SignerKey
    sha256: str


def is_envelope(data: bytes) -> bool:
    """Whether the bytes look like a DSSE envelope; a log that quotes one does not begin with it."""
    if not (data.lstrip()[:1] == b"{" and b'"payloadType"' in data and b'"signatures"' in data):
        return False
    try:
        value = decode_foreign_json(data, max_bytes=len(data))
    except InvalidDocument:
        return False
    return isinstance(value, dict) and {"payload", "payloadType", "signatures"} <= set(value)


def open_envelope(data: bytes, keys: Sequence[SignerKey]) -> Opened:
    """What one of *keys* has signed. Raises `InvalidDocument`: no envelope, or signed by none of them."""
    value: Any = decode_foreign_json(data, max_bytes=len(data))
    try:
        payload_type, payload = value["payloadType"], _base64(value["payload"])
        signatures = [_base64(signature["sig"]) for signature in value["signatures"]]
    except (KeyError, TypeError, ValueError):
        raise _refused("undecodable", "is no DSSE envelope") from None
    if not isinstance(payload_type, str):
        raise _refused("undecodable", "is no DSSE envelope")
    if not keys:
        raise _refused("no-key", "is signed, and no key was given to verify it with")
    if not signatures or len(signatures) > MOST_SIGNATURES:
        raise _refused("unverified", f"holds no signature, or more than {MOST_SIGNATURES}")
    message = pae(payload, payload_type)
    for key in keys:
        if any(key.has_signed(message, signature) for signature in signatures):
            return Opened(payload_type, payload, key, sha256_hex(data))
    raise _refused("unverified", "was signed by none of the given keys, or changed since")


def _base64(text: Any) -> bytes:
    """Standard or URL-safe base64, as the protocol has it."""
    if not isinstance(text, str):
        raise ValueError("not text")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _refused(code: str, message: str) -> InvalidDocument:
    return InvalidDocument((Fault("", code, f"the envelope {message}"),))
