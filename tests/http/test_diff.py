"""What a version says otherwise than another, asked of the service."""

from typing import Any

import httpx
import pytest

from app.policy.diff import as_text, diff
from app.policy.language import read_policy
from tests.http.published import POLICIES, POLICY, problem

PATH = f"/v1/policies/{POLICY}/versions"


def expected(older: str, newer: str) -> Any:
    return diff(*(read_policy(POLICIES[label].read_bytes(), "yaml") for label in (older, newer)))


@pytest.mark.parametrize(("older", "newer"), [("2.1", "2.2"), ("2.2", "2.1"), ("2.2", "2.2")])
async def test_it_is_told_of_two_recorded_versions(
    reader: httpx.AsyncClient, older: str, newer: str
) -> None:
    """Forwards, backwards and of one with itself, as JSON and for people."""
    answer = await reader.get(f"{PATH}/{newer}/diff", params={"against": older})
    text = await reader.get(f"{PATH}/{newer}/diff", params={"against": older, "format": "text"})

    assert answer.status_code == 200
    assert answer.json() == expected(older, newer).model_dump(mode="json")
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text == as_text(expected(older, newer))


async def test_the_digests_are_those_of_the_versions(reader: httpx.AsyncClient) -> None:
    told = (await reader.get(f"{PATH}/2.2/diff?against=2.1")).json()

    for side, label in (("older", "2.1"), ("newer", "2.2")):
        assert told[side]["digest"] == (await reader.get(f"{PATH}/{label}")).json()["digest"]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (f"{PATH}/9.9/diff?against=2.1", f"{POLICY} 9.9"),
        (f"{PATH}/2.2/diff?against=9.9", f"{POLICY} 9.9"),
        ("/v1/policies/other/versions/2.2/diff?against=2.2", "other 2.2"),
    ],
)
async def test_there_is_none_of_a_version_that_is_not_recorded(
    reader: httpx.AsyncClient, path: str, named: str
) -> None:
    answer = await reader.get(path)

    assert problem(answer) == (404, "not-found")
    assert f"`{named}`" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "parameter"), [("", "against"), ("?against=2.1&format=html", "format")]
)
async def test_a_parameter_that_is_missing_or_unknown_is_named(
    reader: httpx.AsyncClient, query: str, parameter: str
) -> None:
    answer = await reader.get(f"{PATH}/2.2/diff{query}")

    assert problem(answer) == (422, "invalid-parameter")
    assert answer.json()["parameter"] == parameter
