"""What a statement says of a determination, as plain values; its signature is for somebody else's
library to check (tests/http/test_attestations.py).
"""

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from app.ledger.entry import Position
from app.ledger.statement import (
    EXTENSION,
    AttestationKey,
    NotAKey,
    bundle,
    envelope,
    levels,
    pae,
    statement,
)

KEY = AttestationKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
LOG = "gate.example.com/aslgate"
POSITION = Position(41, "ab" * 32, datetime(2026, 11, 24, 12, 0, 0, 123456, UTC))


def standard(met: str = "yes", *, required: bool = True) -> dict[str, Any]:
    return {"id": "s", "level": "ASL-3", "required": required, "met": met}


def said(**more: Any) -> dict[str, Any]:
    """A recorded determination, as far as a statement reads it."""
    return {
        "id": "det_1",
        "model": "lab/m@1",
        "action": "external-deployment",
        "decision": "allow",
        "level": "ASL-3",
        "standards": [standard()],
        "valid_until": None,
        "provenance": {
            "policy": {"name": "p", "version": "2.2", "digest": f"sha256:{'cd' * 32}"},
            "evidence": [{"id": "asm_1", "digest": f"sha256:{'ef' * 32}"}],
            "engine": {"version": "0.1.0", "semantics": 2},
            "at": "2026-11-24T12:00:00Z",
            "known_at": 41,
        },
    } | more


def predicate(**more: Any) -> dict[str, Any]:
    document = said(**more)
    made = statement(
        json.dumps(document).encode(),
        document,
        model_digest=f"sha256:{'12' * 32}",
        log=LOG,
        position=POSITION,
    )
    found: dict[str, Any] = json.loads(made)["predicate"]
    return found


def test_only_an_allow_passes() -> None:
    """Whatever else is recorded one day."""
    results = {
        decision: (made := predicate(decision=decision))["verificationResult"]
        + " "
        + " ".join(made["verifiedLevels"])
        for decision in ("allow", "allow_with_conditions", "deny", "perhaps")
    }

    assert results == {
        "allow": "PASSED ASLGATE_ALLOW_EXTERNAL_DEPLOYMENT ASL_3",
        "allow_with_conditions": "FAILED FAILED",
        "deny": "FAILED FAILED",
        "perhaps": "FAILED FAILED",
    }


@pytest.mark.parametrize(
    ("standards", "named"),
    [
        ([standard()], ["ASL_3"]),
        ([standard(), standard("unknown")], []),
        ([standard(), standard("no")], []),
        ([standard(), standard("no", required=False)], ["ASL_3"]),
        ([standard(required=False)], []),
        ([], []),
    ],
    ids=["met", "one unknown", "one unmet", "one recommended", "only recommended", "none"],
)
def test_a_level_is_verified_only_where_all_that_is_required_is_met(
    standards: list[dict[str, Any]], named: list[str]
) -> None:
    """An action may be allowed while the standards of a later one are not yet in place."""
    assert levels(said(standards=standards))[1:] == named


@pytest.mark.parametrize(
    ("level", "named"),
    [
        (None, []),
        ("ASL-3", ["ASL_3"]),
        ("High risk", ["HIGH_RISK"]),
        ("SLSA_BUILD_LEVEL_3", []),
        ("slsa-build-level-3", []),
        ("aslgate allow deploy", []),
        ("Failed", []),
    ],
)
def test_no_policy_names_a_level_of_slsa_or_one_of_ours(
    level: str | None, named: list[str]
) -> None:
    assert levels(said(level=level))[1:] == named


def test_the_resource_names_the_action_too() -> None:
    """So an answer about one action is refused by whoever asks about another."""
    resources = {predicate(action=action)["resourceUri"] for action in ("training", "deployment")}

    assert resources == {
        f"https://{LOG}/v1/models/lab/m@1/determination?action=training",
        f"https://{LOG}/v1/models/lab/m@1/determination?action=deployment",
    }


def test_a_policy_that_was_not_in_force_has_no_digest() -> None:
    named = {"name": "p", "version": None, "digest": None}
    provenance = said()["provenance"] | {"policy": named}

    made = predicate(decision="deny", level=None, provenance=provenance)

    assert made["policy"] == {"uri": f"https://{LOG}/v1/policies/p"}


def test_what_is_ours_stands_under_one_name_that_is_a_uri() -> None:
    """The specification lets nothing else be added."""
    made = predicate()

    known = {"verifier", "timeVerified", "resourceUri", "policy", "inputAttestations"}
    known |= {"verificationResult", "verifiedLevels", "slsaVersion"}
    assert made.keys() - known == {EXTENSION}
    assert EXTENSION.startswith("urn:")
    assert made[EXTENSION]["ledger"] == {
        "log": LOG,
        "index": 41,
        "leaf_hash": "ab" * 32,
        "recorded_at": "2026-11-24T12:00:00.123456Z",
    }


def test_the_signed_bytes_are_those_that_the_dsse_specification_gives() -> None:
    """The example of its protocol text; a length counts bytes, not characters."""
    assert pae(b"hello world", "http://example.com/HelloWorld") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("ä".encode(), "t").startswith(b"DSSEv1 1 t 2 ")


def test_an_envelope_is_signed_over_its_type_and_payload() -> None:
    made = json.loads(envelope(b"payload", KEY))

    assert base64.b64decode(made["payload"]) == b"payload"
    (signature,) = made["signatures"]
    KEY.private.public_key().verify(
        base64.b64decode(signature["sig"]), b"DSSEv1 28 application/vnd.in-toto+json 7 payload"
    )
    assert json.loads(bundle(b"payload", KEY))["dsseEnvelope"] == made


def test_a_key_is_read_as_it_was_written() -> None:
    again = AttestationKey.of_pem(KEY.pem())

    assert (again.id, again.public_pem) == (KEY.id, KEY.public_pem)
    der = base64.b64decode("".join(KEY.public_pem.splitlines()[1:-1]))
    assert hashlib.sha256(der).hexdigest() == KEY.id
    assert "private" not in repr(KEY)


def test_what_is_no_unencrypted_ed25519_key_is_refused() -> None:
    other = generate_private_key(SECP256R1())
    wrong = {
        "empty": b"",
        "text": b"not a key",
        "public": KEY.public_pem.encode(),
        "other kind": other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "encrypted": KEY.private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        ),
        "cut short": KEY.pem()[:-40],
    }

    for name, pem in wrong.items():
        with pytest.raises(NotAKey):
            pytest.fail(f"{name}: {AttestationKey.of_pem(pem).id}")
