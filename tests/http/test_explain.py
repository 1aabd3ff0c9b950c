"""A determination explained to people, and what would settle a question."""

from typing import Any

import httpx
import pytest

from tests.http.conftest import Service
from tests.http.published import ACTION, OPUS, POLICY, RELEASE, SONNET, Json, asked, problem

QUESTION = {"action": ACTION, "policy": POLICY}


async def determined(client: httpx.AsyncClient, **more: Any) -> Json:
    answer = await client.post("/v1/determinations", json=asked(**more))
    assert answer.status_code == 201, answer.text
    said: Json = answer.json()
    return said


async def test_a_determination_is_explained_in_markdown(client: httpx.AsyncClient) -> None:
    said = await determined(client, at=RELEASE)

    answer = await client.get(f"/v1/determinations/{said['id']}/explanation")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.text.startswith(f"# {ACTION} of {OPUS}\n")
    assert "**Yes**: it may go ahead (decision: allow)" in answer.text
    assert "Chief Executive Officer" in answer.text, "the policy version and the findings are there"
    assert "which is not shown here" not in answer.text, "no piece of evidence is lacking"
    assert str(said["id"]) in answer.text
    assert "It stands in the ledger at position" in answer.text


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("text/plain", "text/plain"),
        ("text/plain, text/markdown;q=0.5", "text/plain"),
        ("text/markdown, text/plain", "text/markdown"),
        ("*/*", "text/markdown"),
        ("", "text/markdown"),
    ],
)
async def test_plain_text_is_given_to_who_asks_for_it(
    client: httpx.AsyncClient, accept: str, media: str
) -> None:
    said = await determined(client, at=RELEASE)

    path = f"/v1/determinations/{said['id']}/explanation"
    answer = await client.get(path, params={"settling": "false"}, headers={"Accept": accept})

    assert answer.headers["content-type"] == f"{media}; charset=utf-8"
    assert ("**" in answer.text) == (media == "text/markdown")


async def test_a_page_says_what_would_have_changed_the_answer(client: httpx.AsyncClient) -> None:
    said = await determined(client, at=RELEASE)
    path = f"/v1/determinations/{said['id']}/explanation"

    told = (await client.get(path)).text
    left_out = (await client.get(path, params={"settling": "false"})).text

    assert "## What would change the answer" in told
    assert "## What would change the answer" not in left_out


async def test_a_denial_of_what_nobody_knows_is_explained_too(client: httpx.AsyncClient) -> None:
    for about in ({"model": "unheard-of@1"}, {"policy": "unheard-of"}, {"action": "unheard-of"}):
        said = await determined(client, **about)

        answer = await client.get(f"/v1/determinations/{said['id']}/explanation")

        assert answer.status_code == 200
        assert "**No**: it may not go ahead" in answer.text
        assert "no evidence was looked at" in answer.text
        assert "Who signed" not in answer.text


async def test_an_old_answer_is_explained_on_what_it_saw(client: httpx.AsyncClient) -> None:
    """What came later changes nothing in what it says, nor in what would have settled it."""
    said = await determined(client, at=RELEASE)
    page, settling = (f"/v1/determinations/{said['id']}/{w}" for w in ("explanation", "settling"))
    before = [(await client.get(path)).content for path in (page, settling)]
    order = {"model": OPUS, "issuer": "An agency", "issued_by": "government", "effect": "stop"}
    more = {"statement": "Stop.", "begins_at": "2025-01-01T00:00:00Z"}
    assert (await client.post("/v1/orders", json=order | more)).status_code == 201

    assert [(await client.get(path)).content for path in (page, settling)] == before


async def test_what_would_settle_it_now_is_told_and_recorded_nowhere(
    standing: Service, reader: httpx.AsyncClient
) -> None:
    size = await standing.size()

    answer = await reader.get(f"/v1/models/{SONNET}/settling", params=QUESTION)

    assert answer.status_code == 200
    said = answer.json()
    assert said["decision"] == "deny"
    assert said["clears"], "an assessment anew would clear it"
    assert said["blocks"] == []
    assert await standing.size() == size


async def test_recording_what_is_said_to_block_blocks(client: httpx.AsyncClient) -> None:
    """The sets are true: an order to stop is one, and it stops."""
    said = await determined(client, at=RELEASE)
    answer = await client.get(f"/v1/determinations/{said['id']}/settling")
    assert answer.json()["decision"] == "allow"
    assert any([move["kind"] for move in way] == ["order"] for way in answer.json()["blocks"])
    order = {"model": OPUS, "issuer": "An agency", "issued_by": "government", "effect": "stop"}
    await client.post("/v1/orders", json=order | {"statement": "Stop.", "begins_at": RELEASE})

    assert (await determined(client, at=RELEASE))["decision"] == "deny"


@pytest.mark.parametrize("page", ["explanation", "settling"])
async def test_what_is_not_a_determination_is_not_found(
    reader: httpx.AsyncClient, page: str
) -> None:
    for id in ("det_1", OPUS):
        answer = await reader.get(f"/v1/determinations/{id}/{page}")
        assert problem(answer) == (404, "not-found")


async def test_an_unknown_model_or_policy_cannot_be_settled(reader: httpx.AsyncClient) -> None:
    nobody = await reader.get("/v1/models/nobody@1/settling", params=QUESTION)
    no_policy = await reader.get(
        f"/v1/models/{OPUS}/settling", params=QUESTION | {"policy": "none"}
    )

    assert problem(nobody) == problem(no_policy) == (404, "not-found")
