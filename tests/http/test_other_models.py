"""Findings that lean on another model version hold as long as what they lean on does."""

from collections.abc import Awaitable, Callable
from itertools import pairwise

import httpx
import pytest

from app.storage.store import MOST_OTHERS
from tests.http.conftest import Service
from tests.http.published import Json, problem
from tests.http.small import ACTION, decide, decision, found, in_force, policy, post, register

WEAK, STRONG = "weak@1", "strong@1"


@pytest.fixture
async def leaning(empty: Service, empty_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a service with a weak model version and a stronger one."""
    await in_force(empty, empty_client, policy())
    for model in (STRONG, WEAK):
        await register(empty_client, model)
    return empty_client


async def bounded(client: httpx.AsyncClient, model: str = WEAK, by: str = STRONG) -> Json:
    return await post(client, "assessments", found(model, "bounded-by", bounded_by=by))


async def carried(client: httpx.AsyncClient, model: str = WEAK, over: str = STRONG) -> Json:
    body = found(model, "carried-over", carried_over_from=over)
    return await post(client, "assessments", body)


@pytest.mark.parametrize("lean", [bounded, carried])
async def test_it_holds_as_long_as_the_other_is_ruled_out(
    leaning: httpx.AsyncClient, lean: Callable[[httpx.AsyncClient], Awaitable[Json]]
) -> None:
    """It falls at once when the assessment of the other is withdrawn, though none of its own moved."""
    await lean(leaning)
    said = [await decision(leaning, WEAK)]
    assessment = await post(leaning, "assessments", found(STRONG))
    said.append(await decision(leaning, WEAK))
    before = await decide(leaning, WEAK)
    await post(leaning, f"assessments/{assessment['id']}/withdrawal", {"reason": "r"})
    said.append(await decision(leaning, WEAK))

    assert said == ["deny", "allow", "deny"]
    assert assessment["id"] in {one["id"] for one in before["provenance"]["evidence"]}
    assert await decision(leaning, WEAK, known_at=before["ledger"]["index"]) == "allow"


async def test_what_moves_on_the_other_supersedes_the_determination(
    leaning: httpx.AsyncClient,
) -> None:
    await bounded(leaning)
    await post(leaning, "assessments", found(STRONG))
    question = {"model": WEAK, "action": ACTION, "policy": "small"}
    key = {"Idempotency-Key": "k"}
    latest = f"/v1/models/{WEAK}/determination?action={ACTION}"
    first = await post(leaning, "determinations", question, headers=key)
    again = await leaning.post("/v1/determinations", json=question, headers=key)
    fresh = await leaning.get(latest)

    await post(leaning, "assessments", found(STRONG, "reached"))

    assert again.json() == first
    assert "Determination-Superseded" not in fresh.headers
    stale = await leaning.post("/v1/determinations", json=question, headers=key)
    assert problem(stale) == (409, "determination-superseded")
    assert (await leaning.get(latest)).headers["Determination-Superseded"] == "true"


async def test_what_a_second_replica_decided_is_seen_to_with_all_that_it_leans_on(
    leaning: httpx.AsyncClient, replica: httpx.AsyncClient
) -> None:
    """What this one has in memory leans on nothing yet; what the other decided does, and falls."""
    latest = f"/v1/models/{WEAK}/determination?action={ACTION}"
    await post(leaning, "assessments", found(STRONG))
    await decide(leaning, WEAK)
    await bounded(replica)
    assert await decision(replica, WEAK) == "allow"
    fresh = await leaning.get(latest)

    await post(replica, "assessments", found(STRONG, "reached"))

    assert "Determination-Superseded" not in fresh.headers
    assert (await leaning.get(latest)).headers["Determination-Superseded"] == "true"
    assert await decision(leaning, WEAK) == "deny"


async def test_it_leans_through_several_and_shares_weights(leaning: httpx.AsyncClient) -> None:
    """The strong one is itself bounded by one whose weights were assessed as another version's."""
    await register(leaning, "top@1", weights="w")
    await register(leaning, "top-api@1", weights="w")
    await bounded(leaning)
    await bounded(leaning, STRONG, "top@1")
    said = [await decision(leaning, WEAK)]
    await post(leaning, "assessments", found("top-api@1"))
    said.append(await decision(leaning, WEAK))
    await post(leaning, "assessments", found("top-api@1", "reached"))
    said.append(await decision(leaning, WEAK))

    assert said == ["deny", "allow", "deny"]


async def test_two_that_lean_on_each_other_rule_nothing_out(leaning: httpx.AsyncClient) -> None:
    await bounded(leaning, WEAK, STRONG)
    await bounded(leaning, STRONG, WEAK)

    assert [await decision(leaning, model) for model in (WEAK, STRONG)] == ["deny", "deny"]


async def test_what_is_too_far_away_rules_nothing_out(leaning: httpx.AsyncClient) -> None:
    """A chain without end would be read without end."""
    chain = [f"link-{i:02}@1" for i in range(MOST_OTHERS + 2)]
    for model in chain:
        await register(leaning, model)
    for model, other in pairwise(chain):
        await bounded(leaning, model, other)
    await post(leaning, "assessments", found(chain[-1]))

    assert await decision(leaning, chain[0]) == "deny"
    assert await decision(leaning, chain[-2]) == "allow"


@pytest.mark.parametrize(
    ("outcome", "field"), [("bounded-by", "bounded_by"), ("carried-over", "carried_over_from")]
)
async def test_what_it_leans_on_must_be_registered(
    leaning: httpx.AsyncClient, outcome: str, field: str
) -> None:
    body = found(WEAK, outcome, **{field: "nobody@1"})
    answer = await leaning.post("/v1/assessments", json=body)

    assert problem(answer) == (422, "invalid-document")
    assert [e["pointer"] for e in answer.json()["errors"]] == [f"/findings/0/{field}"]


async def test_a_supposed_finding_leans_on_what_is_recorded(leaning: httpx.AsyncClient) -> None:
    """So that what is simulated is what would be said if it were recorded."""
    body = found(WEAK, "bounded-by", bounded_by=STRONG)
    question = {"model": WEAK, "action": ACTION, "policy": "small"}
    simulated = question | {"evidence": {"assessments": [body]}}
    said = []
    for outcome in ("inconclusive", "ruled-out"):
        await post(leaning, "assessments", found(STRONG, outcome))
        answer = await leaning.post("/v1/simulations", json=simulated)
        said.append(answer.json()["decision"])

    assert said == ["deny", "allow"]
