"""The certification scenario of AuthZEN 1.0, request by request, and the result as we publish it.

Its fixture has users who differ in what they may do to records. Here nobody's name changes an answer,
so its record 1 is a model version that may be deployed, record 2 one that may not, and all its actions
are `deploy`. What then is another answer than it asks for, a model gate cannot hold.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

import httpx

from tests.http.conftest import Service
from tests.http.published import Json
from tests.http.small import ACTION, found, in_force, policy, post, register

CASES: Final[list[Json]] = json.loads(
    (Path(__file__).parent / "samples" / "authzen-certification.json").read_text()
)
PAGE: Final = (Path(__file__).parents[2] / "docs" / "integrations" / "authzen.md").read_text()
OURS: Final = {
    '"record-1"': '"record@1"',
    '"record-2"': '"record@2"',
    '"record"': '"model"',
    '"read"': f'"{ACTION}"',
    '"write"': f'"{ACTION}"',
    '"delete"': f'"{ACTION}"',
}


def translated(text: str) -> str:
    for theirs, ours in OURS.items():
        text = text.replace(theirs, ours)
    return text


async def send(client: httpx.AsyncClient, case: Json, text: str) -> httpx.Response:
    headers = {"Content-Type": case.get("content_type", "application/json")}
    if "request_id" in case:
        headers["X-Request-ID"] = case["request_id"]
    return await client.post(f"/access/v1/{case['path']}", content=text, headers=headers)


def holds_as_a_message(case: Json, answer: httpx.Response) -> bool:
    """The status, the types of what is answered, how many there are, and the request's id."""
    if "request_id" in case and answer.headers.get("X-Request-ID") != case["request_id"]:
        return False
    if answer.status_code != case["status"]:
        return False
    if answer.status_code != 200:
        return True
    if answer.headers["Content-Type"] != "application/json":
        return False
    said = answer.json()
    if case["path"] == "search/resource":
        return all({"type", "id"} <= set(one) for one in said["results"])
    count = case.get("count", len(case.get("decisions", ())))
    decided = said.get("evaluations", [said])
    return len(decided) == count and all(type(one["decision"]) is bool for one in decided)


def holds_as_an_answer(case: Json, answer: httpx.Response) -> bool | None:
    """Whether it is what the scenario asks for; `None`: it does not say."""
    if case["status"] != 200 or "count" in case:
        return None
    said: Any = answer.json()
    if "results" in case:
        wanted = {json.loads(translated(json.dumps(name))) for name in case["results"]}
        listed = {one["id"] for one in said["results"]}
        return wanted <= listed if wanted else not listed
    decided = said.get("evaluations", [said])
    return bool([one["decision"] for one in decided] == case["decisions"])


async def test_the_scenario_s_result_is_the_one_that_is_published(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """As a message each request is sent as it stands in the scenario, too: of names that are unknown."""
    await in_force(empty, empty_client, policy())
    for model in ("record@1", "record@2"):
        await register(empty_client, model)
    await post(empty_client, "assessments", found("record@1"))

    results: dict[str, tuple[str, str]] = {}
    for case in CASES:
        text = case["raw"] if "raw" in case else json.dumps(case["body"])
        message, answers = True, set[bool | None]()
        for _ in range(case.get("times", 1)):
            message &= holds_as_a_message(case, await send(empty_client, case, text))
            answer = await send(empty_client, case, translated(text))
            message &= holds_as_a_message(case, answer)
            answers.add(holds_as_an_answer(case, answer))
        (held,) = answers
        words = {True: "yes", False: "no", None: "-"}
        results[case["id"]] = (words[message], words[held])

    published = {
        id: (message, answer)
        for id, message, answer in re.findall(
            r"^\| (c-[\d-]+(?: [\w.]+)?) \| (yes|no) \| (yes|no|-) \|", PAGE, re.MULTILINE
        )
    }
    assert published == results
