"""Ways in which someone who wants a yes tried to get one; each ends in a no."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.vocabulary import write_instant
from tests.conftest import short_open_folder
from tests.faults.service import Service
from tests.http.conftest import Service as Running
from tests.http.published import ACTION, OPUS, POLICIES, POLICY, RELEASE, SONNET, asked

ROLES = ["ceo", "responsible-scaling-officer"]
RULED_OUT = [
    {"policy": POLICY, "threshold": name, "outcome": "ruled-out", "by": ROLES, "reason": "below"}
    for name in ("CBRN-3", "AI R&D-4")
]


def assessment(model: str = SONNET, **more: Any) -> dict[str, Any]:
    now = write_instant(datetime.now(UTC))
    return {"model": model, "kind": "comprehensive", "conducted_at": now, "assessor": "x"} | more


async def test_an_assessment_that_judges_nothing_revives_no_old_ruling_out(
    client: httpx.AsyncClient,
) -> None:
    """Sonnet 4's findings are older than six months by now."""
    before = (await client.post("/v1/determinations", json=asked(SONNET))).json()
    uplift = [{"line": "bio-acquisition-uplift", "value": 50}]
    for body in (assessment(), assessment(results=uplift)):
        assert (await client.post("/v1/assessments", json=body)).status_code == 201

    after = (await client.post("/v1/determinations", json=asked(SONNET))).json()

    assert (before["decision"], before["level"]) == ("deny", "ASL-4")
    assert (after["decision"], after["level"]) == ("deny", "ASL-4")
    assert after["reassessment"] == "yes"


async def test_findings_of_a_casual_test_do_not_count_beside_a_comprehensive_one(
    client: httpx.AsyncClient,
) -> None:
    for body in (assessment(kind="chat", findings=RULED_OUT), assessment()):
        assert (await client.post("/v1/assessments", json=body)).status_code == 201

    answer = (await client.post("/v1/determinations", json=asked(SONNET))).json()

    assert answer["decision"] == "deny"


@pytest.mark.parametrize("field", ["conducted_at", "given_at"])
async def test_nobody_has_assessed_or_signed_tomorrow(
    client: httpx.AsyncClient, field: str
) -> None:
    tomorrow = write_instant(datetime.now(UTC) + timedelta(days=1))
    if field == "conducted_at":
        path, body = "/v1/assessments", assessment(conducted_at=tomorrow, findings=RULED_OUT)
    else:
        sign_off = {"policy": POLICY, "action": ACTION, "role": "ceo", "verb": "approved"}
        path = "/v1/sign-offs"
        body = {"model": OPUS, **sign_off, "given_at": tomorrow, "reason": "in advance"}

    answer = await client.post(path, json=body)

    assert answer.status_code == 422
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [
        (f"/{field}", "in-the-future")
    ]


async def test_a_finding_against_an_old_name_is_not_lost_in_silence(
    client: httpx.AsyncClient,
) -> None:
    """RSP 2.0 has `CBRN`, which no later version reads: it would be recorded and have no effect."""
    finding = {"policy": POLICY, "threshold": "CBRN", "outcome": "reached", "by": ["ceo"]}
    now = assessment(findings=[finding | {"reason": "it did"}])
    then = now | {"conducted_at": "2024-12-01T00:00:00Z"}

    refused = await client.post("/v1/assessments", json=now)
    supposed = {"evidence": {"assessments": [now]}, "version": "2.2"}
    simulated = await client.post("/v1/simulations", json=asked(SONNET) | supposed)

    assert refused.status_code == simulated.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/findings/0/threshold"
    assert simulated.json()["errors"][0]["pointer"].endswith("/findings/0/threshold")
    # Under the version that was in force then, the name says something.
    assert (await client.post("/v1/assessments", json=then)).status_code == 201


async def test_the_latest_answer_says_that_it_was_overtaken(client: httpx.AsyncClient) -> None:
    await client.post("/v1/determinations", json=asked(OPUS, at=RELEASE))
    path, action = f"/v1/models/{OPUS}/determination", {"action": ACTION}
    before = await client.get(path, params=action)
    reached = RULED_OUT[0] | {"outcome": "reached"}
    body = assessment(OPUS, findings=[reached])
    assert (await client.post("/v1/assessments", json=body)).status_code == 201

    after = await client.get(path, params=action)

    assert "Determination-Superseded" not in before.headers
    assert after.headers["Determination-Superseded"] == "true"


@pytest.mark.parametrize("known", ["a policy version", "a model"])
async def test_a_key_that_came_with_another_request_is_refused_also_for_what_is_known(
    client: httpx.AsyncClient, known: str
) -> None:
    key = {"Idempotency-Key": "used before"}
    first = await client.post("/v1/determinations", json=asked(OPUS), headers=key)
    if known == "a model":
        model = (await client.get(f"/v1/models/{OPUS}")).json()
        del model["ledger"]
        again = await client.post("/v1/models", json=model, headers=key)
    else:
        again = await client.post(
            f"/v1/policies/{POLICY}/versions",
            content=POLICIES["2.2"].read_bytes(),
            headers=key | {"Content-Type": "application/yaml"},
        )

    assert first.status_code == 201
    assert again.status_code == 422
    assert again.json()["type"] == "urn:aslgate:problem:idempotency-key-reused"


VACUOUS = b"""
schema: aslgate/policy/v1
policy: sly
version: "1"
title: t
publisher: p
effective: 2025-01-01
source: {title: t, version: "1", sha256: %s}
applies_to: {developer: [anthropic]}
confidence: 0.95
roles: {ceo: c}
domains: {bio: {title: b, status: tracked}}
standards: {s: {title: t, clause: c, criteria: {a: {statement: s, clause: c}}}}
thresholds:
  T:
    domain: bio
    statement: s
    clause: c
    requires: []
    reached: {finding: reached}
    ruled_out: {assessment: any, max_age: P1Y}
    not_ruled_out: {means: binds, clause: c}
actions: {release: {statement: s, clause: c, needs: [required-standards]}}
""" % (b"a" * 64)


async def test_a_policy_that_would_always_allow_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/policies/sly/versions", content=VACUOUS, headers={"Content-Type": "application/yaml"}
    )

    assert answer.status_code == 422
    assert {e["code"] for e in answer.json()["errors"]} == {"no-evidence", "vacuous"}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of the service as it is started for real."""
    with short_open_folder() as folder:
        service = Service(folder)
        try:
            service.start()
            yield service.port
        finally:
            service.end()


def test_an_upgrade_does_not_take_a_connection_out_of_our_hands(port: int) -> None:
    """A WebSocket handshake with a body would be nobody's to answer, or to close."""
    request = (
        "POST /healthz HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        f"Content-Length: 41\r\n\r\n{'x' * 41}"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request.encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 4")


async def test_a_batch_is_decided_under_one_version_of_a_policy(
    service: Running, client: httpx.AsyncClient
) -> None:
    """What was read of the policy for one model must not be older than what was read for another."""
    await client.post("/v1/determinations", json=asked(OPUS))  # now the policy is in memory
    text = POLICIES["2.2"].read_bytes()
    later = text.replace(b'version: "2.2"', b'version: "2.3"', 1)
    later = later.replace(b"effective: 2025-05-14", b"effective: 2026-01-01", 1)
    versions = f"/v1/policies/{POLICY}/versions"
    async with service.client((await service.new_key("policy-author")).text) as author:
        recorded = await author.post(
            versions, content=later, headers={"Content-Type": "application/yaml"}
        )
    assert recorded.status_code == 201
    for step, body in (("approvals", {"reason": "for a test"}), ("activation", {})):
        assert (await client.post(f"{versions}/2.3/{step}", json=body)).status_code == 201

    questions = {"determinations": [asked(OPUS), asked(SONNET)]}
    answer = await client.post("/v1/determinations/batch", json=questions)

    said = answer.json()["determinations"]
    assert [d["provenance"]["policy"]["version"] for d in said] == ["2.3", "2.3"]
