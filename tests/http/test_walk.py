"""The main job over HTTP: from a bootstrap key to a recorded determination that anyone can check."""

import hashlib
import json
from typing import Any

import httpx
import pytest

from tests.http.conftest import Service
from tests.http.documented import Documented
from tests.http.published import (
    ACTION,
    OPUS,
    POLICIES,
    POLICY,
    RELEASE,
    SONNET,
    asked,
    evidence_bodies,
    put_in_force,
)

DOCUMENT = "application/vnd.aslgate.determination+json"


async def test_from_the_bootstrap_key_to_a_determination_read_back_byte_for_byte(
    empty: Service, empty_client: httpx.AsyncClient, author: httpx.AsyncClient
) -> None:
    """Policy, model, assessment, safeguards, sign-offs, determination; then everything again. Who
    finds, and who signs, are two.
    """
    client = empty_client
    signer = empty.client((await empty.new_key("approver")).text)
    for label in POLICIES:
        recorded = await put_in_force(author, client, label)
        again = await client.get(recorded.headers["Location"])
        assert again.json()["digest"] == recorded.json()["digest"]
    named = {}
    for path, body in evidence_bodies(OPUS):
        by = signer if path == "/v1/sign-offs" else client
        recorded = await by.post(path, json=body)
        assert recorded.status_code == 201, recorded.text
        again = await client.get(recorded.headers["Location"])
        assert (again.status_code, again.content) == (200, recorded.content)
        assert again.headers["ETag"] == recorded.headers["ETag"]
        if path != "/v1/models":
            named[recorded.json()["id"]] = recorded.headers["ETag"].strip('"')

    answer = await client.post("/v1/determinations", json=asked(at=RELEASE))

    assert answer.status_code == 201
    said = answer.json()
    assert (said["decision"], said["level"]) == ("allow", "ASL-3")
    assert "precautionary" in said["flags"]
    assert {e["id"]: e["digest"] for e in said["provenance"]["evidence"]} == named
    assert said["provenance"]["known_at"] == said["ledger"]["index"] == await empty.size() - 1
    read = await client.get(answer.headers["Location"])
    assert (read.status_code, read.content) == (200, answer.content)
    alone = await client.get(answer.headers["Location"], headers={"Accept": DOCUMENT})
    assert alone.headers["Content-Type"] == DOCUMENT
    assert _without_ledger(answer.content) == alone.content
    listed = await client.get("/v1/determinations", params={"model": OPUS, "action": ACTION})
    assert listed.json() == {"determinations": [said], "next": None}
    latest = await client.get(f"/v1/models/{OPUS}/determination", params={"action": ACTION})
    assert latest.content == answer.content


def _without_ledger(content: bytes) -> bytes:
    before, _, _ = content.rpartition(b',"ledger":')
    return before + b"}"


async def test_opus_4_needs_asl_3_as_a_precaution_and_sonnet_4_does_not(
    client: httpx.AsyncClient,
) -> None:
    """The published outcomes, by the rules applied to the recorded evidence."""
    said = {}
    for model in (OPUS, SONNET):
        answer = await client.post("/v1/determinations", json=asked(model, at=RELEASE))
        body = answer.json()
        thresholds = {t["id"]: (t["status"], t["basis"]) for t in body["thresholds"]}
        said[model] = (body["decision"], body["level"], thresholds["CBRN-3"])

    assert said == {
        OPUS: ("allow", "ASL-3", ("not_ruled_out", "precaution")),
        SONNET: ("allow", "ASL-2", ("ruled_out", "finding")),
    }


@pytest.mark.parametrize(
    ("at", "version"),
    [
        ("2024-10-14T23:59:59.999999Z", None),
        ("2025-03-30T23:59:59.999999Z", "2.0"),
        ("2025-05-13T12:00:00Z", "2.1"),
        ("2025-05-13T23:59:59.999999Z", "2.1"),
        ("2025-05-14T00:00:00Z", "2.2"),
        ("2025-05-14T01:00:00+02:00", "2.1"),
        ("2025-05-14T12:00:00Z", "2.2"),
    ],
)
async def test_the_version_in_force_at_an_instant(
    reader: httpx.AsyncClient, at: str, version: str | None
) -> None:
    answer = await reader.get(f"/v1/policies/{POLICY}", params={"at": at})

    if version is None:
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:aslgate:problem:no-policy-in-force"
    else:
        assert answer.json()["version"] == version


async def test_the_version_in_force_now_is_the_last(reader: httpx.AsyncClient) -> None:
    answer = (await reader.get(f"/v1/policies/{POLICY}")).json()

    assert (answer["version"], answer["in_force"]["until"]) == ("2.2", None)


async def test_what_is_recorded_can_be_verified_with_sha256_alone(
    service: Service, client: httpx.AsyncClient
) -> None:
    """ETag, entry and leaf hash, recomputed here from RFC 6962 §2.1 and nothing of ours."""
    answer = await client.post("/v1/determinations", json=asked(at=RELEASE))

    document = _without_ledger(answer.content)
    sha256 = hashlib.sha256(document).hexdigest()
    ledger = answer.json()["ledger"]
    entry = await service.entry(ledger["index"])
    said: dict[str, Any] = json.loads(entry)
    assert answer.headers["ETag"] == f'"sha256:{sha256}"'
    assert said["payload"]["sha256"] == sha256
    assert said["payload"]["size"] == len(document)
    assert (said["index"], said["subject"]) == (ledger["index"], answer.json()["id"])
    assert said["actor"] == answer.json()["provenance"]["actor"]
    assert ledger["leaf_hash"] == hashlib.sha256(b"\x00" + entry).hexdigest()


async def test_a_policys_digest_is_that_of_the_document_inside_the_answer(
    reader: httpx.AsyncClient,
) -> None:
    answer = await reader.get(f"/v1/policies/{POLICY}/versions/2.2")

    document = answer.content.partition(b',"document":')[2][:-1]
    assert answer.json()["digest"] == f"sha256:{hashlib.sha256(document).hexdigest()}"


async def test_a_caller_who_has_the_document_is_not_sent_it_again(
    client: httpx.AsyncClient,
) -> None:
    assessment = json.loads((await client.post("/v1/determinations", json=asked())).content)
    id = next(e["id"] for e in assessment["provenance"]["evidence"] if e["id"].startswith("asm_"))
    for path in (
        f"/v1/policies/{POLICY}/versions/2.2",
        f"/v1/models/{OPUS}",
        f"/v1/assessments/{id}",
    ):
        etag = (await client.get(path)).headers["ETag"]
        for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            same = await client.get(path, headers={"If-None-Match": given})
            assert (same.status_code, same.content) == (304, b"")
            assert same.headers["ETag"] == etag
        other = await client.get(path, headers={"If-None-Match": '"other"'})
        assert other.status_code == 200


async def test_a_policy_versions_etag_changes_when_a_later_version_ends_it(
    empty_client: httpx.AsyncClient, author: httpx.AsyncClient
) -> None:
    """Its document stays, but until when it is in force is part of the answer."""
    await put_in_force(author, empty_client, "2.1")
    path = f"/v1/policies/{POLICY}/versions/2.1"
    before = (await empty_client.get(path)).headers["ETag"]

    await put_in_force(author, empty_client, "2.2")

    after = await empty_client.get(path, headers={"If-None-Match": before})
    assert after.status_code == 200
    assert after.json()["in_force"] is None
    assert after.json()["spans"][0]["until"] == "2025-05-14T00:00:00Z"


async def test_determinations_are_never_stored_by_caches(client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/determinations", json=asked())
    batch = await client.post("/v1/determinations/batch", json={"determinations": [asked()]})
    refused = await client.post("/v1/determinations?enforce=true", json=asked("no@1"))
    for answer in (
        made,
        batch,
        refused,
        await client.get(made.headers["Location"]),
        await client.get(made.headers["Location"], headers={"Accept": DOCUMENT}),
        await client.get("/v1/determinations"),
        await client.get(f"/v1/models/{OPUS}/determination", params={"action": ACTION}),
        await client.post("/v1/simulations", json=asked()),
    ):
        assert answer.headers["Cache-Control"] == "no-store"


async def test_the_schema_of_the_policy_language_can_be_read(reader: httpx.AsyncClient) -> None:
    schema = (await reader.get("/v1/schemas/policy")).json()

    assert "thresholds" in schema["properties"]


async def test_the_check_of_answers_against_the_contract_can_fail(standing: Service) -> None:
    """Every other test here rests on it: a wrong body and an undocumented status are noticed."""
    documented = Documented.of(standing.app)
    request = httpx.Request("GET", f"http://aslgate.test/v1/models/{OPUS}")
    wrong_body = httpx.Response(200, json={"model": OPUS}, request=request)
    wrong_status = httpx.Response(418, request=request)

    with pytest.raises(ValueError, match="required"):
        await documented.check(wrong_body)
    with pytest.raises(AssertionError, match="not documented"):
        await documented.check(wrong_status)
