"""Ways around the gate that were tried by somebody who wanted a model shipped; each is closed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.operations.turns import Queue, Turns
from app.storage.ledger import Appended, Ledger
from tests.http.conftest import Service
from tests.http.published import problem
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


# --- What a number is told in --------------------------------------------------------------------


def on_a_line(name: str, unit: str, below: float, **more: Any) -> dict[str, Any]:
    """A policy whose one threshold a number below that rules out, told in that unit."""
    line = {"title": "t", "unit": unit, "riskier": "higher", "rule_out": {"below": below}}
    document = policy(name, lines={"score": line | {"point_value_suffices": True}}, **more)
    document["thresholds"]["T"] |= {
        "ruled_out": {"line": "score", "zone": "rule_out"},
        "evidence": ["score"],
    }
    return document


def measured(model: str, **result: Any) -> dict[str, Any]:
    """An assessment with one result on that line."""
    return {
        "model": model,
        "kind": "comprehensive",
        "conducted_at": soon(seconds=-5),
        "assessor": "a",
        "results": [{"line": "score"} | result],
    }


@pytest.fixture
async def two_units(empty: Service, empty_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a service with two policies that tell the same line in different units."""
    await in_force(empty, empty_client, on_a_line("shares", "share", 0.05))
    await in_force(empty, empty_client, on_a_line("percents", "percent", 5))
    await register(empty_client, "m@1")
    return empty_client


async def test_nine_tenths_are_not_read_as_nine_tenths_of_a_per_cent(
    two_units: httpx.AsyncClient,
) -> None:
    """A result counts only where the line is told in the unit that it says."""
    await post(two_units, "assessments", measured("m@1", value=0.9, unit="share"))
    high = [await decision(two_units, "m@1", policy=name) for name in ("shares", "percents")]
    await post(two_units, "assessments", measured("m@1", value=0.9, unit="percent"))
    low = [await decision(two_units, "m@1", policy=name) for name in ("shares", "percents")]

    assert (high, low) == (["deny", "deny"], ["deny", "allow"])


@pytest.mark.parametrize("unit", [{}, {"unit": "percents"}])
async def test_a_result_that_could_be_read_in_two_units_must_say_in_which(
    two_units: httpx.AsyncClient, unit: dict[str, str]
) -> None:
    answer = await two_units.post("/v1/assessments", json=measured("m@1", value=0.9, **unit))

    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == "/results/0/unit"
    assert "`percent` or `share`" in fault["message"]


async def test_a_unit_need_not_be_said_where_there_is_one(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, on_a_line("small", "share", 0.05))
    await register(empty_client, "m@1")
    await post(empty_client, "assessments", measured("m@1", value=0.04))

    assert await decision(empty_client, "m@1") == "allow"


# --- Taking back what counts against -------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "against"),
    [
        ("assessments", found("m@1", "reached")),
        ("assessments", found("m@1", "inconclusive")),
        ("assessments", found("m@1") | {"effective_compute_ratio": 8}),
        (
            "safeguards",
            {"model": "m@1", "policy": "small", "standard": "s", "met": False}
            | {"valid_from": "2025-01-01T00:00:00Z", "stated_by": "x"},
        ),
        (
            "sign-offs",
            {"model": "m@1", "policy": "small", "action": ACTION, "role": "ceo"}
            | {"verb": "reversed", "reason": "r"},
        ),
    ],
)
async def test_nobody_takes_back_what_another_found_against_it(
    empty: Service, empty_client: httpx.AsyncClient, path: str, against: dict[str, Any]
) -> None:
    """They record what they found themselves, and both are seen; who recorded it may withdraw it."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    piece = await post(empty_client, path, against)
    withdrawal = f"/v1/{path}/{piece['id']}/withdrawal"
    async with empty.client((await empty.new_key("admin")).text) as another:
        refused = await another.post(withdrawal, json={"reason": "it stands in the way"})
    taken_back = await empty_client.post(withdrawal, json={"reason": "of another model"})

    assert problem(refused) == (409, "withdrawal-by-another")
    assert taken_back.status_code == 201


async def test_anybody_who_may_takes_back_what_permits(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    piece = await post(empty_client, "assessments", found("m@1"))
    async with empty.client((await empty.new_key("assessor")).text) as another:
        answer = await another.post(
            f"/v1/assessments/{piece['id']}/withdrawal", json={"reason": "it was never tested"}
        )

    assert answer.status_code == 201
    assert await decision(empty_client, "m@1") == "deny"


async def test_two_findings_do_not_supersede_one_another(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """What is named instead must count itself; else both would be gone, each with a successor."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    one = await post(empty_client, "assessments", found("m@1", "reached"))
    other = await post(empty_client, "assessments", found("m@1", "reached"))
    path = "/v1/assessments/{}/withdrawal"
    said = {"reason": "r", "kind": "superseded"}
    first = await empty_client.post(
        path.format(one["id"]), json=said | {"superseded_by": other["id"]}
    )
    second = await empty_client.post(
        path.format(other["id"]), json=said | {"superseded_by": one["id"]}
    )

    assert (first.status_code, problem(second)) == (201, (422, "invalid-document"))
    assert [fault["pointer"] for fault in second.json()["errors"]] == ["/superseded_by"]


# --- An older version comes back -----------------------------------------------------------------


async def test_a_superseded_version_comes_back_only_by_two_and_with_a_reason(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """What was approved was to be first; that it is to come instead of the newer one was not."""
    await in_force(empty, empty_client, policy())
    await in_force(empty, empty_client, policy(version="2"), "2024-06-01T00:00:00Z")
    path = "/v1/policies/small/versions/1"
    why = {"reason": "version 2 cannot be kept"}

    silent = await empty_client.post(f"{path}/activation", json={})
    alone = await empty_client.post(f"{path}/activation", json=why)
    async with empty.client((await empty.new_key("policy-approver")).text) as second:
        approved = await second.post(f"{path}/approvals", json={"reason": "it must come back"})
        own = await second.post(f"{path}/activation", json=why)
    together = await empty_client.post(f"{path}/activation", json=why)

    assert problem(silent) == (422, "invalid-document")
    assert [fault["pointer"] for fault in silent.json()["errors"]] == ["/reason"]
    assert problem(alone) == (409, "not-approved")
    assert (approved.status_code, problem(own)) == (201, (409, "not-approved"))
    assert together.status_code == 201, together.text


async def test_a_version_whose_date_is_corrected_does_not_come_back(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """It is in force before and after that instant, or was not before: nothing newer is undone."""
    await in_force(empty, empty_client, policy())
    await in_force(empty, empty_client, policy(version="2"), "2024-06-01T00:00:00Z")
    since = {"retroactive": True, "reason": "it was published earlier"}
    answers = [
        await empty_client.post(
            f"/v1/policies/small/versions/{version}/activation", json=since | {"in_force_from": at}
        )
        for version, at in (("1", "2023-12-01T00:00:00Z"), ("2", "2024-05-01T00:00:00Z"))
    ]

    assert [answer.status_code for answer in answers] == [201, 201]


# --- Reading what no longer answers --------------------------------------------------------------

STOP = {
    "model": "m@1",
    "issuer": "i",
    "issued_by": "company",
    "effect": "stop",
    "statement": "not now",
}


async def test_an_answer_that_is_read_by_its_id_says_where_it_no_longer_answers(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Also where the policy that speaks now was out of scope, and the caller has the bytes."""
    await in_force(empty, empty_client, policy())
    await in_force(empty, empty_client, policy("other", applies_to={"developer": ["somebody"]}))
    await register(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1"))
    gate = await empty_client.post("/v1/gate", json={"model": "m@1", "action": ACTION})
    location = gate.headers["Location"]
    paths = (location, f"/v1/determinations/{gate.json()['determinations'][0]}")
    fresh = [await empty_client.get(path) for path in paths]
    await post(empty_client, "orders", STOP)
    stale = [await empty_client.get(path) for path in paths]
    known = await empty_client.get(location, headers={"If-None-Match": fresh[0].headers["ETag"]})
    bare = {"Accept": "application/vnd.aslgate.determination+json"}
    bytes_alone = await empty_client.get(paths[1], headers=bare)

    assert gate.json()["allowed"] is True
    assert ["Determination-Superseded" in answer.headers for answer in fresh] == [False, False]
    for answer in (*stale, known, bytes_alone):
        assert answer.headers["Determination-Superseded"] == "true"
    assert known.status_code == 304


async def test_an_answer_that_has_lapsed_says_so_when_it_is_read(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1"))
    begins = soon(seconds=1)
    await post(empty_client, "orders", STOP | {"begins_at": begins})
    gate = await post(empty_client, "gate", {"model": "m@1", "action": ACTION})
    await asyncio.sleep(1.1)

    for path in (f"/v1/gates/{gate['id']}", f"/v1/determinations/{gate['determinations'][0]}"):
        assert (await empty_client.get(path)).headers["Determination-Expired"] == begins


async def test_asking_the_laxer_policy_afterwards_does_not_make_it_the_latest(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Nor a policy that nobody knows, of which every answer is no."""
    await in_force(empty, empty_client, policy("aaa"))
    await in_force(empty, empty_client, policy("zzz"))
    await register(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1", policy="zzz"))
    lax = await decide(empty_client, "m@1", policy="zzz")
    await decide(empty_client, "m@1", policy="no-such-policy")
    path = f"/v1/models/m@1/determination?action={ACTION}"
    only = (await empty_client.get(path)).json()
    strict = await decide(empty_client, "m@1", policy="aaa")
    await decide(empty_client, "m@1", policy="zzz")

    assert (only["id"], lax["decision"]) == (lax["id"], "allow")
    assert (await empty_client.get(path)).json()["id"] == strict["id"]
    assert (await empty_client.get(f"{path}&policy=zzz")).json()["decision"] == "allow"


# --- Names and claims ----------------------------------------------------------------------------


async def test_a_draft_does_not_make_a_misspelt_order_look_right(
    empty: Service, empty_client: httpx.AsyncClient, author: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, policy())
    draft = policy("mine")
    draft["actions"] = {"deplyo": draft["actions"][ACTION]}
    draft["thresholds"]["T"]["requires"][0]["before"] = ["deplyo"]
    draft["exceptions"]["break-glass"]["actions"] = ["deplyo"]
    recorded = await author.post("/v1/policies/mine/versions", json=draft)
    await register(empty_client, "m@1")
    order = STOP | {"actions": ["deplyo"]}
    refused = await empty_client.post("/v1/orders", json=order)

    assert (recorded.status_code, problem(refused)) == (201, (422, "invalid-document"))
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/actions/0"]


@pytest.mark.parametrize(
    ("one", "other", "status"),
    [
        (None, None, 422),
        ("file", "file", 422),
        ("oci-manifest", "oci-manifest", 201),
        ("file", "oci-manifest", 201),
    ],
)
async def test_the_same_weights_do_not_have_two_digests_of_their_own(
    empty: Service,
    empty_client: httpx.AsyncClient,
    one: str | None,
    other: str | None,
    status: int,
) -> None:
    """What serves them may differ; of a digest whose kind is not given it is supposed to be theirs."""
    await in_force(empty, empty_client, policy())
    first = {"digest": f"sha256:{'a' * 64}"} | ({} if one is None else {"digest_kind": one})
    await register(empty_client, "good@1", weights="w", **first)
    second = {"digest": f"sha256:{'b' * 64}"} | ({} if other is None else {"digest_kind": other})
    body = {"model": "m@1", "developer": "lab", "weights": "w"} | second
    answer = await empty_client.post("/v1/models", json=body)

    assert answer.status_code == status, answer.text
    if status == 422:
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/digest"]


# --- Waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["gate", "determinations"])
async def test_an_allow_that_lapses_while_it_waits_is_decided_again(
    empty: Service,
    empty_client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    """Nobody is given an answer that held until before it was recorded."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1"))
    begins = soon(seconds=1)
    await post(empty_client, "orders", STOP | {"begins_at": begins})
    append, waits = Ledger.append, [1.5]

    async def append_late(self: Ledger, *drafts: Any, **how: Any) -> Appended:
        await asyncio.sleep(waits.pop() if waits else 0)
        return await append(self, *drafts, **how)

    monkeypatch.setattr(Ledger, "append", append_late)
    question = {"model": "m@1", "action": ACTION}
    if path == "determinations":
        question["policy"] = "small"
    said = await post(empty_client, path, question)

    assert waits == [], "it was recorded at once, so this shows nothing"
    assert said["decision"] == "deny"


async def test_a_gate_that_lapses_again_and_again_is_refused(
    empty: Service, empty_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One order begins after another, and each time before the answer can be recorded."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    for i in range(1, 30):
        await post(empty_client, "orders", STOP | {"begins_at": soon(seconds=i * 0.5)})
    append = Ledger.append

    async def append_late(self: Ledger, *drafts: Any, **how: Any) -> Appended:
        await asyncio.sleep(0.7)
        return await append(self, *drafts, **how)

    monkeypatch.setattr(Ledger, "append", append_late)
    answer = await empty_client.post("/v1/gate", json={"model": "m@1", "action": ACTION})

    assert problem(answer) == (503, "unavailable")
    assert (answer.json()["reason"], "Retry-After" in answer.headers) == ("contention", True)


async def test_long_computations_do_not_crowd_out_the_gate(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """So many run at once; who comes beyond the queue is told to come back, and gets a turn then."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    determination = await decide(empty_client, "m@1")
    turns = Turns(Queue(1, most_waiting=0), Queue(1, most_waiting=0))
    empty.app.state.turns = turns
    backtest = "/v1/policies/small/versions/1/backtest"
    explanation = f"/v1/determinations/{determination['id']}/explanation"

    async def ask() -> list[httpx.Response]:
        return [
            await empty_client.post(backtest, json={"scope": "current"}),
            await empty_client.get(explanation),
        ]

    async with turns.backtests.turn(), turns.explanations.turn():
        busy = await ask()
        plain = await empty_client.get(f"{explanation}?settling=false")
        gate = await empty_client.post("/v1/gate", json={"model": "m@1", "action": ACTION})
    after = [answer.status_code for _ in range(2) for answer in await ask()]

    assert [problem(answer) for answer in busy] == [(503, "unavailable")] * 2
    assert [answer.json()["reason"] for answer in busy] == ["busy"] * 2
    assert all("Retry-After" in answer.headers for answer in busy)
    assert (plain.status_code, gate.status_code) == (200, 201)
    assert after == [200] * 4
