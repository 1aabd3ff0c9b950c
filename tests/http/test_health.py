"""What operators ask: is it alive, is it ready, how is it doing."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.http.conftest import Service
from tests.http.published import OPUS, asked, problem


async def test_it_is_alive_and_ready(reader: httpx.AsyncClient) -> None:
    assert (await reader.get("/healthz")).json() == {"status": "ok"}
    assert (await reader.get("/readyz")).json() == {"status": "ready"}


async def test_it_is_not_ready_where_the_database_is_at_another_migration(
    service: Service, client: httpx.AsyncClient
) -> None:
    await service.as_owner("UPDATE alembic_version SET version_num = '9999'")

    answer = await client.get("/readyz")

    assert answer.status_code == 503
    assert "9999" in answer.json()["reason"]
    assert (await client.get("/healthz")).status_code == 200


async def test_without_its_database_it_is_alive_not_ready_and_decides_nothing(
    service: Service, client: httpx.AsyncClient
) -> None:
    """Not decidable is 503 with Retry-After: never an allow, never a denial. Then it recovers."""
    await service.cut_off(True)
    try:
        ready = await client.get("/readyz")
        answers = [
            await client.post("/v1/determinations?enforce=true", json=asked()),
            await client.post("/v1/determinations/batch", json={"determinations": [asked()]}),
            await client.get(f"/v1/models/{OPUS}"),
        ]
        alive = await client.get("/healthz")
    finally:
        await service.cut_off(False)

    assert (alive.status_code, ready.status_code) == (200, 503)
    assert ready.json()["status"] == "not ready"
    for answer in answers:
        assert problem(answer) == (503, "unavailable")
        assert 1 <= int(answer.headers["Retry-After"]) <= 5
    after = await client.post("/v1/determinations", json=asked())
    assert after.status_code == 201
    assert (await client.get("/readyz")).status_code == 200


async def test_metrics_can_be_read_and_count_by_route_never_by_path(
    service: Service, client: httpx.AsyncClient
) -> None:
    for name in ("one@1", "two@1", "three@1"):
        await client.get(f"/v1/models/{name}")

    text = (await client.get("/metrics")).text

    families = {family.name: family for family in text_string_to_metric_families(text)}
    (sample,) = [
        s
        for s in families["aslgate_requests"].samples
        if s.name.endswith("_total") and s.labels["route"] == "/v1/models/{model:path}"
    ]
    assert (sample.labels["status"], sample.value) == ("404", 3)
    assert families["aslgate_ledger_size"].samples[0].value == await service.size()
    assert "one@1" not in text


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-123._", True), ("a b", False), ("x" * 65, False), ("é", False), ("a\tb", False)],
)
async def test_a_request_id_is_kept_where_it_is_a_plain_word(
    reader: httpx.AsyncClient, given: str, kept: bool
) -> None:
    headers = httpx.Headers([(b"X-Request-Id", given.encode())])

    answer = await reader.get("/healthz", headers=headers)

    assert (answer.headers["X-Request-Id"] == given) is kept
    assert answer.headers["X-Request-Id"].isascii()
