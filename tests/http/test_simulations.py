"""Simulations: what would be said on other evidence, recorded nowhere."""

import json

import httpx
import pytest

from tests.http.conftest import Service
from tests.http.published import (
    ACTION,
    EVIDENCE,
    OPUS,
    POLICY,
    RELEASE,
    SONNET,
    asked,
    problem,
    put_in_force,
)

SIMULATIONS = "/v1/simulations"


async def test_a_simulation_records_nothing_and_says_so(
    standing: Service, reader: httpx.AsyncClient
) -> None:
    size = await standing.size()

    answer = await reader.post(SIMULATIONS, json=asked(at=RELEASE) | {"on_top_of_record": True})

    assert answer.status_code == 200
    said = answer.json()
    assert (said["recorded"], said["decision"], said["level"]) == (False, "allow", "ASL-3")
    assert not said.keys() & {"id", "ledger"}
    assert await standing.size() == size
    assert (await reader.get("/v1/determinations")).json()["determinations"] == []


async def test_it_says_what_a_determination_would(client: httpx.AsyncClient) -> None:
    """The same rules on the same evidence."""
    simulated = await client.post(SIMULATIONS, json=asked(at=RELEASE) | {"on_top_of_record": True})
    determined = await client.post("/v1/determinations", json=asked(at=RELEASE))

    left_out = {"id", "ledger", "changed", "provenance", "recorded"}
    assert {k: v for k, v in simulated.json().items() if k not in left_out} == {
        k: v for k, v in determined.json().items() if k not in left_out
    }
    assert simulated.json()["provenance"]["evidence"] == determined.json()["provenance"]["evidence"]


async def test_without_the_record_only_the_given_evidence_counts(
    reader: httpx.AsyncClient,
) -> None:
    bodies = json.loads(EVIDENCE[OPUS].read_text())
    given = {kind: bodies[kind] for kind in ("assessments", "safeguards", "sign_offs")}

    nothing = await reader.post(SIMULATIONS, json=asked(at=RELEASE))
    everything = await reader.post(SIMULATIONS, json=asked(at=RELEASE) | {"evidence": given})

    assert nothing.json()["decision"] == "deny"
    assert nothing.json()["provenance"]["evidence"] == []
    assert everything.json()["decision"] == "allow"
    assert len(everything.json()["provenance"]["evidence"]) == sum(map(len, given.values()))


async def test_a_model_that_is_not_registered_can_be_described(reader: httpx.AsyncClient) -> None:
    described = asked("not-yet@1", at=RELEASE) | {"developer": "anthropic"}

    unknown = await reader.post(SIMULATIONS, json=asked("not-yet@1", at=RELEASE))
    known = await reader.post(SIMULATIONS, json=described)

    assert [r["code"] for r in unknown.json()["reasons"]] == ["model.unknown"]
    assert "model.unknown" not in [r["code"] for r in known.json()["reasons"]]


async def test_any_recorded_version_can_be_asked_whether_in_force_or_not(
    reader: httpx.AsyncClient,
) -> None:
    said = {}
    for version in ("2.0", "2.2"):
        answer = await reader.post(SIMULATIONS, json=asked(at=RELEASE) | {"version": version})
        provenance = answer.json()["provenance"]
        said[version] = provenance["policy"]["version"]
        thresholds = {t["id"] for t in answer.json()["thresholds"]}
        assert ("CBRN-3" in thresholds) is (version == "2.2")
    missing = await reader.post(SIMULATIONS, json=asked() | {"version": "9.9"})

    assert said == {"2.0": "2.0", "2.2": "2.2"}
    assert problem(missing) == (404, "not-found")


async def test_the_future_may_be_simulated(reader: httpx.AsyncClient) -> None:
    answer = await reader.post(SIMULATIONS, json=asked(at="2090-01-01T00:00:00Z"))

    assert answer.status_code == 200
    assert answer.json()["provenance"]["at"] == "2090-01-01T00:00:00Z"


async def test_what_was_just_recorded_is_seen_at_once(
    empty_client: httpx.AsyncClient, author: httpx.AsyncClient
) -> None:
    """A determination's commit checks what is kept in memory; a simulation has no commit."""
    question = asked("new@1") | {"on_top_of_record": True}
    await put_in_force(author, empty_client, "2.1")
    await empty_client.post("/v1/models", json={"model": "new@1", "developer": "anthropic"})
    await empty_client.post(SIMULATIONS, json=question)
    await empty_client.post("/v1/determinations", json=asked("new@1"))
    await put_in_force(author, empty_client, "2.2")
    sign_off = await empty_client.post(
        "/v1/sign-offs",
        json={
            "model": "new@1",
            "policy": POLICY,
            "action": ACTION,
            "role": "ceo",
            "verb": "approved",
            "reason": "for a test",
        },
    )

    answer = await empty_client.post(SIMULATIONS, json=question)

    provenance = answer.json()["provenance"]
    assert provenance["policy"]["version"] == "2.2"
    assert [e["id"] for e in provenance["evidence"]] == [sign_off.json()["id"]]


@pytest.mark.parametrize("kind", ["assessments", "safeguards", "sign_offs"])
async def test_evidence_on_another_model_is_refused(reader: httpx.AsyncClient, kind: str) -> None:
    bodies = json.loads(EVIDENCE[SONNET].read_text())[kind]

    answer = await reader.post(SIMULATIONS, json=asked() | {"evidence": {kind: bodies}})

    assert problem(answer) == (422, "invalid-document")
    assert [e["pointer"] for e in answer.json()["errors"]] == [
        f"/evidence/{kind}/{i}/model" for i in range(len(bodies))
    ]
