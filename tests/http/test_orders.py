"""Orders from outside the policy: they close the gate, and only a lifting on record opens it."""

from typing import Any

import httpx

from tests.http.conftest import Service
from tests.http.published import OPUS, POLICY, RELEASE, Json, asked, problem

STOP = {
    "model": OPUS,
    "issuer": "a government",
    "issued_by": "government",
    "effect": "stop",
    "statement": "nobody is to be served until it was looked at",
    "begins_at": "2025-05-20T00:00:00Z",
}


async def record(client: httpx.AsyncClient, **more: Any) -> Json:
    answer = await client.post("/v1/orders", json=STOP | more)
    assert answer.status_code == 201, answer.text
    said: Json = answer.json()
    return said


async def lift(client: httpx.AsyncClient, order: Json, **more: Any) -> httpx.Response:
    body = {"reason": "it was looked at"} | more
    return await client.post(f"/v1/orders/{order['id']}/lifting", json=body)


async def decide(client: httpx.AsyncClient, at: str = RELEASE, **more: Any) -> Json:
    answer = await client.post("/v1/determinations", json=asked(at=at, **more))
    assert answer.status_code == 201, answer.text
    said: Json = answer.json()
    return said


async def test_an_order_stops_what_the_policy_allows_until_it_is_lifted(
    client: httpx.AsyncClient,
) -> None:
    """The order and its lifting are among what the determination rests on."""
    assert (await decide(client))["decision"] == "allow"
    order = await record(client)

    stopped = await decide(client)
    lifted = await lift(client, order, lifted_at="2025-05-22T00:00:00Z")
    after = await decide(client)

    assert (stopped["decision"], stopped["basis"]) == ("deny", "outside-policy")
    assert lifted.status_code == 201, lifted.text
    assert after["decision"] == "allow"
    named = {one["id"] for one in after["provenance"]["evidence"]}
    assert {order["id"], lifted.json()["id"]} <= named


async def test_it_stands_from_its_beginning_up_to_its_lifting(client: httpx.AsyncClient) -> None:
    """What the service is asked about an instant is answered for that instant."""
    order = await record(client, begins_at="2025-05-23T00:00:00Z")
    await lift(client, order, lifted_at="2025-05-25T00:00:00Z")

    said = [
        (await decide(client, at))["decision"]
        for at in (
            "2025-05-22T23:59:59Z",
            "2025-05-23T00:00:00Z",
            "2025-05-24T23:59:59Z",
            "2025-05-25T00:00:00Z",
        )
    ]

    assert said == ["allow", "deny", "deny", "allow"]


async def test_what_was_known_before_sees_no_later_lifting(client: httpx.AsyncClient) -> None:
    order = await record(client)
    seen = order["ledger"]["index"] + 1
    await lift(client, order, lifted_at="2025-05-21T00:00:00Z")

    before = await decide(client, known_at=order["ledger"]["index"])
    then = await decide(client, known_at=seen)
    now = await decide(client)

    assert [one["decision"] for one in (before, then, now)] == ["allow", "deny", "allow"]


async def test_an_order_is_lifted_once(client: httpx.AsyncClient) -> None:
    """The key of the first lifting gives its answer again; everything else is refused."""
    order = await record(client)
    path, body = f"/v1/orders/{order['id']}/lifting", {"reason": "it was looked at"}
    first = await client.post(path, json=body, headers={"Idempotency-Key": "once"})
    again = await client.post(path, json=body, headers={"Idempotency-Key": "once"})
    another = await client.post(path, json=body, headers={"Idempotency-Key": "twice"})
    without = await client.post(path, json=body)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json()
    assert problem(another) == problem(without) == (409, "already-recorded")


async def test_an_order_and_its_lifting_are_read_as_they_were_recorded(
    client: httpx.AsyncClient,
) -> None:
    order = await record(client)
    lifted = await lift(client, order)

    assert (await client.get(f"/v1/orders/{order['id']}")).json() == order
    assert (await client.get(lifted.headers["Location"])).json() == lifted.json()
    assert lifted.json()["order"] == order["id"]
    assert lifted.json()["lifted_at"]
    assert problem(await client.get(f"/v1/liftings/{order['id']}")) == (404, "not-found")


async def test_nothing_is_lifted_that_is_not_there_or_in_the_future(
    client: httpx.AsyncClient,
) -> None:
    order = await record(client)
    assert problem(await lift(client, {"id": f"ord_{'0' * 32}"})) == (404, "not-found")
    later = await lift(client, order, lifted_at="2999-01-01T00:00:00Z")
    assert problem(later) == (422, "invalid-document")
    assert later.json()["errors"][0]["pointer"] == "/lifted_at"


async def test_what_an_order_requires_must_be_known(client: httpx.AsyncClient) -> None:
    order = STOP | {"effect": "require", "policy": POLICY, "standards": ["asl-9-wishes"]}
    answer = await client.post("/v1/orders", json=order)

    assert problem(answer) == (422, "invalid-document")
    (fault,) = answer.json()["errors"]
    assert (fault["pointer"], fault["code"]) == ("/standards/0", "unknown-standard")


async def test_only_an_order_keeper_records_and_lifts(service: Service) -> None:
    async with (
        service.client((await service.new_key("order-keeper")).text) as keeper,
        service.client((await service.new_key("approver")).text) as approver,
    ):
        order = await record(keeper)
        assert problem(await approver.post("/v1/orders", json=STOP)) == (403, "forbidden")
        assert problem(await lift(approver, order)) == (403, "forbidden")
        assert (await lift(keeper, order)).status_code == 201
