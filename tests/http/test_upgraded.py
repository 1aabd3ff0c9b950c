"""What an older engine answered is not what this one would, even where nothing else has moved.

An engine gets another semantics where the one before was found to be wrong, and that may have been
too lenient. So its answers are as superseded as those whose evidence has moved.
"""

import httpx
import pytest

from app.determination.record import SEMANTICS
from tests.http.conftest import Service
from tests.http.published import problem
from tests.http.small import ACTION, decide, found, in_force, policy, post, register
from tests.http.test_replay import change

MODEL = "m@1"
QUESTION = {"model": MODEL, "action": ACTION, "policy": "small"}
KEY = {"Idempotency-Key": "k"}


@pytest.fixture
async def client(empty: Service, empty_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a service with a model version that may be deployed."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, MODEL)
    await post(empty_client, "assessments", found(MODEL))
    return empty_client


async def given_before(service: Service, id: str) -> None:
    """The determination becomes one of the engine before this one."""
    now, before = (f'"semantics":{one}'.encode() for one in (SEMANTICS, SEMANTICS - 1))
    await change(service, id, now, before)


async def test_an_allow_of_an_older_engine_does_not_come_back_by_its_key(
    empty: Service, client: httpx.AsyncClient
) -> None:
    first = await client.post("/v1/determinations", json=QUESTION, headers=KEY)
    again = await client.post("/v1/determinations", json=QUESTION, headers=KEY)
    assert (first.json()["decision"], again.content) == ("allow", first.content)

    await given_before(empty, first.json()["id"])
    later = await client.post("/v1/determinations", json=QUESTION, headers=KEY)

    assert problem(later) == (409, "determination-superseded")
    assert later.json()["determination"] == first.json()["id"]
    assert "engine" in later.json()["detail"]


async def test_nor_does_one_about_what_was_known(empty: Service, client: httpx.AsyncClient) -> None:
    """The past does not move, and how it is read does."""
    asked = QUESTION | {"known_at": await empty.size()}
    first = await client.post("/v1/determinations", json=asked, headers=KEY)
    assert first.json()["decision"] == "allow"

    await given_before(empty, first.json()["id"])
    later = await client.post("/v1/determinations", json=asked, headers=KEY)

    assert problem(later) == (409, "determination-superseded")


async def test_nor_does_a_gate(empty: Service, client: httpx.AsyncClient) -> None:
    asked = {"model": MODEL, "action": ACTION}
    first = await client.post("/v1/gate", json=asked, headers=KEY)
    assert first.json()["allowed"] is True

    await given_before(empty, first.json()["determinations"][0])
    later = await client.post("/v1/gate", json=asked, headers=KEY)

    assert problem(later) == (409, "determination-superseded")


async def test_it_is_marked_where_it_is_read(empty: Service, client: httpx.AsyncClient) -> None:
    answer = await decide(client, MODEL)
    gate = await post(client, "gate", {"model": MODEL, "action": ACTION})
    reads = (
        f"/v1/determinations/{answer['id']}",
        f"/v1/models/{MODEL}/determination?action={ACTION}&policy=small",
        f"/v1/gates/{gate['id']}",
    )
    fresh = [await client.get(path) for path in reads]
    assert [one.headers.get("Determination-Superseded") for one in fresh] == [None] * 3

    for id in (answer["id"], gate["determinations"][0]):
        await given_before(empty, id)

    stale = [await client.get(path) for path in reads]
    assert [one.headers.get("Determination-Superseded") for one in stale] == ["true"] * 3
