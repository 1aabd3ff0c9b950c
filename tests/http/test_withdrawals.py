"""Whatever was recorded as evidence can be withdrawn with a reason; an order cannot."""

from typing import Any

import httpx
import pytest

from tests.http.conftest import Service
from tests.http.published import Json, problem
from tests.http.small import ACTION, decide, found, in_force, policy, post, register, soon

MODEL = "m@1"
KINDS = ("assessments", "safeguards", "sign-offs", "exceptions")
NAMED = dict(zip(KINDS, ("assessment", "safeguard", "sign_off", "exception"), strict=True))


def body(kind: str, model: str = MODEL) -> Json:
    on = {"model": model, "policy": "small"}
    return {
        "assessments": found(model),
        "safeguards": on
        | {"standard": "s", "met": True, "valid_from": soon(days=-1), "stated_by": "x"},
        "sign-offs": on | {"action": ACTION, "role": "ceo", "verb": "approved", "reason": "r"},
        "exceptions": on
        | {"action": ACTION, "exception": "interim-measures", "standard": "s"}
        | {"measures": "m", "reason": "r", "valid_until": soon(days=1)},
    }[kind]


async def withdraw(client: httpx.AsyncClient, path: str, id: str, **more: Any) -> httpx.Response:
    how = more.pop("how", {})
    return await client.post(f"/v1/{path}/{id}/withdrawal", json={"reason": "r"} | more, **how)


@pytest.fixture
async def ready(empty: Service, empty_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a service with the small policy and two model versions."""
    await in_force(empty, empty_client, policy())
    for model in (MODEL, "n@1"):
        await register(empty_client, model)
    return empty_client


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_withdrawn_no_longer_counts(ready: httpx.AsyncClient, kind: str) -> None:
    """It is not among what a determination rests on, but is still read, and was known before."""
    piece = await post(ready, kind, body(kind))
    before = await decide(ready, MODEL)

    answer = await withdraw(ready, kind, piece["id"])
    after = await decide(ready, MODEL)

    assert answer.status_code == 201, answer.text
    assert answer.json()[NAMED[kind]] == piece["id"]
    assert [one["id"] for one in before["provenance"]["evidence"]] == [piece["id"]]
    assert after["provenance"]["evidence"] == []
    seen = await decide(ready, MODEL, known_at=before["ledger"]["index"])
    assert seen["provenance"]["evidence"] == before["provenance"]["evidence"]
    assert (await ready.get(f"/v1/{kind}/{piece['id']}")).json() == piece
    assert (await ready.get(answer.headers["Location"])).json() == answer.json()


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_withdrawn_once(ready: httpx.AsyncClient, kind: str) -> None:
    """The key of the first withdrawal gives its answer again; everything else is refused."""
    piece = await post(ready, kind, body(kind))
    key = {"headers": {"Idempotency-Key": "once"}}
    first = await withdraw(ready, kind, piece["id"], how=key)
    again = await withdraw(ready, kind, piece["id"], how=key)

    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json()
    assert problem(await withdraw(ready, kind, piece["id"])) == (409, "already-recorded")


@pytest.mark.parametrize("kind", KINDS)
async def test_its_successor_is_another_of_its_kind_on_its_model(
    ready: httpx.AsyncClient, kind: str
) -> None:
    piece = await post(ready, kind, body(kind))
    successor = await post(ready, kind, body(kind))
    foreign = await post(ready, kind, body(kind, "n@1"))
    other_kind = KINDS[(KINDS.index(kind) + 1) % len(KINDS)]
    unlike = await post(ready, other_kind, body(other_kind))

    for wrong in (piece, foreign, unlike):
        answer = await withdraw(ready, kind, piece["id"], superseded_by=wrong["id"])
        assert problem(answer) == (422, "invalid-document")
        assert [e["pointer"] for e in answer.json()["errors"]] == ["/superseded_by"]
    answer = await withdraw(
        ready, kind, piece["id"], kind="superseded", superseded_by=successor["id"]
    )
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("kind", KINDS)
async def test_the_path_names_what_kind_it_is(ready: httpx.AsyncClient, kind: str) -> None:
    """What may be withdrawn under one permission is not withdrawn under another's path."""
    other = KINDS[(KINDS.index(kind) + 1) % len(KINDS)]
    piece = await post(ready, kind, body(kind))
    assert problem(await withdraw(ready, other, piece["id"])) == (404, "not-found")


async def test_an_order_is_not_withdrawn(ready: httpx.AsyncClient) -> None:
    """Only a lifting ends it, whatever path is tried."""
    order = {"model": MODEL, "issuer": "i", "issued_by": "company", "effect": "stop"}
    recorded = await post(ready, "orders", order | {"statement": "s"})
    for kind in KINDS:
        assert problem(await withdraw(ready, kind, recorded["id"])) == (404, "not-found")
    assert problem(await withdraw(ready, "orders", recorded["id"])) == (404, "no-such-path")
