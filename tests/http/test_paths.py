"""Paths, methods and media types that are not ours: plain problems, and never a redirect."""

import httpx
import pytest

from tests.http.conftest import Service
from tests.http.published import OPUS, POLICY, problem

NAMED = "lab/group/model.v2@2025-01"


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/", "/v2/models", "/v1/policies", "/v1/determination", "/v1/nothing/at/all"],
)
async def test_an_unknown_path_is_a_problem(reader: httpx.AsyncClient, path: str) -> None:
    assert problem(await reader.get(path)) == (404, "no-such-path")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/determinations", "GET, POST"),
        ("PUT", f"/v1/models/{OPUS}", "GET"),
        ("PATCH", "/v1/policies/p/versions", "GET, POST"),
        ("GET", "/v1/sign-offs", "POST"),
        ("POST", "/healthz", "GET"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    reader: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await reader.request(method, path)

    assert problem(answer) == (405, "method-not-allowed")
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "media_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"],
)
async def test_a_body_of_another_type_is_refused(
    standing: Service, reader: httpx.AsyncClient, media_type: str | None
) -> None:
    size = await standing.size()
    headers = {} if media_type is None else {"Content-Type": media_type}

    for path in ("/v1/models", f"/v1/policies/{POLICY}/versions", "/v1/simulations"):
        answer = await reader.post(path, content=b'{"model": "m@1"}', headers=headers)
        assert problem(answer) == (415, "unsupported-media-type")
    assert await standing.size() == size


async def test_a_media_type_may_have_parameters_and_capitals(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}

    answer = await client.post(
        "/v1/models", content=b'{"model":"new@1","developer":"a"}', headers=headers
    )

    assert answer.status_code == 201


async def test_a_models_name_may_hold_slashes_and_dots(client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/models", json={"model": NAMED, "developer": "lab"})

    read = await client.get(made.headers["Location"])
    escaped = await client.get(f"/v1/models/{NAMED.replace('/', '%2F').replace('@', '%40')}")

    assert made.headers["Location"] == f"/v1/models/{NAMED}"
    assert read.content == escaped.content == made.content


@pytest.mark.parametrize(
    "name",
    [
        "determination@1",
        "a/determination@1",
        "determinations/batch@1",
    ],
)
async def test_a_name_that_looks_like_a_route_is_only_a_name(
    client: httpx.AsyncClient, name: str
) -> None:
    made = await client.post("/v1/models", json={"model": name, "developer": "lab"})

    assert (await client.get(f"/v1/models/{name}")).content == made.content
    latest = await client.get(f"/v1/models/{name}/determination", params={"action": "x"})
    assert problem(latest) == (404, "not-found")


@pytest.mark.parametrize(
    "tail",
    [
        "",
        f"{OPUS}/",
        f"/{OPUS}",
        f"x/../{OPUS}",
        f"./{OPUS}",
        f"%2e%2e/models/{OPUS}",
        f"{OPUS}%2F",
        f"{OPUS}%20",
        OPUS.upper(),
        "claude-opus-4",
        "%EF%BF%BD@1",
        f"{OPUS};v=1",
        f"{OPUS}%2Fdetermination",
    ],
)
async def test_another_spelling_of_a_name_names_nothing(standing: Service, tail: str) -> None:
    """Two spellings of one name would be two ways past a check; and nothing redirects."""
    answer = await standing.get_as_written(f"/v1/models/{tail}")

    assert answer.status_code in (404, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/a%00b@1",
        "/v1/models/a%0D%0ASet-Cookie:x@1",
        "/v1/models/%1b[31m@1",
        "/v1/determinations%0A",
        "/v1/schemas/policy%0A",
        "/v1/policies/%00",
        "/v1/policies/%00/versions/2.2",
        "/v1/assessments/asm_%00",
        "/v1/determinations/%00",
        f"/v1/models/{OPUS}/determination?action=%00",
        "/v1/determinations?policy=a%00",
        "/v1/determinations?%00=a",
        "/v1/determinations?model=%E2%80%AE",
    ],
)
async def test_what_no_name_holds_is_refused(standing: Service, path: str) -> None:
    """Postgres cannot even be asked for a name with U+0000 in it."""
    answer = await standing.get_as_written(path)

    # The router's own patterns end at a line, so that a name of two is nowhere.
    assert problem(answer) in [(422, "invalid-parameter"), (404, "no-such-path")]
    for value in answer.headers.values():
        assert value.isprintable()


async def test_a_very_long_name_is_only_unknown(reader: httpx.AsyncClient) -> None:
    assert problem(await reader.get(f"/v1/models/{'a' * 20_000}@1")) == (404, "not-found")


@pytest.mark.parametrize("kind", ["assessments", "safeguards", "sign-offs", "withdrawals"])
async def test_an_id_of_another_kind_names_nothing(client: httpx.AsyncClient, kind: str) -> None:
    """A model's name, a policy's digest and a determination's id are subjects of the ledger too."""
    digest = (await client.get(f"/v1/policies/{POLICY}")).json()["digest"]
    determination = await client.post(
        "/v1/determinations", json={"model": OPUS, "action": "training", "policy": POLICY}
    )
    for id in (OPUS, digest, determination.json()["id"], "x"):
        assert problem(await client.get(f"/v1/{kind}/{id}")) == (404, "not-found")
