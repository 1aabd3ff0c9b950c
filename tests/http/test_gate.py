"""The gate: every policy that applies is asked, and the strictest answer counts."""

import asyncio
from typing import Any

import httpx
import pytest

from app.canonical import digest
from app.operations import determine
from tests.http.conftest import Service
from tests.http.published import Json, problem
from tests.http.small import ACTION, decide, found, in_force, policy, post, register, soon

MODEL = "m@1"
QUESTION = {"model": MODEL, "action": ACTION}


async def ask(client: httpx.AsyncClient, query: str = "", **more: Any) -> Json:
    return await post(client, f"gate{query}", QUESTION | more)


async def allowed(client: httpx.AsyncClient, name: str = "small", **more: Any) -> None:
    """The threshold is ruled out under that policy."""
    await post(client, "assessments", found(MODEL, policy=name, **more))


@pytest.fixture
async def two(empty: Service, empty_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a service with two policies in force that apply, of which one allows."""
    for name in ("small", "other"):
        await in_force(empty, empty_client, policy(name))
    await register(empty_client, MODEL, training_compute_flop=1e25)
    await allowed(empty_client)
    return empty_client


async def test_the_strictest_answer_counts(two: httpx.AsyncClient) -> None:
    """And it says which policy closes the gate, and why."""
    closed = await ask(two)
    await allowed(two, "other")
    opened = await ask(two)

    assert (closed["allowed"], closed["decision"]) == (False, "deny")
    said = {p["policy"]: p["decision"] for p in closed["policies"]}
    assert said == {"small": "allow", "other": "deny"}
    assert {reason["policy"] for reason in closed["reasons"]} == {"other"}
    assert (opened["allowed"], opened["decision"], opened["reasons"]) == (True, "allow", [])


async def test_its_determinations_are_recorded_with_it(
    empty: Service, two: httpx.AsyncClient
) -> None:
    """In one commit, its own record last; each is read like any other."""
    size = await empty.size()
    gate = await ask(two)

    assert await empty.size() == size + 3
    assert [a["ledger"]["index"] for a in gate["answers"]] == [size, size + 1]
    assert gate["ledger"]["index"] == size + 2
    assert [a["id"] for a in gate["answers"]] == gate["determinations"]
    for answer, said in zip(gate["answers"], gate["policies"], strict=True):
        assert (await two.get(f"/v1/determinations/{answer['id']}")).json() == answer
        assert answer["decision"] == said["decision"]
        assert answer["provenance"]["policy"]["name"] == said["policy"]


async def test_it_is_read_as_the_bytes_that_were_hashed(two: httpx.AsyncClient) -> None:
    """Also in the answer: what stands before `answers` is what was hashed."""
    answer = await two.post("/v1/gate", json=QUESTION)
    read = await two.get(answer.headers["Location"])
    unchanged = await two.get(
        answer.headers["Location"], headers={"If-None-Match": answer.headers["ETag"]}
    )

    hashed = answer.content.partition(b',"answers":')[0] + b"}"
    assert answer.headers["ETag"] == read.headers["ETag"] == f'"{digest(hashed)}"'
    assert read.content.startswith(hashed[:-1])
    assert "answers" not in read.json()
    assert unchanged.status_code == 304
    other = f"/v1/gates/{answer.json()['determinations'][0]}"
    assert problem(await two.get(other)) == (404, "not-found")


async def test_without_a_policy_that_applies_it_is_closed(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Whether there is none at all, only a draft, one that is not in force yet, or of others."""
    await register(empty_client, MODEL)
    said = [await ask(empty_client)]
    await post(empty_client, "policies/draft/versions", policy("draft"))
    said.append(await ask(empty_client))
    await in_force(empty, empty_client, policy("later"), since=soon(days=1))
    said.append(await ask(empty_client))
    await in_force(empty, empty_client, policy("foreign", applies_to={"developer": ["x"]}))
    said.append(await ask(empty_client))

    for gate in said:
        assert (gate["allowed"], gate["decision"], gate["policies"]) == (False, "deny", [])
        assert [r["code"] for r in gate["reasons"]] == ["policy.none_applies"]
    assert [len(gate["out_of_scope"]) for gate in said] == [0, 0, 0, 1]
    assert said[-1]["out_of_scope"][0]["policy"] == "foreign"


@pytest.mark.parametrize(
    "scope",
    [
        {"developer": ["somebody-else"]},
        {"developer": ["lab"], "when": {"fact": "training_compute_flop", "above": 1e26}},
    ],
)
async def test_a_policy_out_of_scope_is_passed_over_and_named(
    empty: Service, two: httpx.AsyncClient, scope: Json
) -> None:
    await allowed(two, "other")
    await in_force(empty, two, policy("third", applies_to=scope))

    gate = await ask(two)

    assert gate["decision"] == "allow"
    assert [o["policy"] for o in gate["out_of_scope"]] == ["third"]
    assert gate["out_of_scope"][0]["why"]


async def test_what_is_not_known_of_the_model_leaves_a_policy_in_scope(
    empty: Service, two: httpx.AsyncClient
) -> None:
    """Nobody gets past a policy by leaving out how much compute it was."""
    scope = {"developer": ["lab"], "when": {"fact": "training_compute_flop", "above": 1e26}}
    await in_force(empty, two, policy("third", applies_to=scope))
    await register(two, "n@1")

    gate = await ask(two, model="n@1")
    assert "third" in {p["policy"] for p in gate["policies"]}
    assert gate["out_of_scope"] == []


async def test_nobody_s_model_is_denied_under_every_policy(two: httpx.AsyncClient) -> None:
    gate = await ask(two, model="nobody@1")
    assert gate["decision"] == "deny"
    assert {r["code"] for r in gate["reasons"]} == {"model.unknown"}
    assert len(gate["policies"]) == 2


async def test_conditions_are_accepted_only_by_who_says_so(
    two: httpx.AsyncClient,
) -> None:
    """The record says that the caller took it upon them."""
    await allowed(two, "other")
    order = {"model": MODEL, "issuer": "i", "issued_by": "customer", "effect": "limit"}
    await post(two, "orders", order | {"statement": "only in the daytime"})

    without, with_it = await ask(two), await ask(two, "?accept_conditions=true")

    assert without["decision"] == with_it["decision"] == "allow_with_conditions"
    assert (without["allowed"], without["accepts_conditions"]) == (False, False)
    assert (with_it["allowed"], with_it["accepts_conditions"]) == (True, True)
    refused = await two.post("/v1/gate?enforce=true", json=QUESTION)
    assert problem(refused) == (403, "not-allowed")
    assert (
        await two.post("/v1/gate?enforce=true&accept_conditions=true", json=QUESTION)
    ).is_success


async def test_an_enforced_gate_refuses_with_the_answer_inside(two: httpx.AsyncClient) -> None:
    """It is recorded like any other."""
    refused = await two.post("/v1/gate?enforce=true", json=QUESTION)

    assert problem(refused) == (403, "not-allowed")
    gate = refused.json()["gate"]
    assert gate["allowed"] is False
    recorded = (await two.get(refused.headers["Location"])).json()
    assert recorded["id"] == gate["id"]


async def test_the_same_key_gives_the_same_gate_until_something_moves(
    empty: Service, two: httpx.AsyncClient
) -> None:
    key = {"Idempotency-Key": "k"}
    await allowed(two, "other")
    first = await two.post("/v1/gate", json=QUESTION, headers=key)
    again = await two.post("/v1/gate", json=QUESTION, headers=key)

    await in_force(empty, two, policy("third"))
    later = await two.post("/v1/gate", json=QUESTION, headers=key)

    assert (first.json()["allowed"], again.content) == (True, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert problem(later) == (409, "determination-superseded")


async def test_evidence_that_moves_supersedes_the_gate(two: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    await two.post("/v1/gate", json=QUESTION, headers=key)
    await post(two, "assessments", found(MODEL, "reached"))
    later = await two.post("/v1/gate", json=QUESTION, headers=key)
    assert problem(later) == (409, "determination-superseded")


async def test_it_holds_no_longer_than_until_another_policy_comes_into_force(
    empty: Service, two: httpx.AsyncClient
) -> None:
    """Of that policy there is no determination yet that could say so."""
    await allowed(two, "other")
    unlimited = await ask(two)
    since = soon(hours=1)
    await in_force(empty, two, policy("third"), since=since)

    assert unlimited["valid_until"] is None
    assert (await ask(two))["valid_until"] == since


async def test_a_policy_that_comes_into_force_meanwhile_is_seen(
    empty: Service, two: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading and recording: what was read is not recorded, and all is decided anew."""
    await allowed(two, "other")
    assert (await ask(two))["decision"] == "allow"
    snapshot = empty.store.snapshot
    once = asyncio.Lock()
    begun = False

    async def slowly(*args: Any, **more: Any) -> Any:
        nonlocal begun
        read = await snapshot(*args, **more)
        async with once:
            if not begun:
                begun = True
                await in_force(empty, two, policy("third"))
        return read

    monkeypatch.setattr(empty.store, "snapshot", slowly)
    gate = await ask(two)

    assert begun
    assert gate["decision"] == "deny"
    assert "third" in {p["policy"] for p in gate["policies"]}


async def test_what_another_replica_put_in_force_is_seen(
    empty: Service, two: httpx.AsyncClient, replica: httpx.AsyncClient
) -> None:
    """What this one remembers of which policies there are is checked when it is recorded."""
    await allowed(two, "other")
    before = await ask(two)
    await in_force(empty, replica, policy("third"))

    assert (before["decision"], (await ask(two))["decision"]) == ("allow", "deny")


async def test_what_would_hold_up_everyone_s_commit_is_refused(
    two: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(determine, "MOST_EVIDENCE_NAMED", 1)
    answer = await two.post("/v1/gate", json=QUESTION)
    assert problem(answer) == (422, "invalid-document")
    assert [e["code"] for e in answer.json()["errors"]] == ["too-large"]


async def test_a_gate_s_determinations_know_the_one_before(two: httpx.AsyncClient) -> None:
    before = await decide(two, MODEL)
    gate = await ask(two)
    answer = next(a for a in gate["answers"] if a["provenance"]["policy"]["name"] == "small")
    assert answer["changed"]["since"] == before["id"]
