"""A determination as a signed statement that deployment tools check by themselves.

The statement is an in-toto Statement v1 whose predicate is a SLSA verification summary (VSA) v1. It
travels in a DSSE envelope, signed with Ed25519 over the envelope's pre-authentication encoding (PAE),
so that no signature made here can be taken for one over anything else.

A VSA knows passed and failed, and its consumers pass over fields that they do not know. So nothing
that is less than `allow` may pass, and what keeps an answer from being used for another action
stands where every consumer must look: in `resourceUri`, which names the model and the action.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from app.canonical import canonical_json, sha256_hex
from app.ledger.entry import Position
from app.vocabulary import attested_name, write_instant

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/verification_summary/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""What is signed. The envelope around it has a media type of its own, as has the bundle."""
ENVELOPE_TYPE: Final = "application/vnd.dsse.envelope.v1+json"
BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
SLSA_VERSION: Final = "1.1"

EXTENSION: Final = "urn:aslgate:determination"
"""The predicate's one field that is ours: the answer itself, until when it holds, and its place in
the ledger."""

_FAILED: Final = "FAILED"
_OTHERS_NAMES: Final = ("SLSA_", "ASLGATE_")
"""How no level of a policy may begin in a VSA: SLSA keeps the first for itself, and we the other."""


class NotAKey(ValueError):
    """The text is not an unencrypted Ed25519 private key in PEM."""


@dataclass(frozen=True, slots=True)
class AttestationKey:
    """The key that signs statements: an Ed25519 key that signs nothing else."""

    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def of_pem(cls, pem: bytes) -> "AttestationKey":
        """The key in a PKCS #8 PEM text without a password. Raises `NotAKey`."""
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise NotAKey("it is not an Ed25519 private key in PEM without a password")
        return cls(private)

    def pem(self) -> bytes:
        """The key as `of_pem` reads it, to be kept where nobody else can read it."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def id(self) -> str:
        """What verifiers know the key by: the SHA-256 of its public half as DER, in hexadecimal."""
        public = self.private.public_key()
        return sha256_hex(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @property
    def public_pem(self) -> str:
        """The public half as PEM (SubjectPublicKeyInfo), for those who verify."""
        public = self.private.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def statement(
    document: bytes, said: Mapping[str, Any], *, model_digest: str, log: str, position: Position
) -> bytes:
    """The statement of a recorded determination: the same bytes for the same record, always.

    `document` is the record, and `said` what it says. `model_digest` is that of the model version as
    registered, `sha256:<64 hex>`. `log` is the ledger's name, from which all names in the statement
    are made. It passes only where the decision is `allow`.
    """
    passed = said["decision"] == "allow"
    provenance = said["provenance"]
    predicate = {
        "verifier": {
            "id": verifier_id(log),
            "version": {"aslgate": provenance["engine"]["version"]},
        },
        "timeVerified": provenance["at"],
        "resourceUri": resource_uri(log, said["model"], said["action"]),
        "policy": _policy(log, provenance["policy"]),
        "inputAttestations": [
            {"uri": f"urn:aslgate:evidence:{piece['id']}", "digest": _digest_set(piece["digest"])}
            for piece in provenance["evidence"]
        ],
        "verificationResult": "PASSED" if passed else _FAILED,
        "verifiedLevels": levels(said) if passed else [_FAILED],
        "slsaVersion": SLSA_VERSION,
        EXTENSION: {
            "id": said["id"],
            "sha256": sha256_hex(document),
            "decision": said["decision"],
            "action": said["action"],
            "valid_until": said["valid_until"],
            "known_at": provenance["known_at"],
            "ledger": {
                "log": log,
                "index": position.index,
                "leaf_hash": position.leaf_hash,
                "recorded_at": write_instant(position.at),
            },
        },
    }
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": said["model"], "digest": _digest_set(model_digest)}],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
    )


def verifier_id(log: str) -> str:
    """Who says so: this service, by the ledger that it records in."""
    return f"https://{log}"


def resource_uri(log: str, model: str, action: str) -> str:
    """What it is said of: one action on one model version."""
    return f"https://{log}/v1/models/{model}/determination?action={action}"


def levels(said: Mapping[str, Any]) -> list[str]:
    """What an `allow` is worth: `ASLGATE_ALLOW_<ACTION>`, and the policy's level where it is in place.

    The level that a policy requires is named only where every required standard, whichever action
    it must precede, is met: an action may be allowed long before a later one's standards are.
    """
    named = [f"ASLGATE_ALLOW_{attested_name(said['action'])}"]
    standards: Sequence[Mapping[str, Any]] = said["standards"]
    required = [standard["met"] for standard in standards if standard["required"]]
    in_place = bool(required) and all(met == "yes" for met in required)
    if said["level"] is not None and in_place:
        level = attested_name(said["level"])
        if level != _FAILED and not level.startswith(_OTHERS_NAMES):
            named.append(level)
    return named


def _policy(log: str, named: Mapping[str, Any]) -> dict[str, Any]:
    uri = f"https://{log}/v1/policies/{named['name']}"
    if named["digest"] is None:
        return {"uri": uri}
    return {"uri": f"{uri}/versions/{named['version']}", "digest": _digest_set(named["digest"])}


def _digest_set(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """The bytes that a DSSE signature is made over: type and payload, each with its length."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def envelope(payload: bytes, key: AttestationKey) -> bytes:
    """*payload* in a DSSE envelope that *key* signed. Ed25519 gives the same bytes each time."""
    return canonical_json(_envelope(payload, key))


def bundle(payload: bytes, key: AttestationKey) -> bytes:
    """The same envelope as a Sigstore bundle that is verified with a known public key."""
    return canonical_json(
        {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": key.id}, "tlogEntries": []},
            "dsseEnvelope": _envelope(payload, key),
        }
    )


def _envelope(payload: bytes, key: AttestationKey) -> dict[str, Any]:
    signature = key.private.sign(pae(payload))
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key.id, "sig": base64.b64encode(signature).decode()}],
    }
