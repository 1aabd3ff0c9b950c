"""Model versions that serve the same weights share what was found of them, and nothing else."""

import httpx
import pytest

from tests.http.conftest import Service
from tests.http.published import problem
from tests.http.small import ACTION, decide, decision, found, in_force, policy, post, register, soon

ONE, OTHER, APART = "chat@1", "api@1", "else@1"


@pytest.fixture
async def served(empty: Service, empty_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a service with two model versions of the same weights, and one of others."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, ONE, weights="w1")
    await register(empty_client, OTHER, weights="w1")
    await register(empty_client, APART, weights="w2")
    return empty_client


async def test_what_was_found_of_the_weights_speaks_for_all_who_serve_them(
    served: httpx.AsyncClient,
) -> None:
    """Also where a determination was made before, and is in memory; and a withdrawal is seen."""
    said = [[await decision(served, model) for model in (ONE, OTHER, APART)]]
    assessment = await post(served, "assessments", found(ONE))
    said.append([await decision(served, model) for model in (ONE, OTHER, APART)])
    await post(served, f"assessments/{assessment['id']}/withdrawal", {"reason": "r"})
    said.append([await decision(served, model) for model in (ONE, OTHER, APART)])

    assert said == [["deny"] * 3, ["allow", "allow", "deny"], ["deny"] * 3]


async def test_one_that_is_registered_later_is_spoken_for_at_once(
    served: httpx.AsyncClient,
) -> None:
    assessment = await post(served, "assessments", found(ONE))
    late = "batch@1"
    assert await decision(served, late) == "deny"
    await register(served, late, weights="w1")

    determination = await decide(served, late)

    assert determination["decision"] == "allow"
    assert [e["id"] for e in determination["provenance"]["evidence"]] == [assessment["id"]]
    size = assessment["ledger"]["index"]
    assert await decision(served, OTHER, known_at=size) == "deny"
    assert await decision(served, OTHER, known_at=size + 1) == "allow"


async def test_what_is_in_place_around_one_is_not_around_the_other(
    served: httpx.AsyncClient,
) -> None:
    """Safeguards, sign-offs and orders are those of a deployment, not of the weights."""
    on = {"model": ONE, "policy": "small"}
    in_place = {"standard": "s", "met": True, "valid_from": soon(days=-1), "stated_by": "x"}
    signed = {"action": ACTION, "role": "ceo", "verb": "approved", "reason": "r"}
    order = {"model": ONE, "issuer": "i", "issued_by": "company", "effect": "limit"}
    await post(served, "safeguards", on | in_place)
    await post(served, "sign-offs", on | signed)
    await post(served, "orders", order | {"statement": "s"})

    assert await decision(served, ONE) == "allow_with_conditions"
    assert (await decide(served, OTHER))["provenance"]["evidence"] == []


async def test_a_finding_on_one_supersedes_the_determination_on_the_other(
    served: httpx.AsyncClient,
) -> None:
    """Neither a replay nor the latest determination passes for the answer that now is right."""
    await post(served, "assessments", found(ONE))
    question = {"model": OTHER, "action": ACTION, "policy": "small"}
    key = {"Idempotency-Key": "k"}
    latest = f"/v1/models/{OTHER}/determination?action={ACTION}"
    await post(served, "determinations", question, headers=key)
    fresh = await served.get(latest)

    await post(served, "assessments", found(ONE, "reached"))

    again = await served.post("/v1/determinations", json=question, headers=key)
    assert problem(again) == (409, "determination-superseded")
    assert "Determination-Superseded" not in fresh.headers
    assert (await served.get(latest)).headers["Determination-Superseded"] == "true"
