"""`POST /v1/imports/{source}`: a draft and warnings, exactly as it can be recorded, and nothing kept."""

import base64
from typing import Any

import httpx
import pytest

from tests.http.conftest import BOOTSTRAP_KEY, Service
from tests.http.published import OPUS, problem
from tests.http.small import in_force, policy
from tests.integrations.importing import SAMPLES, changed

LOG = changed(
    (SAMPLES / "inspect" / "success-4-samples.json").read_bytes(),
    lambda log: log["eval"].pop("metadata"),
)
MAP = """\
schema: aslgate/import-map/v1
source: inspect
assessor: Lab
kind: comprehensive
results:
  - task: aslgate/acquisition_uplift
    metric: accuracy
    line: bio-acquisition-uplift
    unit: ratio
"""


def body(log: bytes = LOG, **more: Any) -> dict[str, Any]:
    return {"model": OPUS, "map": MAP, "log": base64.b64encode(log).decode(), **more}


async def preview(
    client: httpx.AsyncClient, source: str = "inspect", **more: Any
) -> httpx.Response:
    return await client.post(f"/v1/imports/{source}", json=body(**more))


async def test_a_preview_is_the_draft_that_can_be_posted_as_it_is(
    service: Service, client: httpx.AsyncClient
) -> None:
    size = await service.size()
    answer = await preview(client, uri="s3://evals/1")
    assert answer.status_code == 200
    assert await service.size() == size
    draft = answer.json()["draft"]
    assert draft["results"][0]["stderr"] == 0.28867513459481287

    recorded = await client.post("/v1/assessments", json=draft)

    assert recorded.status_code == 201
    assert recorded.json()["results"][0]["stderr"] == "0.28867513459481287"
    assert recorded.json()["sources"][0]["uri"] == "s3://evals/1"


async def test_nothing_of_a_sample_is_in_the_answer(reader: httpx.AsyncClient) -> None:
    assert "question 0" not in (await preview(reader)).text


async def test_what_would_be_refused_is_warned_of_already(reader: httpx.AsyncClient) -> None:
    """A line that no policy has, a unit that is another one, a model that nobody registered."""
    wrong = MAP.replace("unit: ratio", "unit: share") + (
        "  - {task: aslgate/acquisition_uplift, metric: accuracy, line: nobodys, unit: share}\n"
    )
    answer = await preview(reader, map=wrong, model="lab/unknown@1")

    codes = {warning["code"] for warning in answer.json()["warnings"]}
    assert codes == {"unknown-unit", "unknown-line", "unknown-model"}


async def test_a_saturated_line_is_warned_of_where_its_policy_is_meant(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    line = {"title": "t", "unit": "ratio", "riskier": "higher", "rule_out": {"below": 1}}
    document = policy(lines={"bio-acquisition-uplift": line | {"status": "saturated"}})
    document["thresholds"]["T"]["evidence"] = ["bio-acquisition-uplift"]
    await in_force(empty, empty_client, document)

    codes = {}
    for meant in ("", "    policy: small\n", "    policy: another\n"):
        answer = await preview(empty_client, map=MAP + meant)
        codes[meant.strip()] = {warning["code"] for warning in answer.json()["warnings"]}

    assert codes == {
        "": {"saturated", "unknown-model"},
        "policy: small": {"saturated", "unknown-model"},
        "policy: another": {"unknown-model"},
    }


@pytest.mark.parametrize(
    ("more", "status", "pointer", "code"),
    [
        ({"log": "no base64!"}, 422, "/log", "not-base64"),
        ({"statement": "no base64!"}, 422, "/statement", "not-base64"),
        ({"log": base64.b64encode(b"{").decode()}, 422, "/log", "syntax"),
        ({"log": base64.b64encode(b"{}").decode()}, 422, "/log", "other-system"),
        ({"map": MAP + "    wariant: x\n"}, 422, "/map", "unknown-field"),
        ({"map": MAP + "#" * 300_000}, 422, "/map", "too-large"),
        ({"model": "lab"}, 422, "/model", "invalid-value"),
        ({"lok": "x"}, 422, "/lok", "unknown-field"),
    ],
)
async def test_what_cannot_be_read_is_refused_by_its_field(
    reader: httpx.AsyncClient, more: dict[str, Any], status: int, pointer: str, code: str
) -> None:
    answer = await reader.post("/v1/imports/inspect", json=body() | more)

    assert problem(answer) == (status, "invalid-document")
    assert (pointer, code) in {(f["pointer"], f["code"]) for f in answer.json()["errors"]}


async def test_a_fault_of_the_map_says_the_line(reader: httpx.AsyncClient) -> None:
    answer = await preview(reader, map=MAP + "    wariant: x\n")

    (fault,) = answer.json()["errors"]
    assert (fault["line"], fault["column"]) == (10, 5)
    assert fault["message"].startswith("`/results/0/wariant`")


async def test_an_unknown_source_is_refused(reader: httpx.AsyncClient) -> None:
    assert problem(await preview(reader, "helm")) == (422, "invalid-parameter")


async def test_40_megabytes_are_refused_before_they_are_read(standing: Service) -> None:
    async with standing.client(BOOTSTRAP_KEY) as client:
        answer = await preview(client, log=b"0" * 40_000_000)

    assert problem(answer) == (413, "document-too-large")
