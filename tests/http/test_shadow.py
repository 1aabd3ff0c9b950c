"""A version decided beside the one in force, on every live question and once on each."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.http.callers import now
from app.operations import shadow
from app.operations.backtest import answered_otherwise
from app.operations.shadow import Shadows
from app.storage import history
from app.storage.database import SERVICE, Database
from app.storage.history import Histories
from app.storage.store import Store
from tests.http.conftest import Service
from tests.http.published import OPUS, POLICY, Json, problem
from tests.http.small import ACTION, decide, found, in_force, policy, post, register, soon
from tests.http.test_backtest import backtest, draft, version

VERSION = "/v1/policies/small/versions/2"
SHADOW = f"{VERSION}/shadow"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for work all the time, and never stand aside: whatever can meet, meets."""
    monkeypatch.setattr(shadow, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(shadow, "PAGE_PAUSE_SECONDS", 0)
    monkeypatch.setattr(shadow, "ASIDE_SECONDS", 0)
    monkeypatch.setattr(shadow, "SHARE", 1)


async def begin(client: httpx.AsyncClient, path: str = SHADOW, **said: Any) -> Json:
    answer = await client.post(path, json=said)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == path
    status: Json = answer.json()
    return status


async def stop(client: httpx.AsyncClient, **said: Any) -> Json:
    answer = await client.post(f"{SHADOW}/stop", json=said)
    assert answer.status_code == 200, answer.text
    status: Json = answer.json()
    return status


async def status(client: httpx.AsyncClient, path: str = SHADOW) -> Json:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    said: Json = answer.json()
    return said


async def caught_up(client: httpx.AsyncClient, path: str = SHADOW) -> Json:
    """The status once everything has been looked at."""
    until = time.monotonic() + 20
    while (said := await status(client, path))["behind"]:
        assert time.monotonic() < until, said
        await asyncio.sleep(0.02)
    return said


async def differences(client: httpx.AsyncClient, path: str = SHADOW) -> list[Json]:
    """All of them, newest first, page by page."""
    told: list[Json] = []
    query = {"limit": "2"}
    while True:
        page = (await client.get(f"{path}/differences", params=query)).json()
        told += page["differences"]
        if page["next"] is None:
            return told
        query["after"] = page["next"]


async def tried(service: Service, client: httpx.AsyncClient) -> None:
    """Version 1, by which the CEO rules out, is in force; 2, by which the RSO does, is a draft."""
    await in_force(service, client, version("1", "ceo"))
    await draft(service, version("2", "rso"))


async def spoken_of(client: httpx.AsyncClient, *models: str) -> None:
    """Models of which the CEO says that the threshold is ruled out: allowed by 1, denied by 2."""
    for name in models:
        await register(client, name)
        await post(client, "assessments", found(name))


async def ask_many(client: httpx.AsyncClient, models: Sequence[str], many: int) -> None:
    asked = [
        {"model": models[i % len(models)], "action": ACTION, "policy": "small"} for i in range(many)
    ]
    await post(client, "determinations/batch", {"determinations": asked})


async def test_what_it_finds_is_what_a_backtest_finds(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Over the same determinations: the summary, and each difference, newest first."""
    client = empty_client
    await tried(empty, client)
    begun = await begin(client, reason="is it too strict?")
    await spoken_of(client, "m@1")
    await register(client, "silent@1")
    await decide(client, "m@1")
    await decide(client, "silent@1")
    await decide(client, "unheard-of@1")
    assessment = await post(client, "assessments", found("m@1", "reached"))
    await decide(client, "m@1")
    withdrawn = {"reason": "the set-up was broken"}
    await post(client, f"assessments/{assessment['id']}/withdrawal", withdrawn)
    await decide(client, "m@1")
    size = await empty.size()
    said = await caught_up(client)
    *lines, last = await backtest(client, "history")

    assert said["summary"] == last["summary"]
    assert (said["summary"]["decided"], said["summary"]["stricter"]) == (5, 2)
    assert await differences(client) == [line["difference"] for line in reversed(lines)]
    assert (said["id"], said["running"], said["stopped"]) == (begun["id"], True, None)
    assert said["started"]["reason"] == "is it too strict?"
    assert (said["from_index"], said["up_to_index"]) == (begun["from_index"], size)
    assert await empty.size() == size, "nothing of it is recorded"


async def test_only_live_questions_are_looked_at(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Not what was asked before it began, and not what is asked about the past."""
    client = empty_client
    await tried(empty, client)
    await spoken_of(client, "m@1")
    before = await decide(client, "m@1")
    await begin(client)
    await decide(client, "m@1", at=soon(minutes=-5))
    await decide(client, "m@1", known_at=before["provenance"]["known_at"])
    live = await decide(client, "m@1", at=soon(seconds=-1))
    said = await caught_up(client)

    assert said["past"] == 2
    assert said["summary"]["decided"] == 1
    (told,) = await differences(client)
    assert told["determination"] == live["id"]


async def test_it_goes_on_until_it_is_stopped_and_begins_anew(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """A second start is the first; a stopped one can be read until another is begun."""
    client = empty_client
    await tried(empty, client)
    await spoken_of(client, "m@1")
    first = await begin(client)
    again = await begin(client, reason="another")
    await decide(client, "m@1")
    await caught_up(client)
    ended = await stop(client, reason="seen enough")
    await decide(client, "m@1")
    await asyncio.sleep(0.1)
    after = await stop(client, reason="again")
    second = await begin(client)

    assert (again["id"], again["started"]) == (first["id"], first["started"])
    assert ended == after
    assert (ended["running"], ended["behind"]) == (False, 0)
    assert ended["stopped"]["reason"] == "seen enough"
    assert ended["stopped"]["by"] == first["started"]["by"]
    assert ended["summary"]["decided"] == 1
    assert (second["id"] != first["id"], second["summary"]["decided"]) == (True, 0)
    assert await differences(client) == []


async def test_many_who_begin_it_at_once_begin_one(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await tried(empty, empty_client)
    begun = await asyncio.gather(*(begin(empty_client) for _ in range(6)))

    assert len({one["id"] for one in begun}) == 1


async def test_a_version_that_comes_into_force_ends_its_shadow(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """What it decided itself is nothing beside it, and another shadow of it is refused."""
    client = empty_client
    await tried(empty, client)
    await spoken_of(client, "m@1")
    await begin(client)
    beside = await decide(client, "m@1")
    await post(client, "policies/small/versions/2/approvals", {"reason": "r"})
    await post(client, "policies/small/versions/2/activation", {})
    own = await decide(client, "m@1")
    said = await caught_up(client)

    assert own["provenance"]["policy"]["version"] == "2"
    assert said["running"] is False
    assert said["stopped"]["by"] is None
    assert "came into force" in said["stopped"]["reason"]
    assert said["summary"]["decided"] == 1
    assert said["up_to_index"] <= own["ledger"]["index"]
    assert [one["determination"] for one in await differences(client)] == [beside["id"]]
    assert problem(await client.post(SHADOW, json={})) == (409, "already-in-force")


async def test_a_version_that_comes_into_force_unasked_ends_its_shadow_too(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    client = empty_client
    await tried(empty, client)
    await begin(client)
    await post(client, "policies/small/versions/2/approvals", {"reason": "r"})
    await post(client, "policies/small/versions/2/activation", {})
    await caught_up(client)
    until = time.monotonic() + 10
    while (await status(client))["running"]:
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


async def test_a_gate_that_does_not_ask_the_policy_is_looked_at(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Version 1 does not speak of the lab's models, and the draft does: of one it says nothing new."""
    client = empty_client
    elsewhere = version("1", "ceo") | {"applies_to": {"developer": ["elsewhere"]}}
    await in_force(empty, client, elsewhere)
    await draft(empty, version("2", "ceo"))
    await register(client, "silent@1")
    await register(client, "theirs@1", developer="elsewhere")
    await register(client, "nobodys@1", developer="nobody")
    await begin(client)
    gate = await post(client, "gate", {"model": "silent@1", "action": ACTION})
    await post(client, "gate", {"model": "nobodys@1", "action": ACTION})
    theirs = await post(client, "gate", {"model": "theirs@1", "action": ACTION})
    said = await caught_up(client)
    of_theirs, of_silent = await differences(client)

    assert gate["out_of_scope"][0]["version"] == "1"
    assert (of_silent["gate"], of_silent["determination"]) == (gate["id"], None)
    assert (of_silent["model"], of_silent["action"]) == ("silent@1", ACTION)
    assert (of_silent["turn"], of_silent["from"]["decision"]) == ("stricter", "not_asked")
    assert (of_silent["from"]["version"], of_silent["to"]["version"]) == ("1", "2")
    assert {one["side"] for one in of_silent["because"]} == {"new"}
    assert of_theirs["determination"] == theirs["determinations"][0]
    assert "gate" not in of_theirs
    assert said["summary"]["decided"] == 3
    assert said["summary"]["by_decision"] == {"not_asked->deny": 1}


async def test_the_first_version_of_a_policy_is_decided_beside_none(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """A gate does not ask a policy of which nothing is in force: what it would add is told."""
    client = empty_client
    await in_force(empty, client, policy("other"))
    await draft(empty, version("2", "ceo"))
    await spoken_of(client, "m@1")
    await begin(client)
    await post(client, "gate", {"model": "m@1", "action": ACTION})
    await decide(client, "m@1")
    await caught_up(client)
    of_question, of_gate = await differences(client)

    assert (of_gate["from"]["version"], of_gate["from"]["decision"]) == (None, "not_asked")
    assert (of_gate["to"]["decision"], of_gate["turn"]) == ("allow", "otherwise")
    assert (of_question["from"]["decision"], of_question["turn"]) == ("deny", "looser")


async def test_a_determination_that_cannot_be_rebuilt_is_counted(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """As where somebody took a piece of evidence out; what comes after it is looked at all the same."""
    client = empty_client
    await tried(empty, client)
    begun = await begin(client)
    await stop(client)
    await spoken_of(client, "m@1", "whole@1")
    second = await post(client, "assessments", found("m@1"))
    await decide(client, "m@1")
    await decide(client, "whole@1")
    await empty.as_owner(
        "ALTER TABLE evidence DISABLE TRIGGER USER;"
        f"DELETE FROM evidence WHERE id = '{second['id']}';"
        f"UPDATE policy_shadow SET stopped_at = NULL, stopped_by = NULL, "
        f"stopped_because = NULL WHERE id = '{begun['id']}'"
    )
    said = await caught_up(client)

    assert (said["summary"]["decided"], said["summary"]["failed"]) == (1, 1)
    assert len(await differences(client)) == 1


async def test_what_fails_without_a_reason_is_counted_and_holds_nobody_up(
    empty: Service, empty_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one question that cannot be decided would be asked for ever, and none after it."""
    client = empty_client

    def fails_once(draft: Any, on_model: Any, id: str, document: Json) -> Any:
        if document["model"] == "broken@1":
            raise ZeroDivisionError
        return answered_otherwise(draft, on_model, id, document)

    monkeypatch.setattr("app.operations.shadow.answered_otherwise", fails_once)
    await tried(empty, client)
    await begin(client)
    await spoken_of(client, "broken@1", "m@1")
    await ask_many(client, ["broken@1", "m@1"], 4)
    said = await caught_up(client)

    assert (said["summary"]["decided"], said["summary"]["failed"]) == (2, 2)


# --- Once on each ------------------------------------------------------------------------------


@asynccontextmanager
async def another_process(service: Service) -> AsyncIterator[Shadows]:
    """The work of another process: a store, and a memory, of its own."""
    store = Store(Database(service.server.dsn(service.name, SERVICE), throwaway=True))
    await store.open(now())
    try:
        yield Shadows(store, now)
    finally:
        await store.close()


async def test_several_processes_look_at_each_question_once(
    empty: Service, empty_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three at it all the time, none of which stands aside, and the service's own."""
    monkeypatch.setattr(shadow, "PAGE", 3)
    models = ["m@1", "silent-1@1", "n@1", "silent-2@1"]
    await tried(empty, empty_client)
    async with (
        another_process(empty) as one,
        another_process(empty) as two,
        another_process(empty) as three,
    ):
        await spoken_of(empty_client, "m@1", "n@1")
        await begin(empty_client)
        tasks = [asyncio.create_task(at_work.run()) for at_work in (one, two, three)]
        for _ in range(5):
            await ask_many(empty_client, models, 20)
        said = await caught_up(empty_client)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        told = await differences(empty_client)

        assert (said["summary"]["decided"], said["summary"]["stricter"]) == (100, 50)
        assert len({one["determination"] for one in told}) == len(told) == 50


async def test_a_kill_at_any_moment_loses_and_doubles_nothing(
    empty: Service, empty_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work is cut off again and again, wherever it is, its connections too; others take it up."""
    monkeypatch.setattr(shadow, "PAGE", 2)
    chance = random.Random()
    cuts = 0
    await tried(empty, empty_client)
    async with another_process(empty) as other:
        await spoken_of(empty_client, "m@1")
        await begin(empty_client)
        await ask_many(empty_client, ["m@1", "silent@1"], 120)
        while (await status(empty_client))["behind"]:
            task = asyncio.create_task(Shadows(other._store, now).run())
            await asyncio.sleep(chance.uniform(0, 0.05))
            if cuts % 5 == 0:
                await empty.as_owner(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
                    "current_database() AND pid <> pg_backend_pid() AND query LIKE '%shadow%'"
                )
            task.cancel()
            await asyncio.wait([task])
            cuts += 1
        said = await caught_up(empty_client)
        told = await differences(empty_client)

        assert cuts > 3
        assert (said["summary"]["decided"], said["summary"]["stricter"]) == (120, 60)
        assert len({one["determination"] for one in told}) == len(told) == 60


async def test_who_finds_another_at_it_stands_aside(
    empty: Service, empty_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks, and does not decide what somebody else decides; later it looks again."""
    monkeypatch.setattr(shadow, "ASIDE_SECONDS", 60)
    monkeypatch.setattr(shadow, "PAGE", 2)
    await tried(empty, empty_client)
    async with another_process(empty) as other:
        await spoken_of(empty_client, "m@1")
        await begin(empty_client)
        await other.turn()
        await ask_many(empty_client, ["m@1"], 6)
        await caught_up(empty_client)
        await other.turn()
        await empty.as_owner("UPDATE policy_shadow SET next = first")
        await other.turn()
        await other.turn()
        said = await status(empty_client)

        assert said["up_to_index"] == said["from_index"]
        assert (said["behind"], said["summary"]["decided"]) == (6, 6)


async def test_without_its_database_it_waits_and_goes_on(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await tried(empty, empty_client)
    await spoken_of(empty_client, "m@1")
    await begin(empty_client)
    await empty.cut_off(True)
    await asyncio.sleep(0.2)
    await empty.cut_off(False)
    await decide(empty_client, "m@1")
    said = await caught_up(empty_client)

    assert said["summary"]["decided"] == 1


async def test_what_it_remembers_of_a_model_is_what_is_recorded(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Of the model itself, of one that it leans on, and of one with the same weights, at each size."""
    client = empty_client
    await in_force(empty, client, policy())
    kept = Histories()

    async def look() -> None:
        size = await empty.size()
        async with empty.store.reading() as connection:
            remembered = (await kept.of(connection, ["m@1"], before=size))["m@1"]
            read = await history.model_history(connection, "m@1", before=size)
        assert remembered.known_at(size) == read.known_at(size)

    await look()
    await register(client, "m@1", weights="w")
    await look()
    await register(client, "strong@1")
    await post(client, "assessments", found("m@1", "bounded-by", bounded_by="strong@1"))
    await look()
    await post(client, "assessments", found("strong@1"))
    await look()
    await register(client, "twin@1", weights="w")
    twin = await post(client, "assessments", found("twin@1"))
    await look()
    await post(client, f"assessments/{twin['id']}/withdrawal", {"reason": "r"})
    await look()


# --- What operators and callers see ------------------------------------------------------------


async def test_metrics_tell_of_each_running_shadow(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await tried(empty, empty_client)
    await spoken_of(empty_client, "m@1")
    await begin(empty_client)
    await decide(empty_client, "m@1")
    await caught_up(empty_client)
    await asyncio.sleep(0.1)
    text = (await empty_client.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}

    for name, value in (("behind", 0), ("decided", 1), ("same", 0), ("failed", 0)):
        (sample,) = families[f"aslgate_shadow_{name}"].samples
        assert sample.labels == {"policy": "small", "version": "2"}
        assert sample.value == value


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("POST", f"/v1/policies/{POLICY}/versions/2.2/shadow", (409, "already-in-force")),
        ("POST", f"/v1/policies/{POLICY}/versions/9.9/shadow", (404, "not-found")),
        ("POST", "/v1/policies/other/versions/1/shadow", (404, "not-found")),
        ("GET", f"/v1/policies/{POLICY}/versions/2.1/shadow", (404, "not-found")),
        ("GET", f"/v1/policies/{POLICY}/versions/9.9/shadow", (404, "not-found")),
        ("POST", f"/v1/policies/{POLICY}/versions/2.1/shadow/stop", (404, "not-found")),
        ("GET", f"/v1/policies/{POLICY}/versions/2.1/shadow/differences", (404, "not-found")),
        (
            "GET",
            f"/v1/policies/{POLICY}/versions/2.1/shadow/differences?after=x",
            (422, "invalid-parameter"),
        ),
    ],
)
async def test_what_cannot_be_is_refused(
    reader: httpx.AsyncClient, method: str, path: str, told: tuple[int, str]
) -> None:
    body: Json | None = {} if method == "POST" else None

    assert problem(await reader.request(method, path, json=body)) == told


async def test_it_needs_the_permission_to_shadow(service: Service) -> None:
    path = f"/v1/policies/{POLICY}/versions/2.1/shadow"
    async with service.client((await service.new_key("policy-approver")).text) as client:
        for what in (path, f"{path}/stop"):
            assert problem(await client.post(what, json={})) == (403, "forbidden")


async def test_a_superseded_version_can_be_tried_on_published_evidence(
    service: Service, client: httpx.AsyncClient
) -> None:
    """Somebody may want to go back to it: RSP 2.1 beside 2.2, of what is asked now."""
    path = f"/v1/policies/{POLICY}/versions/2.1/shadow"
    await begin(client, path)
    await post(client, "gate", {"model": OPUS, "action": "external-deployment"})
    said = await caught_up(client, path)

    assert (said["summary"]["decided"], said["summary"]["failed"]) == (1, 0)
