"""Exceptions: asked for by one, approved by two others in the roles that the policy names, for a
time that it permits.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.vocabulary import read_instant
from tests.http.conftest import Service
from tests.http.published import Json, problem
from tests.http.small import ACTION, decide, decision, found, in_force, policy, post, register, soon

MODEL = "m@1"


def requested(**more: Any) -> Json:
    return {
        "model": MODEL,
        "policy": "small",
        "action": ACTION,
        "exception": "interim-measures",
        "standard": "s",
        "measures": "answers are blocked",
        "reason": "the standard is being built",
        "valid_until": soon(days=30),
    } | more


@pytest.fixture
async def asker(
    empty: Service, empty_client: httpx.AsyncClient
) -> AsyncIterator[httpx.AsyncClient]:
    """Who asks, of a service in which a model version has reached the threshold."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, MODEL)
    await post(empty_client, "assessments", found(MODEL, "reached"))
    async with empty.client((await empty.new_key("assessor")).text) as client:
        yield client


@pytest.fixture
async def approvers(
    empty: Service,
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Two people who may approve."""
    one, other = (await empty.new_key("approver")).text, (await empty.new_key("approver")).text
    async with empty.client(one) as first, empty.client(other) as second:
        yield first, second


Two = tuple[httpx.AsyncClient, httpx.AsyncClient]


async def approve(
    client: httpx.AsyncClient, exception: Json, role: str, **how: Any
) -> httpx.Response:
    path = f"/v1/exceptions/{exception['id']}/approvals"
    return await client.post(path, json={"role": role, "reason": "it will do"}, **how)


async def approved(asker: httpx.AsyncClient, approvers: Two, **more: Any) -> Json:
    """An exception that counts."""
    exception = await post(asker, "exceptions", requested(**more))
    for client, role in zip(approvers, ("ceo", "rso"), strict=True):
        answer = await approve(client, exception, role)
        assert answer.status_code == 201, answer.text
    return exception


async def test_it_counts_once_both_roles_have_approved(
    asker: httpx.AsyncClient, approvers: Two, empty_client: httpx.AsyncClient
) -> None:
    """The request alone, and one approval, let nothing pass."""
    said = [await decision(empty_client, MODEL)]
    exception = await post(asker, "exceptions", requested())
    said.append(await decision(empty_client, MODEL))
    for client, role in zip(approvers, ("ceo", "rso"), strict=True):
        await approve(client, exception, role)
        said.append(await decision(empty_client, MODEL))

    assert said == ["deny", "deny", "deny", "allow_with_conditions"]
    determination = await decide(empty_client, MODEL)
    assert "interim-measures" in {one["code"] for one in determination["conditions"]}
    assert exception["id"] in {one["id"] for one in determination["provenance"]["evidence"]}
    assert sum("exa_" in one["id"] for one in determination["provenance"]["evidence"]) == 2
    assert determination["valid_until"] == exception["valid_until"]


async def test_it_lapses(
    asker: httpx.AsyncClient, approvers: Two, empty_client: httpx.AsyncClient
) -> None:
    """A determination about the moment after its end denies, from what is on record now."""
    exception = await approved(asker, approvers)
    lapses = read_instant(exception["valid_until"])
    simulated = {"model": MODEL, "action": ACTION, "policy": "small", "on_top_of_record": True}

    said = []
    for at in (lapses - timedelta(seconds=1), lapses):
        question = simulated | {"at": at.isoformat()}
        answer = await empty_client.post("/v1/simulations", json=question)
        said.append(answer.json()["decision"])

    assert said == ["allow_with_conditions", "deny"]


@pytest.mark.parametrize("name", ["interim-measures", "break-glass"])
async def test_each_answer_that_leans_on_it_is_said_aloud(
    asker: httpx.AsyncClient,
    approvers: Two,
    empty_client: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """It works at once; and the answer, the log and a number to watch all say so, once an answer."""
    await approved(asker, approvers, exception=name)
    caplog.clear()
    determination = await decide(empty_client, MODEL)
    gate = await post(empty_client, "gate", {"model": MODEL, "action": ACTION})
    again = {"Idempotency-Key": "once"}
    for _ in range(2):
        await empty_client.post("/v1/gate", json={"model": MODEL, "action": ACTION}, headers=again)

    assert gate["decision"] == "allow_with_conditions"
    said = [r.getMessage() for r in caplog.records if r.name == "aslgate.exceptions"]
    assert len(said) == 3
    assert f"`{determination['id']}` leans on the exception `{name}` of `small`" in said[0]
    metrics = (await empty_client.get("/metrics")).text
    counted = f'aslgate_exceptions_leaned_on_total{{exception="{name}",policy="small"}} 3.0'
    assert counted in metrics


async def test_a_withdrawn_exception_lets_nothing_pass(
    asker: httpx.AsyncClient, approvers: Two, empty_client: httpx.AsyncClient
) -> None:
    exception = await approved(asker, approvers)
    seen = (await decide(empty_client, MODEL))["ledger"]["index"]
    withdrawn = await post(asker, f"exceptions/{exception['id']}/withdrawal", {"reason": "no"})

    assert withdrawn["exception"] == exception["id"]
    assert await decision(empty_client, MODEL) == "deny"
    assert await decision(empty_client, MODEL, known_at=seen) == "allow_with_conditions"
    assert problem(await approve(approvers[0], exception, "ceo")) == (409, "exception-ended")


async def test_what_was_known_before_an_approval_does_not_have_it(
    asker: httpx.AsyncClient, approvers: Two, empty_client: httpx.AsyncClient
) -> None:
    exception = await post(asker, "exceptions", requested())
    first = (await approve(approvers[0], exception, "ceo")).json()
    second = (await approve(approvers[1], exception, "rso")).json()

    at = first["ledger"]["index"] + 1, second["ledger"]["index"] + 1
    said = [await decision(empty_client, MODEL, known_at=size) for size in at]
    assert said == ["deny", "allow_with_conditions"]


async def test_nobody_approves_their_own_request(
    empty_client: httpx.AsyncClient, asker: httpx.AsyncClient
) -> None:
    """Not even with the key that may do everything, nor under an `Idempotency-Key`."""
    exception = await post(empty_client, "exceptions", requested())
    size = exception["ledger"]["index"] + 1
    for headers in ({}, {"Idempotency-Key": "k"}):
        answer = await approve(empty_client, exception, "ceo", headers=headers)
        assert problem(answer) == (409, "self-approval")
    later = await post(asker, "exceptions", requested())
    assert later["ledger"]["index"] == size


async def test_two_roles_are_two_people(
    asker: httpx.AsyncClient, approvers: Two, empty_client: httpx.AsyncClient
) -> None:
    exception = await post(asker, "exceptions", requested())
    first = await approve(approvers[0], exception, "ceo")

    assert first.status_code == 201
    assert problem(await approve(approvers[0], exception, "rso")) == (409, "four-eyes")
    assert problem(await approve(approvers[0], exception, "ceo")) == (409, "already-recorded")
    assert await decision(empty_client, MODEL) == "deny"


async def test_only_the_roles_that_the_policy_names_approve(
    asker: httpx.AsyncClient, approvers: Two
) -> None:
    exception = await post(asker, "exceptions", requested())
    answer = await approve(approvers[0], exception, "board")

    assert problem(answer) == (422, "invalid-document")
    assert [e["code"] for e in answer.json()["errors"]] == ["not-an-approver"]


@pytest.mark.parametrize(
    ("more", "pointer", "code"),
    [
        ({"model": "n@1"}, "/model", "unknown-model"),
        ({"policy": "nobodys"}, "/policy", "unknown-policy"),
        ({"standard": "z"}, "/standard", "unknown-standard"),
        ({"action": "fly"}, "/action", "unknown-action"),
        ({"exception": "because-i-say-so"}, "/exception", "not-permitted"),
        ({"valid_until": "2025-01-01T00:00:00Z"}, "/valid_until", "in-the-past"),
        ({"valid_until": soon(days=91)}, "/valid_until", "too-long"),
        ({"exception": "break-glass", "valid_until": soon(days=31)}, "/valid_until", "too-long"),
    ],
)
async def test_what_the_policy_does_not_permit_is_refused(
    asker: httpx.AsyncClient, more: Json, pointer: str, code: str
) -> None:
    answer = await asker.post("/v1/exceptions", json=requested(**more))

    assert problem(answer) == (422, "invalid-document")
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [(pointer, code)]


async def test_it_begins_now_where_it_does_not_say_when(asker: httpx.AsyncClient) -> None:
    """Who asked is on record too; the request cannot say so itself."""
    exception = await post(asker, "exceptions", requested())

    assert exception["valid_from"] <= exception["ledger"]["recorded_at"]
    assert exception["requested_by"].startswith("person:")
    forged = await asker.post("/v1/exceptions", json=requested(requested_by="somebody"))
    assert problem(forged) == (422, "invalid-document")


async def test_request_and_approvals_are_read_as_they_were_recorded(
    asker: httpx.AsyncClient, approvers: Two
) -> None:
    exception = await post(asker, "exceptions", requested())
    other = await post(asker, "exceptions", requested())
    approval = await approve(approvers[0], exception, "ceo")
    location = approval.headers["Location"]

    assert (await asker.get(f"/v1/exceptions/{exception['id']}")).json() == exception
    assert (await asker.get(location)).json() == approval.json()
    elsewhere = location.replace(exception["id"], other["id"])
    assert problem(await asker.get(elsewhere)) == (404, "not-found")
