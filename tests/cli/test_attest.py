"""`aslgate attest`, and the key that a service makes for itself at its first start."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import Cli
from tests.faults.service import KEY, Service

MODEL = "lab/m@1"


def http(service: Service) -> httpx.Client:
    return httpx.Client(
        base_url=f"http://127.0.0.1:{service.port}", headers={"Authorization": f"Bearer {KEY}"}
    )


@pytest.fixture(scope="module")
def registered(service: Service) -> Service:
    """The service with a model version that has a digest."""
    body = {"model": MODEL, "developer": "lab", "digest": f"sha256:{'ab' * 32}"}
    with http(service) as client:
        assert client.post("/v1/models", json=body).status_code == 201
    return service


@pytest.fixture
def determination(registered: Service, asking: Cli) -> str:
    """The id of a deny: nobody has recorded that policy."""
    ran = asking("determine", MODEL, "--action=deploy", "--policy=p", "--json")
    id: str = json.loads(ran.out)["id"]
    return id


def statement(envelope: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(envelope["payload"]))


def test_a_statement_is_printed_or_written_as_it_was_answered(
    registered: Service, asking: Cli, determination: str, tmp_path: Path
) -> None:
    """A deny has one too, and getting it is no failure."""
    file = tmp_path / "vsa.json"
    with http(registered) as client:
        answered = client.get(f"/v1/determinations/{determination}/attestation").content

    printed = asking("attest", determination)
    written = asking("attest", determination, "--output", file)

    assert (printed.code, written.code, written.out) == (0, 0, "")
    assert printed.out.encode() == answered + b"\n"
    assert file.read_bytes() == answered
    assert statement(json.loads(answered))["predicate"]["verificationResult"] == "FAILED"


def test_the_bundle_has_the_same_envelope(asking: Cli, determination: str) -> None:
    plain, bundle = asking("attest", determination), asking("attest", determination, "--bundle")

    assert json.loads(bundle.out)["dsseEnvelope"] == json.loads(plain.out)


def test_where_there_is_none_it_says_why(asking: Cli, registered: Service) -> None:
    past = asking(
        "determine",
        MODEL,
        "--action=deploy",
        "--policy=p",
        "--at=2026-01-01T00:00:00Z",
        "--json",
    )
    id = json.loads(past.out)["id"]

    refused = asking("attest", id)
    unknown = asking("attest", "det_1")

    assert (refused.code, refused.out) == (unknown.code, unknown.out) == (1, "")
    said = f"aslgate: `{id}` is not about now: it was asked for 2026-01-01T00:00:00Z\n"
    assert refused.err == said
    assert unknown.err == "aslgate: no determination `det_1` is recorded\n"


def test_the_key_is_made_once_and_only_its_owner_reads_it(
    registered: Service, asking: Cli, determination: str
) -> None:
    file = registered.data_dir / "attestation-key.pem"
    before = asking("attest", determination).out
    made = file.read_bytes()

    registered.terminate()
    registered.start()

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes() == made
    assert asking("attest", determination).out == before


def test_a_key_file_that_is_named_must_be_there_and_hold_a_key(
    program: Cli, tmp_path: Path
) -> None:
    """Made anew, it would be a key that no verifier knows."""
    missing, text = tmp_path / "missing.pem", tmp_path / "text.pem"
    text.write_text("not a key")
    url = "--database-url=postgresql://localhost:1/none"

    ran = {
        file.name: program("serve", url, ASLGATE_ATTESTATION_KEY_FILE=str(file))
        for file in (missing, text)
    }

    assert {name: one.code for name, one in ran.items()} == {"missing.pem": 1, "text.pem": 1}
    assert f"aslgate: `{missing}`: No such file or directory\n" in ran["missing.pem"].err
    assert f"aslgate: `{text}`: it is not an Ed25519 private key" in ran["text.pem"].err
    assert not missing.exists()
