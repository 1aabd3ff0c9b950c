"""Logs that their makers signed: around the log itself, or a statement about its digest."""

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, SECP384R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.ledger.envelope import NotAPublicKey, read_signer_keys
from app.ledger.statement import pae
from tests.integrations.importing import SAMPLES, imported, map_of, refused

LOG = (SAMPLES / "inspect" / "success.eval").read_bytes()
MAP = map_of("inspect", "task: aslgate/acquisition_uplift, metric: accuracy, line: uplift")
SIGNER, STRANGER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
ELLIPTIC = new_ec_key(SECP256R1())
LOG_TYPE, STATEMENT = "application/vnd.inspect.eval", "application/vnd.in-toto+json"


def pem(key: Any) -> str:
    form = PublicFormat.SubjectPublicKeyInfo
    text: str = key.public_key().public_bytes(Encoding.PEM, form).decode()
    return text


def signed(payload: bytes, kind: str = LOG_TYPE, by: Any = SIGNER) -> dict[str, Any]:
    message = pae(payload, kind)
    signature = by.sign(message) if by is not ELLIPTIC else by.sign(message, ECDSA(SHA256()))
    return {
        "payloadType": kind,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": "whatever", "sig": base64.b64encode(signature).decode()}],
    }


def dumped(envelope: dict[str, Any]) -> bytes:
    return json.dumps(envelope).encode()


def statement(sha256: str, **more: Any) -> bytes:
    said = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "log", "digest": {"sha256": sha256}}],
        "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
        "predicate": {"result": "PASSED"},
    }
    return json.dumps(said | more).encode()


KEYS = read_signer_keys(pem(STRANGER) + "a comment\n" + pem(SIGNER))
SHA256_OF_LOG = hashlib.sha256(LOG).hexdigest()


@pytest.mark.parametrize("by", [SIGNER, ELLIPTIC], ids=["ed25519", "ecdsa"])
def test_an_envelope_around_the_log_is_verified_and_its_digest_kept(by: Any) -> None:
    data = dumped(signed(LOG, by=by))
    keys = read_signer_keys(pem(by))
    made = imported("inspect", data, MAP, keys=keys, must_be_signed=True)
    logged, _, signature = made.body["sources"]

    assert logged["sha256"] == SHA256_OF_LOG
    assert signature["sha256"] == hashlib.sha256(data).hexdigest()
    assert keys[0].id in signature["title"]


def test_a_signed_statement_about_the_logs_digest_is_verified_and_its_digest_kept() -> None:
    given = dumped(signed(statement(SHA256_OF_LOG), STATEMENT))
    made = imported("inspect", LOG, MAP, keys=KEYS, must_be_signed=True, statement=given)

    assert made.body["sources"][2]["sha256"] == hashlib.sha256(given).hexdigest()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (dumped(signed(LOG, by=STRANGER)), "unverified"),
        (dumped(signed(LOG) | {"payload": base64.b64encode(LOG + b"x").decode()}), "unverified"),
        (dumped(signed(LOG) | {"payloadType": "text/plain"}), "unverified"),
        (dumped(signed(LOG) | {"signatures": []}), "unverified"),
        (dumped(signed(LOG) | {"signatures": [{"sig": "AA=="}] * 17}), "unverified"),
        (dumped(signed(LOG) | {"payload": "!"}), "undecodable"),
        (dumped(signed(LOG) | {"payload": 1}), "undecodable"),
        (dumped(signed(LOG) | {"payloadType": 1}), "undecodable"),
        (dumped(signed(LOG) | {"signatures": [1]}), "undecodable"),
        (dumped(signed(statement(SHA256_OF_LOG), STATEMENT)), "statement"),
        (LOG, "not-signed"),
    ],
)
def test_what_no_known_key_has_signed_is_refused(data: bytes, code: str) -> None:
    keys = KEYS[1:]
    assert [f.code for f in refused("inspect", data, MAP, keys=keys, must_be_signed=True)] == [code]


def test_a_signed_log_is_not_read_without_a_key() -> None:
    assert refused("inspect", dumped(signed(LOG)), MAP)[0].code == "no-key"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (signed(statement("0" * 64), STATEMENT), "other-subject"),
        (signed(statement(SHA256_OF_LOG, subject=[1]), STATEMENT), "other-subject"),
        (signed(statement(SHA256_OF_LOG, _type="x"), STATEMENT), "undecodable"),
        (signed(statement(SHA256_OF_LOG), LOG_TYPE), "undecodable"),
        (signed(statement(SHA256_OF_LOG), STATEMENT, ELLIPTIC), "unverified"),
    ],
)
def test_a_statement_that_is_not_about_the_log_is_refused(given: Any, code: str) -> None:
    faults = refused("inspect", LOG, MAP, keys=KEYS, statement=dumped(given))

    assert [f.code for f in faults] == [code]


def test_a_log_is_signed_once() -> None:
    given = dumped(signed(statement(SHA256_OF_LOG), STATEMENT))
    faults = refused("inspect", dumped(signed(LOG)), MAP, keys=KEYS, statement=given)

    assert [f.code for f in faults] == ["signed-twice"]


def test_url_safe_base64_is_read_too() -> None:
    envelope = signed(LOG)
    envelope["payload"] = base64.urlsafe_b64encode(LOG).decode()

    assert imported("inspect", dumped(envelope), MAP, keys=KEYS).body["results"]


@pytest.mark.parametrize(
    "text",
    ["", "no key", pem(SIGNER)[:60], pem(new_ec_key(SECP384R1())), pem(SIGNER).replace("M", "!")],
    ids=["nothing", "words", "cut short", "another curve", "spoilt"],
)
def test_what_is_no_key_that_we_verify_with_is_refused(text: str) -> None:
    with pytest.raises(NotAPublicKey):
        read_signer_keys(text)
