"""A determination as a signed statement: what it says, when there is one, and that nobody forges one.

Every signature is checked by securesystemslib, which shares no code with us.
"""

import asyncio
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from app.determination.record import SEMANTICS
from app.http.determinations import DOCUMENT_TYPE
from app.ledger.statement import AttestationKey
from app.storage.embedded import EmbeddedPostgres
from tests.http.conftest import BOOTSTRAP_KEY, Service, running
from tests.http.published import Json, problem
from tests.http.small import ACTION, decide, found, in_force, policy, post, register, soon
from tests.http.test_replay import change

PAGE = Path(__file__).parents[2] / "docs" / "attestations.md"
MODEL = "lab/m@1"
DIGEST = "ab" * 32
OURS = "urn:aslgate:determination"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"


@pytest.fixture(scope="module")
def key() -> AttestationKey:
    return AttestationKey(Ed25519PrivateKey.generate())


@pytest.fixture
async def signing(
    postgres: EmbeddedPostgres, template: str, key: AttestationKey, tmp_path: Path
) -> AsyncIterator[Service]:
    """A service with a key for attestations."""
    file = tmp_path / "attestation-key.pem"
    file.write_bytes(key.pem())
    async with running(postgres, template, attestation_key_file=file) as started:
        yield started


@pytest.fixture
async def client(signing: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that service, with the small policy and a model version that has a digest."""
    async with signing.client(BOOTSTRAP_KEY) as client:
        await in_force(signing, client, policy())
        await register(client, MODEL, digest=f"sha256:{DIGEST}")
        yield client


async def allowed(client: httpx.AsyncClient, model: str = MODEL) -> Json:
    """An allow, and the assessment that it rests on."""
    piece = await post(client, "assessments", found(model))
    answer = await decide(client, model)
    assert answer["decision"] == "allow", answer["reasons"]
    return answer | {"assessment": piece["id"]}


async def ask(client: httpx.AsyncClient, id: str, **query: str) -> httpx.Response:
    return await client.get(f"/v1/determinations/{id}/attestation", params=query)


async def verifiers_key(client: httpx.AsyncClient) -> SSlibKey:
    """The key that the service publishes, as somebody else's library reads it."""
    (named,) = (await client.get("/v1/attestation-keys")).json()["keys"]
    public = load_pem_public_key(named["public_key"].encode())
    return SSlibKey.from_crypto(public, keyid=named["keyid"])


def verified(envelope: bytes, key: SSlibKey) -> Json:
    """The statement in an envelope that *key* signed. Raises what securesystemslib does."""
    read = Envelope.from_dict(json.loads(envelope))
    read.verify([key], 1)
    assert read.payload_type == "application/vnd.in-toto+json"
    said: Json = json.loads(read.payload)
    return said


async def attested(client: httpx.AsyncClient, id: str) -> Json:
    answer = await ask(client, id)
    assert answer.status_code == 200, answer.text
    return verified(answer.content, await verifiers_key(client))


# --- What it says ------------------------------------------------------------------------------


async def test_an_allow_passes_and_says_of_what(client: httpx.AsyncClient) -> None:
    """Model and action stand where every verifier looks: in subject, resource and level."""
    answer = await allowed(client)

    said = await attested(client, answer["id"])

    predicate = said["predicate"]
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert said["subject"] == [{"name": MODEL, "digest": {"sha256": DIGEST}}]
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["verifiedLevels"] == ["ASLGATE_ALLOW_DEPLOY"]
    assert predicate["verifier"]["id"] == "https://localhost/aslgate"
    assert predicate["resourceUri"] == (
        f"https://localhost/aslgate/v1/models/{MODEL}/determination?action={ACTION}"
    )
    assert predicate["timeVerified"] == answer["provenance"]["at"]


async def test_it_names_the_policy_the_evidence_and_the_place_in_the_ledger(
    signing: Service, client: httpx.AsyncClient
) -> None:
    """Each by the digest of its recorded bytes, so that a verifier can fetch and compare."""
    answer = await allowed(client)
    path = f"/v1/determinations/{answer['id']}"
    bytes_alone = (await client.get(path, headers={"Accept": DOCUMENT_TYPE})).content
    assessment = await client.get(f"/v1/assessments/{answer['assessment']}")
    version = (await client.get("/v1/policies/small/versions/1")).json()

    predicate = (await attested(client, answer["id"]))["predicate"]

    assert predicate["policy"] == {
        "uri": "https://localhost/aslgate/v1/policies/small/versions/1",
        "digest": {"sha256": version["digest"].removeprefix("sha256:")},
    }
    assert predicate["inputAttestations"] == [
        {
            "uri": f"urn:aslgate:evidence:{answer['assessment']}",
            "digest": {"sha256": assessment.headers["ETag"].strip('"').removeprefix("sha256:")},
        }
    ]
    index = answer["ledger"]["index"]
    leaf = hashlib.sha256(b"\x00" + await signing.entry(index)).hexdigest()
    assert predicate[OURS] == {
        "id": answer["id"],
        "sha256": hashlib.sha256(bytes_alone).hexdigest(),
        "decision": "allow",
        "action": ACTION,
        "valid_until": answer["valid_until"],
        "known_at": index,
        "ledger": {
            "log": "localhost/aslgate",
            "index": index,
            "leaf_hash": leaf,
            "recorded_at": answer["ledger"]["recorded_at"],
        },
    }


async def test_a_deny_fails(client: httpx.AsyncClient) -> None:
    answer = await decide(client, MODEL)
    assert answer["decision"] == "deny"

    predicate = (await attested(client, answer["id"]))["predicate"]

    assert predicate["verificationResult"] == "FAILED"
    assert predicate["verifiedLevels"] == ["FAILED"]


async def test_an_allow_with_conditions_fails(client: httpx.AsyncClient) -> None:
    """A verifier reads passed or failed, and would not keep the conditions."""
    limited = {"issuer": "x", "issued_by": "customer", "effect": "limit", "statement": "s"}
    await post(client, "assessments", found(MODEL))
    await post(client, "orders", {"model": MODEL} | limited)
    answer = await decide(client, MODEL)
    assert answer["decision"] == "allow_with_conditions"

    predicate = (await attested(client, answer["id"]))["predicate"]

    assert predicate["verificationResult"] == "FAILED"
    assert predicate["verifiedLevels"] == ["FAILED"]
    assert predicate[OURS]["decision"] == "allow_with_conditions"


async def test_a_policy_that_nobody_knows_is_named_without_a_digest(
    client: httpx.AsyncClient,
) -> None:
    answer = await decide(client, MODEL, policy="unheard-of")

    predicate = (await attested(client, answer["id"]))["predicate"]

    assert predicate["verificationResult"] == "FAILED"
    assert predicate["policy"] == {"uri": "https://localhost/aslgate/v1/policies/unheard-of"}


async def test_the_same_determination_gives_the_same_bytes(client: httpx.AsyncClient) -> None:
    """Nothing in it tells when it was asked for, so copies can be compared."""
    answer = await allowed(client)

    first, second = await ask(client, answer["id"]), await ask(client, answer["id"])

    assert first.content == second.content
    assert first.headers["Content-Type"] == ENVELOPE
    assert first.headers["Cache-Control"] == "no-store"


async def test_the_bundle_holds_the_same_envelope(client: httpx.AsyncClient) -> None:
    answer = await allowed(client)

    plain = (await ask(client, answer["id"])).json()
    bundle = await ask(client, answer["id"], format="bundle")

    assert bundle.headers["Content-Type"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert bundle.json() == {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "publicKey": {"hint": plain["signatures"][0]["keyid"]},
            "tlogEntries": [],
        },
        "dsseEnvelope": plain,
    }
    assert problem(await ask(client, answer["id"], format="pdf")) == (422, "invalid-parameter")


async def test_each_determination_of_a_gate_speaks_for_its_own_policy(
    signing: Service, client: httpx.AsyncClient
) -> None:
    """One of them passes where the gate is closed: a verifier of one policy asks for that one."""
    await in_force(signing, client, policy("other"))
    await post(client, "assessments", found(MODEL))
    gate = await post(client, "gate", {"model": MODEL, "action": ACTION})

    said = [(await attested(client, id))["predicate"] for id in gate["determinations"]]

    assert gate["decision"] == "deny"
    assert {p["policy"]["uri"].split("/")[-3]: p["verificationResult"] for p in said} == {
        "small": "PASSED",
        "other": "FAILED",
    }
    assert problem(await ask(client, gate["id"])) == (404, "not-found")


# --- The page that says how to check one -------------------------------------------------------


def block(language: str, holds: str) -> str:
    """The one block of the page in that language that holds that."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (found,) = [one for one in blocks if holds in one]
    return str(found)


@dataclass
class OnDisk:
    """What a verifier has: the envelope, the key, and the program on the page."""

    folder: Path

    async def fetch(self, client: httpx.AsyncClient, id: str) -> None:
        (named,) = (await client.get("/v1/attestation-keys")).json()["keys"]
        (self.folder / "attestation-key.pub.pem").write_text(named["public_key"])
        (self.folder / "vsa.json").write_bytes((await ask(client, id)).content)
        (self.folder / "verify_vsa.py").write_text(block("python", "verify_vsa.py"))

    def verify(self, **other: str) -> subprocess.CompletedProcess[str]:
        """Run it with what an honest caller expects, or with something *other*."""
        resource = f"https://localhost/aslgate/v1/models/{MODEL}/determination?action={ACTION}"
        expected = {
            "file": "vsa.json",
            "key": "attestation-key.pub.pem",
            "digest": DIGEST,
            "verifier": "https://localhost/aslgate",
            "resource": resource,
            "level": "ASLGATE_ALLOW_DEPLOY",
            "policy": "small",
            "age": "600",
        }
        return subprocess.run(
            [sys.executable, "verify_vsa.py", *(expected | other).values()],
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def on_disk(tmp_path: Path) -> OnDisk:
    return OnDisk(tmp_path)


async def test_the_program_on_the_page_lets_an_allow_pass_and_nothing_else(
    client: httpx.AsyncClient, on_disk: OnDisk
) -> None:
    """Each of the checks that it makes refuses alone."""
    denied = await decide(client, MODEL)
    await on_disk.fetch(client, denied["id"])
    of_a_deny = on_disk.verify()
    await on_disk.fetch(client, (await allowed(client))["id"])

    passed = on_disk.verify()
    refused = {
        "subject": on_disk.verify(digest="cd" * 32),
        "verifier": on_disk.verify(verifier="https://elsewhere"),
        "resource": on_disk.verify(resource="https://localhost/aslgate/v1/models/other@1"),
        "level": on_disk.verify(level="ASL_4"),
        "policy": on_disk.verify(policy="smal"),
        "age": on_disk.verify(age="0"),
    }

    assert (passed.returncode, passed.stderr) == (0, "")
    assert {ran.returncode for ran in refused.values()} == {1}
    assert {name: ran.stderr for name, ran in refused.items()} == {
        name: f"refused: {name}\n" for name in refused
    }
    assert (of_a_deny.returncode, of_a_deny.stderr) == (1, "refused: result, level\n")


async def test_the_program_on_the_page_refuses_an_allow_under_another_policy(
    signing: Service, client: httpx.AsyncClient, on_disk: OnDisk
) -> None:
    """Subject, verifier, resource and level are the same; whoever asks chooses the policy."""
    await in_force(signing, client, policy("lax"))
    await post(client, "assessments", found(MODEL, policy="lax"))
    lax = await decide(client, MODEL, policy="lax")
    assert lax["decision"] == "allow", lax["reasons"]
    await on_disk.fetch(client, lax["id"])

    ran = on_disk.verify()

    assert (ran.returncode, ran.stderr) == (1, "refused: policy\n")
    assert on_disk.verify(policy="lax").returncode == 0


async def test_the_program_on_the_page_can_demand_one_policy_document(
    client: httpx.AsyncClient, on_disk: OnDisk
) -> None:
    await on_disk.fetch(client, (await allowed(client))["id"])
    digest = (await client.get("/v1/policies/small/versions/1")).json()["digest"]

    ran = on_disk.verify(policy=f"small@sha256:{'0' * 64}")

    assert on_disk.verify(policy=f"small@{digest}").returncode == 0
    assert (ran.returncode, ran.stderr) == (1, "refused: policy\n")


async def test_the_program_on_the_page_refuses_another_key(
    client: httpx.AsyncClient, on_disk: OnDisk
) -> None:
    await on_disk.fetch(client, (await allowed(client))["id"])
    other = AttestationKey(Ed25519PrivateKey.generate()).public_pem
    (on_disk.folder / "attestation-key.pub.pem").write_text(other)

    ran = on_disk.verify()

    assert ran.returncode == 1
    assert "VerificationError" in ran.stderr


@pytest.mark.skipif(
    shutil.which("openssl") is None or shutil.which("jq") is None, reason="needs openssl and jq"
)
async def test_the_shell_on_the_page_checks_the_signature(
    client: httpx.AsyncClient, on_disk: OnDisk
) -> None:
    """OpenSSL has no code of ours, and none of securesystemslib's."""
    await on_disk.fetch(client, (await allowed(client))["id"])
    envelope = json.loads((on_disk.folder / "vsa.json").read_text())

    def run() -> int:
        commands = ["sh", "-e", "-c", block("sh", "openssl pkeyutl")]
        return subprocess.run(commands, cwd=on_disk.folder, check=False, timeout=60).returncode

    good = run()
    payload = changed(base64.b64decode(envelope["payload"]), 100)
    envelope["payload"] = base64.b64encode(payload).decode()
    (on_disk.folder / "vsa.json").write_text(json.dumps(envelope))

    assert good == 0
    assert run() != 0


# --- When there is none ------------------------------------------------------------------------


async def test_none_for_what_is_not_recorded(client: httpx.AsyncClient) -> None:
    assert problem(await ask(client, "det_unknown")) == (404, "not-found")


async def test_none_once_the_evidence_is_withdrawn(client: httpx.AsyncClient) -> None:
    answer = await allowed(client)
    path = f"/v1/assessments/{answer['assessment']}/withdrawal"
    assert (await client.post(path, json={"reason": "r"})).status_code == 201

    refused = await ask(client, answer["id"])

    assert problem(refused) == (409, "determination-superseded")
    assert refused.json()["determination"] == answer["id"]
    assert "key" not in refused.json()["detail"]


async def test_none_once_there_is_more_evidence(client: httpx.AsyncClient) -> None:
    """Even where the answer would be the same: it is one on other evidence, and is asked for anew."""
    answer = await allowed(client)
    await post(client, "assessments", found(MODEL))

    refused = await ask(client, answer["id"])
    again = await decide(client, MODEL)

    assert problem(refused) == (409, "determination-superseded")
    assert (await ask(client, again["id"])).status_code == 200


async def test_none_once_another_policy_version_is_in_force(
    signing: Service, client: httpx.AsyncClient
) -> None:
    answer = await allowed(client)
    await in_force(signing, client, policy(version="2"), since="2024-02-01T00:00:00Z")

    assert problem(await ask(client, answer["id"])) == (409, "determination-superseded")


async def test_none_once_it_has_lapsed(client: httpx.AsyncClient) -> None:
    on = {"model": MODEL, "policy": "small", "standard": "s", "met": True, "stated_by": "x"}
    times = {"valid_from": soon(days=-1), "valid_until": soon(seconds=2)}
    await post(client, "safeguards", on | times)
    answer = await decide(client, MODEL)
    assert (answer["decision"], answer["valid_until"]) == ("allow", times["valid_until"])

    before = await attested(client, answer["id"])
    await asyncio.sleep(2.1)
    refused = await ask(client, answer["id"])

    assert before["predicate"][OURS]["valid_until"] == times["valid_until"]
    assert problem(refused) == (409, "determination-lapsed")
    assert refused.json()["determination"] == answer["id"]


async def test_none_once_something_has_begun_that_changes_the_answer(
    client: httpx.AsyncClient,
) -> None:
    """Nothing was recorded meanwhile, and the old answer never lapses: it is a deny."""
    on = {"model": MODEL, "policy": "small", "standard": "s", "met": True, "stated_by": "x"}
    await post(client, "safeguards", on | {"valid_from": soon(seconds=2)})
    answer = await decide(client, MODEL)
    assert (answer["decision"], answer["valid_until"]) == ("deny", None)

    before = await ask(client, answer["id"])
    await asyncio.sleep(2.1)

    assert before.status_code == 200
    assert problem(await ask(client, answer["id"])) == (409, "determination-superseded")


async def test_none_of_an_answer_that_an_older_engine_gave(
    signing: Service, client: httpx.AsyncClient
) -> None:
    """Even where this one would say the same: it may hold longer than this one lets it."""
    answer = await allowed(client)
    now, before = (f'"semantics":{one}'.encode() for one in (SEMANTICS, SEMANTICS - 1))
    await change(signing, answer["id"], now, before)

    assert problem(await ask(client, answer["id"])) == (409, "determination-superseded")


@pytest.mark.parametrize("later", ['"2999-01-01T00:00:00Z"', "null"])
async def test_none_that_would_hold_longer_than_the_answer_of_today(
    signing: Service, client: httpx.AsyncClient, later: str
) -> None:
    """A verifier goes by the `valid_until` in it, and asks nobody else."""
    on = {"model": MODEL, "policy": "small", "standard": "s", "met": True, "stated_by": "x"}
    times = {"valid_from": soon(days=-1), "valid_until": soon(days=1)}
    await post(client, "safeguards", on | times)
    answer = await decide(client, MODEL)
    before = await attested(client, answer["id"])
    assert before["predicate"][OURS]["valid_until"] == times["valid_until"]

    was = f'"valid_until":"{answer["valid_until"]}"}}'.encode()
    await change(signing, answer["id"], was, f'"valid_until":{later}}}'.encode())
    refused = await ask(client, answer["id"])

    assert problem(refused) == (409, "determination-superseded")
    assert answer["valid_until"] in refused.json()["detail"]


async def test_none_for_an_answer_about_the_past(client: httpx.AsyncClient) -> None:
    """Neither as of an instant, nor as of an earlier ledger size, though nothing has moved."""
    now = await allowed(client)
    by_instant = await decide(client, MODEL, at=soon(hours=-1))
    by_size = await decide(client, MODEL, known_at=now["ledger"]["index"])

    for one in (by_instant, by_size):
        refused = await ask(client, one["id"])
        assert problem(refused) == (409, "not-about-now")
        assert refused.json()["determination"] == one["id"]


async def test_none_for_a_model_version_without_a_digest(client: httpx.AsyncClient) -> None:
    await register(client, "n@1")
    answer = await allowed(client, "n@1")

    assert problem(await ask(client, answer["id"])) == (409, "no-digest")


async def test_none_for_a_model_version_that_nobody_registered(client: httpx.AsyncClient) -> None:
    answer = await decide(client, "unheard-of@1")

    assert problem(await ask(client, answer["id"])) == (409, "no-digest")


async def test_none_from_a_service_without_a_key(empty_client: httpx.AsyncClient) -> None:
    answer = await decide(empty_client, MODEL)

    assert problem(await ask(empty_client, answer["id"])) == (404, "no-attestation-key")
    assert problem(await empty_client.get("/v1/attestation-keys")) == (404, "no-attestation-key")


# --- Nobody forges one -------------------------------------------------------------------------


async def test_the_key_is_named_by_the_digest_of_its_public_half(
    client: httpx.AsyncClient, key: AttestationKey
) -> None:
    public = key.private.public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    said = (await client.get("/v1/attestation-keys")).json()

    (named,) = said["keys"]
    assert said["verifier"] == "https://localhost/aslgate"
    assert (named["algorithm"], named["keyid"]) == ("ed25519", hashlib.sha256(der).hexdigest())
    assert load_pem_public_key(named["public_key"].encode()) == public


def changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


async def test_no_byte_of_it_can_be_changed(client: httpx.AsyncClient) -> None:
    """Every byte of payload, type and signature, one after another."""
    answer = await allowed(client)
    envelope = (await ask(client, answer["id"])).json()
    key = await verifiers_key(client)
    payload = base64.b64decode(envelope["payload"])
    (signature,) = envelope["signatures"]
    signed = base64.b64decode(signature["sig"])

    def refused(payload: bytes, kind: str, signed: bytes, keyid: str) -> bool:
        sig = {"keyid": keyid, "sig": base64.b64encode(signed).decode()}
        forged: dict[str, Any] = {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": kind,
            "signatures": [sig],
        }
        try:
            Envelope.from_dict(forged).verify([key], 1)
        except VerificationError:
            return True
        return False

    kind, keyid = envelope["payloadType"], signature["keyid"]
    assert not refused(payload, kind, signed, keyid)
    assert all(refused(changed(payload, i), kind, signed, keyid) for i in range(len(payload)))
    types = [changed(kind.encode(), i).decode() for i in range(len(kind))]
    assert all(refused(payload, other, signed, keyid) for other in types)
    assert all(refused(payload, kind, changed(signed, i), keyid) for i in range(len(signed)))
    assert refused(payload, kind, signed, "0" * 64)
    # A boundary that moves between type and payload is another message, too.
    assert refused(payload[1:], kind + chr(payload[0]), signed, keyid)


async def test_another_key_under_the_same_name_is_refused(client: httpx.AsyncClient) -> None:
    answer = await allowed(client)
    envelope = (await ask(client, answer["id"])).content
    known = await verifiers_key(client)
    other = Ed25519PrivateKey.generate().public_key()

    with pytest.raises(VerificationError):
        verified(envelope, SSlibKey.from_crypto(other, keyid=known.keyid))
