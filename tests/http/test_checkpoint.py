"""Checkpoints, keys and proofs over HTTP, as somebody sees them who trusts the log's key alone."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from tlog_scales import signing, tlog

from app.ledger.checkpoint import (
    Checkpoint,
    Receipt,
    read_receipt,
    verified_checkpoint,
    vouched_for,
)
from app.ledger.merkle import verify_consistency
from app.ledger.note import Note, VerifierKey, read_note, read_verifier_key
from app.operations.sign_checkpoints import INTERVAL_SECONDS
from app.storage import tree
from app.storage.embedded import EmbeddedPostgres
from app.storage.signer_files import LastWord, new_ledger_key
from tests.http.conftest import AT_FIRST, BOOTSTRAP_KEY, Service, running
from tests.http.published import Json, asked, problem

LOG = "localhost/aslgate"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """A key that signs, and where the last checkpoint is kept."""
    key = tmp_path / "key"
    key.write_bytes(new_ledger_key(LOG))
    return {"ledger_key_file": key, "ledger_state_file": tmp_path / "state"}


@pytest.fixture
async def signing_service(
    postgres: EmbeddedPostgres, template: str, files: dict[str, Any]
) -> AsyncIterator[Service]:
    """A service that has recorded nothing yet, and signs checkpoints."""
    async with running(postgres, template, **files) as started:
        yield started


@pytest.fixture
async def client(signing_service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with signing_service.client(BOOTSTRAP_KEY) as client:
        yield client


async def keys_of(client: httpx.AsyncClient) -> set[VerifierKey]:
    answer = await client.get("/v1/ledger/keys")
    assert answer.status_code == 200
    return {read_verifier_key(one["vkey"]) for one in answer.json()["keys"]}


async def note_of(client: httpx.AsyncClient) -> Note:
    answer = await client.get("/v1/ledger/checkpoint")
    assert answer.status_code == 200, answer.text
    return read_note(answer.content)


async def checkpoint_of(client: httpx.AsyncClient) -> Checkpoint:
    return verified_checkpoint(await note_of(client), await keys_of(client), origin=LOG)


async def record(client: httpx.AsyncClient, many: int = 1, *, name: str = "m") -> list[Json]:
    """So many determinations, all of them denials: nothing is known of the model."""
    body = {"determinations": [asked(f"{name}@{number}") for number in range(many)]}
    answer = await client.post("/v1/determinations/batch", json=body)
    assert answer.status_code == 201, answer.text
    said: list[Json] = answer.json()["determinations"]
    return said


async def receipt_of(client: httpx.AsyncClient, said: Json) -> Receipt:
    """The receipt, once there is one."""
    for _ in range(40):
        answer = await client.get(f"/v1/determinations/{said['id']}/proof")
        if answer.status_code == 200:
            return read_receipt(answer.content)
        assert problem(answer) == (503, "unavailable")
        assert answer.json()["reason"] == "checkpoint-pending"
        assert answer.headers["Retry-After"] == "1"
        await asyncio.sleep(0.05)
    raise AssertionError("there is no checkpoint")


async def test_a_new_ledger_has_a_checkpoint(
    client: httpx.AsyncClient, signing_service: Service
) -> None:
    entry = await signing_service.entry(0)

    said = await checkpoint_of(client)

    assert (said.size, said.root) == (AT_FIRST, hashlib.sha256(b"\0" + entry).digest())


async def test_the_checkpoint_is_for_everyone(signing_service: Service) -> None:
    """Without a key; and nobody keeps it for longer than a second."""
    async with signing_service.client(None) as nobody:
        answer = await nobody.get("/v1/ledger/checkpoint")
        assert await keys_of(nobody)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=1"


async def test_what_is_recorded_is_under_a_checkpoint_within_a_second(
    client: httpx.AsyncClient,
) -> None:
    (said,) = await record(client)
    begun = asyncio.get_running_loop().time()
    receipt = await receipt_of(client, said)
    assert asyncio.get_running_loop().time() - begun < INTERVAL_SECONDS + 0.5
    assert receipt.verified(await keys_of(client), origin=LOG).size == AT_FIRST + 1


async def test_a_receipt_proves_the_document(client: httpx.AsyncClient) -> None:
    """From the recorded bytes to the signed root, with nothing taken on trust but the key."""
    for said in (await record(client, 5))[::4]:
        receipt = await receipt_of(client, said)
        receipt.verified(await keys_of(client), origin=LOG)
        entry = json.loads(receipt.entry)
        media = "application/vnd.aslgate.determination+json"
        path = f"/v1/determinations/{said['id']}"
        document = (await client.get(path, headers={"Accept": media})).content
        assert entry["payload"]["sha256"] == hashlib.sha256(document).hexdigest()
        assert (entry["index"], entry["subject"]) == (said["ledger"]["index"], said["id"])
        assert entry["log"] == LOG


async def test_an_independent_reader_verifies_a_receipt(client: httpx.AsyncClient) -> None:
    """tlog-scales knows the formats from their specifications, and nothing of us."""
    said = (await record(client, 7))[3]
    receipt = await receipt_of(client, said)
    read = tlog.Checkpoint.from_text(str(receipt.note))
    (key,) = await keys_of(client)
    read.verify(signing.Vkey.from_string(str(key)))
    proof = tlog.InclusionProof(receipt.index, read.size, list(receipt.proof))
    leaf = hashlib.sha256(b"\0" + receipt.entry).digest()
    assert leaf.hex() == said["ledger"]["leaf_hash"]
    proof.check(leaf, read.root_hash)


async def test_a_proof_is_also_json(client: httpx.AsyncClient) -> None:
    (said,) = await record(client)
    receipt = await receipt_of(client, said)
    json_type = {"Accept": "application/json"}
    path = f"/v1/determinations/{said['id']}/proof"
    answer = await client.get(path, headers=json_type)
    proof = answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    assert base64.b64decode(proof["entry"]) == receipt.entry
    assert proof["leaf_hash"] == said["ledger"]["leaf_hash"]
    assert proof["checkpoint"] == str(receipt.note)
    assert tuple(map(base64.b64decode, proof["proof"])) == receipt.proof
    by_index = await client.get(f"/v1/ledger/entries/{proof['index']}/proof", headers=json_type)
    assert by_index.json() == proof


async def test_any_record_has_a_proof_by_its_index(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/models", json={"model": "m@1", "developer": "lab"})
    index = answer.json()["ledger"]["index"]
    await asyncio.sleep(INTERVAL_SECONDS + 0.2)
    proof = await client.get(f"/v1/ledger/entries/{index}/proof")
    receipt = read_receipt(proof.content)
    receipt.verified(await keys_of(client), origin=LOG)
    assert json.loads(receipt.entry)["subject"] == "m@1"


async def test_what_is_not_there_has_no_proof(client: httpx.AsyncClient) -> None:
    await client.post("/v1/models", json={"model": "m@1", "developer": "lab"})
    for path in (
        "determinations/det_0/proof",
        "determinations/m@1/proof",
        "ledger/entries/99/proof",
    ):
        assert problem(await client.get(f"/v1/{path}")) == (404, "not-found")
    for index in ("-1", "x", "9223372036854775807", "1" * 30):
        answer = await client.get(f"/v1/ledger/entries/{index}/proof")
        assert problem(answer) == (422, "invalid-parameter")


async def test_each_checkpoint_extends_the_one_before(
    client: httpx.AsyncClient, signing_service: Service
) -> None:
    seen = [await checkpoint_of(client)]
    for many in (1, 2, 4):
        await receipt_of(client, (await record(client, many, name=f"m{many}"))[-1])
        seen.append(await checkpoint_of(client))
    assert [one.size for one in seen] == [AT_FIRST + more for more in (0, 1, 3, 7)]
    async with signing_service.store.reading() as connection:
        for old, new in pairwise(seen):
            proof = await tree.consistency_proof(connection, old.size, new.size)
            verify_consistency(old.size, old.root, new.size, new.root, proof)


async def test_what_was_recorded_last_is_signed_when_the_service_stops(
    postgres: EmbeddedPostgres, template: str, files: dict[str, Any]
) -> None:
    async with (
        running(postgres, template, **files) as service,
        service.client(BOOTSTRAP_KEY) as client,
    ):
        await record(client, 3)
    last = LastWord(files["ledger_state_file"]).read()
    assert last is not None
    assert last.text.split("\n")[1] == str(AT_FIRST + 3)


async def test_the_keys_are_on_record_and_can_be_followed(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/ledger/keys")).json()
    (key,) = answer["keys"]
    assert answer["log"] == LOG
    assert (key["from_size"], key["until_size"]) == (AT_FIRST, None)
    statements = [read_note(one.encode()) for one in answer["statements"]]
    known = {read_verifier_key(key["vkey"])}
    assert vouched_for(known, statements) == known


async def test_a_ledger_that_nobody_signs_has_no_checkpoint(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Then there is nothing to prove anything against, and that is said."""
    (said,) = await record(empty_client)
    assert problem(await empty_client.get("/v1/ledger/checkpoint")) == (404, "not-found")
    assert (await empty_client.get("/v1/ledger/keys")).json()["keys"] == []
    answer = await empty_client.get(f"/v1/determinations/{said['id']}/proof")
    assert answer.json()["reason"] == "checkpoint-pending"
