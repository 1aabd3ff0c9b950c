"""Recording policy versions: identity by digest, labels never reused."""

import asyncio

import httpx
import orjson
import pytest
import yaml

from tests.http.conftest import AT_FIRST, Service
from tests.http.published import POLICIES, POLICY, Json, problem, send_policy

PATH = f"/v1/policies/{POLICY}/versions"


def document(label: str = "2.2") -> Json:
    """A shipped version as JSON: scalars as text but for those that JSON has words for."""
    told: Json = yaml.safe_load(POLICIES[label].read_text())
    plain: Json = orjson.loads(orjson.dumps(told, default=str))
    return plain


async def test_the_same_version_again_gives_the_same_answer(
    standing: Service, reader: httpx.AsyncClient
) -> None:
    first = await reader.get(f"{PATH}/2.2")
    size = await standing.size()

    again = await send_policy(reader, "2.2")

    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == f"{PATH}/2.2"
    assert await standing.size() == size


async def test_yaml_and_json_of_one_document_are_one_version(
    standing: Service, reader: httpx.AsyncClient
) -> None:
    size = await standing.size()

    answer = await reader.post(PATH, json=document())

    assert answer.status_code == 201, answer.text
    assert answer.json()["digest"] == (await reader.get(f"{PATH}/2.2")).json()["digest"]
    assert await standing.size() == size


async def test_a_label_is_used_once(standing: Service, reader: httpx.AsyncClient) -> None:
    size = await standing.size()

    answer = await reader.post(PATH, json=document() | {"title": "Another title"})

    assert problem(answer) == (409, "already-recorded")
    assert "under other bytes" in answer.json()["detail"]
    assert await standing.size() == size


async def test_two_readings_of_one_text_share_its_date(client: httpx.AsyncClient) -> None:
    """Which of them counts is said by an activation, and by no date in a document."""
    answer = await client.post(PATH, json=document() | {"version": "2.2.1"})

    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "draft"
    assert (await client.get(f"/v1/policies/{POLICY}")).json()["version"] == "2.2"


async def test_a_document_is_recorded_under_the_policy_that_it_names(
    standing: Service, reader: httpx.AsyncClient
) -> None:
    size = await standing.size()

    answer = await reader.post("/v1/policies/other/versions", json=document())

    assert problem(answer) == (422, "invalid-document")
    assert [e["pointer"] for e in answer.json()["errors"]] == ["/policy"]
    assert await standing.size() == size


async def test_one_version_recorded_by_many_at_once_is_recorded_once(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    answers = await asyncio.gather(*(send_policy(empty_client, "2.2") for _ in range(6)))

    assert {a.status_code for a in answers} == {201}
    assert len({a.content for a in answers}) == 1
    assert await empty.size() == AT_FIRST + 1


async def test_two_bodies_of_one_label_at_once_record_one(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    answers = await asyncio.gather(
        *(empty_client.post(PATH, json=document() | {"title": f"Title {i}"}) for i in range(4))
    )

    assert sorted(a.status_code for a in answers) == [201, 409, 409, 409]
    assert await empty.size() == AT_FIRST + 1


async def test_there_is_none_of_an_unknown_name(reader: httpx.AsyncClient) -> None:
    for path in ("/v1/policies/other", f"{PATH}/9.9", "/v1/policies/other/versions/2.2"):
        assert problem(await reader.get(path)) == (404, "not-found")


@pytest.mark.parametrize(
    "at", ["", "2025-05-14", "2025-05-14T00:00:00", "now", "2025-13-01T00:00:00Z"]
)
async def test_an_instant_has_a_date_a_time_and_a_zone(reader: httpx.AsyncClient, at: str) -> None:
    answer = await reader.get(f"/v1/policies/{POLICY}", params={"at": at})

    assert problem(answer) == (422, "invalid-parameter")
    assert answer.json()["parameter"] == "at"
