"""Ways around the gate that were tried by somebody who wanted a model shipped; each is closed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.http.conftest import Service
from tests.http.small import ACTION, decide, decision, found, in_force, policy, post, register, soon


def ordered(**more: Any) -> dict[str, Any]:
    """A government's order about m@1."""
    said = {
        "model": "m@1",
        "issuer": "the government",
        "issued_by": "government",
        "effect": "require",
        "policy": "small",
        "standards": ["s"],
        "statement": "security first",
    }
    return said | more


@pytest.fixture
async def approvers(
    empty: Service,
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Two people who may approve an exception."""
    one, other = (await empty.new_key("approver")).text, (await empty.new_key("approver")).text
    async with empty.client(one) as first, empty.client(other) as second:
        yield first, second


async def test_an_exception_of_the_policy_does_not_excuse_from_an_order(
    empty: Service,
    empty_client: httpx.AsyncClient,
    approvers: tuple[httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1"))
    assert await decision(empty_client, "m@1") == "allow"
    await post(empty_client, "orders", ordered())
    asked = await post(
        empty_client,
        "exceptions",
        {
            "model": "m@1",
            "policy": "small",
            "action": ACTION,
            "exception": "interim-measures",
            "standard": "s",
            "measures": "x",
            "reason": "r",
            "valid_until": soon(days=30),
        },
    )
    for client, role in zip(approvers, ("ceo", "rso"), strict=True):
        body = {"role": role, "reason": "r"}
        given = await client.post(f"/v1/exceptions/{asked['id']}/approvals", json=body)
        assert given.status_code == 201

    assert await decision(empty_client, "m@1") == "deny"


async def test_an_order_under_a_policy_that_does_not_answer_closes_the_gate(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, policy())
    elsewhere = policy("other", applies_to={"developer": ["somebody"]})
    await in_force(empty, empty_client, elsewhere)
    await register(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1"))
    question = {"model": "m@1", "action": ACTION}
    before = await post(empty_client, "gate", question)
    await post(empty_client, "orders", ordered(policy="other"))
    after = await post(empty_client, "gate", question)

    assert (before["decision"], after["decision"], after["allowed"]) == ("allow", "deny", False)
    assert [reason["code"] for reason in after["reasons"]] == ["order.not_answered"]


async def test_an_order_about_an_action_that_nobody_names_is_refused(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    misspelt = ordered(effect="stop", actions=["deplyo"])
    answer = await empty_client.post(
        "/v1/orders", json={k: v for k, v in misspelt.items() if k not in ("policy", "standards")}
    )

    assert answer.status_code == 422
    assert [e["pointer"] for e in answer.json()["errors"]] == ["/actions/0"]


async def test_the_latest_answer_after_a_gate_is_the_strictest_of_it(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, policy("aaa"))
    await in_force(empty, empty_client, policy("zzz"))
    await register(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1", policy="zzz"))
    await post(empty_client, "assessments", found("m@1", "reached", policy="aaa"))
    gate = await post(empty_client, "gate", {"model": "m@1", "action": ACTION})
    latest = await empty_client.get(f"/v1/models/m@1/determination?action={ACTION}")

    assert (gate["decision"], latest.json()["decision"]) == ("deny", "deny")


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"developer": "nobody"}, "/developer"),
        ({"training_compute_flop": 1e27}, "/training_compute_flop"),
        ({"facts": {"open-weights": 1}}, "/facts/open-weights"),
    ],
)
async def test_model_versions_with_the_same_weights_must_agree_on_them(
    empty: Service, empty_client: httpx.AsyncClient, more: dict[str, Any], place: str
) -> None:
    """Else a claim of the weights of a cleared model, or of none that a policy speaks of, opens."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "good@1", weights="w1", training_compute_flop=1e24)
    body = {"model": "bad@9", "developer": "lab", "weights": "w1", "training_compute_flop": 1e24}
    refused = await empty_client.post("/v1/models", json=body | more)
    taken = await empty_client.post("/v1/models", json=body)

    assert (refused.status_code, taken.status_code) == (422, 201)
    assert [(e["pointer"], e["code"]) for e in refused.json()["errors"]] == [
        (place, "weights-disagree")
    ]


async def test_a_finding_carried_over_by_the_wrong_role_puts_off_no_reassessment(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    elapsed = {"elapsed": {"at_least": "P6M", "since_assessment": "comprehensive"}}
    document = policy(reassess={"clause": "c", "when": elapsed})
    document["actions"][ACTION]["needs"] = ["required-standards", "reassessment-not-due"]
    await in_force(empty, empty_client, document)
    await register(empty_client, "m@1")
    await register(empty_client, "fresh@1")
    await post(empty_client, "assessments", found("fresh@1"))
    met = {"policy": "small", "standard": "s", "met": True, "stated_by": "x"}
    await post(empty_client, "safeguards", met | {"model": "m@1", "valid_from": soon(days=-1)})
    carried = found("m@1", "carried-over", carried_over_from="fresh@1", by=["board"])
    await post(empty_client, "assessments", carried)

    answer = await decide(empty_client, "m@1")
    assert answer["decision"] == "deny"
    assert "reassessment.due" in [reason["code"] for reason in answer["reasons"]]


async def test_a_model_that_reached_it_cannot_be_crowded_out(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """So many other models are read and no more; one that is not read may have reached it."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    await register(empty_client, "x@1")
    await post(empty_client, "assessments", found("x@1", "reached"))
    await post(empty_client, "assessments", found("m@1", conducted_at=soon(seconds=-100)))
    since = soon(seconds=-50)
    carried = found("m@1", "carried-over", carried_over_from="x@1", conducted_at=since)
    await post(empty_client, "assessments", carried)
    assert await decision(empty_client, "m@1") == "deny"
    for i in range(16):
        await register(empty_client, f"a{i:02}@1")
        bound = found(
            "m@1",
            "bounded-by",
            bounded_by=f"a{i:02}@1",
            by=["board"],
            conducted_at=soon(seconds=-200),
        )
        await post(empty_client, "assessments", bound)

    assert await decision(empty_client, "m@1") == "deny"


async def test_a_gate_holds_no_longer_than_until_an_order_begins(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, policy())
    await in_force(empty, empty_client, policy("other", applies_to={"developer": ["somebody"]}))
    await register(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1"))
    begins = soon(hours=1)
    await post(empty_client, "orders", ordered(policy="other", begins_at=begins))
    gate = await post(empty_client, "gate", {"model": "m@1", "action": ACTION})

    assert (gate["decision"], gate["valid_until"]) == ("allow", begins)


async def test_weights_that_disagree_are_refused_also_at_once(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, policy())
    answers = await asyncio.gather(
        *(
            empty_client.post(
                "/v1/models", json={"model": f"m{i}@1", "developer": f"lab-{i}", "weights": "w"}
            )
            for i in range(3)
        )
    )

    assert sorted(answer.status_code for answer in answers) == [201, 422, 422]
