"""What determinations oblige somebody to do: by due, done once, and seen when it is late."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.determination.obligations import raised_by
from app.http.callers import now
from app.operations import obligations
from app.operations.audit import Sweep
from app.operations.obligations import ObligationFollower
from app.storage.database import SERVICE, Database
from app.storage.obligations import advance
from app.storage.store import Store
from app.vocabulary import Duration, read_instant
from tests.http.conftest import Service
from tests.http.published import Json, problem
from tests.http.small import ACTION, decide, found, in_force, policy, post, register, soon

PATH = "/v1/obligations"
DONE: Json = {
    "reason": "sent and answered",
    "sources": [{"title": "the letter", "uri": "https://example.com/letter", "sha256": "0" * 64}],
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for what was raised all the time."""
    monkeypatch.setattr(obligations, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(obligations, "PAGE_PAUSE_SECONDS", 0)
    monkeypatch.setattr(obligations, "COUNT_SECONDS", 0)
    monkeypatch.setattr(obligations, "SHARE", 1)


def obliging(**more: Any) -> Json:
    """The small policy, whose answers oblige: to one thing of each kind."""
    said = {"statement": "s", "clause": "c"}
    document = policy(**more)
    document["standards"]["s"]["review"] = "P1Y"
    document["thresholds"]["T"]["obligations"] = [{"id": "think-ahead"} | said]
    document["actions"][ACTION]["obligations"] = [
        {"id": "give-notice", "due": "before", "by": "ceo", "to": ["the board"]} | said,
        {"id": "publish", "due": "P30D"} | said,
        {"id": "report", "due": "P20D", "since_assessment": "comprehensive"} | said,
    ]
    return document


@pytest.fixture
async def obliged(empty: Service, empty_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a service under that policy, with a model whose standard is met since yesterday."""
    await in_force(empty, empty_client, obliging())
    await register(empty_client, "m@1")
    await met(empty_client)
    return empty_client


async def met(client: httpx.AsyncClient, since: str | None = None, model: str = "m@1") -> None:
    """Report that the standard is met."""
    report = {"model": model, "policy": "small", "standard": "s", "criterion": None, "met": True}
    said = {"valid_from": since or soon(days=-1), "stated_by": "the owner"}
    await post(client, "safeguards", report | said)


async def listed(client: httpx.AsyncClient, **query: Any) -> list[Json]:
    """All that fit, page by page, once everything that is recorded was read."""
    until = time.monotonic() + 20
    while (await client.get(PATH, params={"limit": 1})).json()["behind"]:
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    told: list[Json] = []
    while True:
        answer = await client.get(PATH, params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        told += page["obligations"]
        if page["next"] is None:
            return told
        query["after"] = page["next"]


async def of(client: httpx.AsyncClient, name: str, **query: Any) -> Json:
    """The one obligation of that name."""
    (one,) = (one for one in await listed(client, **query) if one["name"] == name)
    return one


async def fulfil(client: httpx.AsyncClient, id: str, **how: Any) -> httpx.Response:
    body = DONE | how.pop("said", {})
    return await client.post(f"{PATH}/{id}/fulfilment", json=body, **how)


@contextmanager
def later(**after: float) -> Iterator[None]:
    """Let the server's clock be ahead, for whoever reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.http.callers.now", lambda: now() + timedelta(**after))
        yield


# --- What is raised, and when it is due --------------------------------------------------------


async def test_what_a_determination_obliges_to_is_listed_by_due(obliged: httpx.AsyncClient) -> None:
    """Each as the determination says it; what has no date comes last."""
    asked = await decide(obliged, "m@1")
    told = await listed(obliged)

    dated = [one["name"] for one in told if one["due"] is not None]
    assert dated == ["report", "publish", "re-approve-safeguards"]
    assert {one["name"] for one in told[3:]} == {"give-notice", "think-ahead"}
    said = {one["id"]: one for one in asked["obligations"]}
    for one in told:
        same = said.pop(one["name"])
        assert one["statement"] == same["message"]
        for field in ("pointer", "clause", "by", "before_action", "due"):
            assert one[field] == same[field]
        assert (one["model"], one["policy"], one["status"]) == ("m@1", "small", "open")
        assert (one["overdue_since"], one["fulfilled_by"]) == (None, None)
        assert one["raised_by"] == {
            "determination": asked["id"],
            "index": asked["ledger"]["index"],
            "version": "1",
            "at": asked["provenance"]["at"],
        }
        assert (await obliged.get(f"{PATH}/{one['id']}")).json() == one | {
            "as_of": asked["ledger"]["index"] + 1,
            "behind": 0,
        }
    assert said == {}


async def test_who_asks_again_moves_no_due_along(obliged: httpx.AsyncClient) -> None:
    """Not even where a clock should run from an assessment and there is none yet."""
    first = await decide(obliged, "m@1")
    before = await listed(obliged)
    again = await decide(obliged, "m@1")

    assert [one["due"] for one in again["obligations"]] != [
        one["due"] for one in first["obligations"]
    ]
    assert await listed(obliged) == before


async def test_new_evidence_begins_its_clock_anew(obliged: httpx.AsyncClient) -> None:
    """A report of the safeguards the yearly one, an assessment its own; the others go on."""
    await decide(obliged, "m@1")
    before = {one["name"]: one for one in await listed(obliged)}
    since = soon(hours=-1)
    await met(obliged, since)
    await post(obliged, "assessments", found("m@1", "inconclusive", conducted_at=since))
    asked = await decide(obliged, "m@1")
    after = {one["name"]: one for one in await listed(obliged)}

    begun = read_instant(since)
    assert read_instant(after["report"]["due"]) == begun + timedelta(days=20)
    assert read_instant(after["re-approve-safeguards"]["due"]) == Duration("P1Y").after(begun)
    for name in ("report", "re-approve-safeguards"):
        assert after[name]["id"] == before[name]["id"]
        assert after[name]["raised_by"]["determination"] == asked["id"]
    for name in ("publish", "give-notice", "think-ahead"):
        assert after[name] == before[name]


async def test_evidence_that_falls_takes_no_clock_back(obliged: httpx.AsyncClient) -> None:
    """Else whoever withdraws an assessment would have the due run from now on."""
    made = await post(obliged, "assessments", found("m@1", "inconclusive"))
    await decide(obliged, "m@1")
    before = await of(obliged, "report")
    await post(obliged, f"assessments/{made['id']}/withdrawal", {"reason": "r"})
    await decide(obliged, "m@1")

    assert await of(obliged, "report") == before


async def test_only_answers_about_now_oblige(obliged: httpx.AsyncClient) -> None:
    """Not one about the past, one with what was known then, or a simulation."""
    size = (await post(obliged, "orders", STOP))["ledger"]["index"]
    await decide(obliged, "m@1", at=soon(minutes=-5))
    await decide(obliged, "m@1", known_at=size)
    assert await listed(obliged) == []
    await decide(obliged, "m@1", at=soon(seconds=-1))

    assert len(await listed(obliged)) == 5


STOP: Json = {
    "model": "m@1",
    "issuer": "a court",
    "issued_by": "government",
    "effect": "stop",
    "statement": "s",
}


async def test_a_gate_obliges_by_its_determinations(
    empty: Service, obliged: httpx.AsyncClient
) -> None:
    await in_force(empty, obliged, obliging(name="other"))
    await post(obliged, "gate", {"model": "m@1", "action": ACTION})

    assert {one["policy"] for one in await listed(obliged)} == {"small", "other"}
    assert len(await listed(obliged, policy="other")) == 4, "its standard is not met"


async def test_an_obligation_goes_on_under_the_next_version(
    empty: Service, obliged: httpx.AsyncClient
) -> None:
    """Though it has another place in its list there; one that had no due has one now."""
    await decide(obliged, "m@1")
    before = {one["name"]: one for one in await listed(obliged)}
    second = obliging(version="2", effective="2024-02-01")
    second["actions"][ACTION]["obligations"].reverse()
    second["thresholds"]["T"]["obligations"][0]["due"] = "P3D"
    await in_force(empty, obliged, second, soon(seconds=-10))
    await decide(obliged, "m@1")
    after = {one["name"]: one for one in await listed(obliged)}

    assert {name: one["id"] for name, one in after.items()} == {
        name: one["id"] for name, one in before.items()
    }
    assert after["publish"] == before["publish"]
    assert (before["think-ahead"]["due"], after["think-ahead"]["raised_by"]["version"]) == (
        None,
        "2",
    )
    assert after["think-ahead"]["due"] is not None


# --- That it was done --------------------------------------------------------------------------


async def test_it_is_fulfilled_once_with_what_shows_it(obliged: httpx.AsyncClient) -> None:
    """The record says what was fulfilled, and asking again raises it no more."""
    await decide(obliged, "m@1")
    one = await of(obliged, "publish")
    done_at = soon(hours=-2)
    key = {"Idempotency-Key": "k"}
    answer = await fulfil(obliged, one["id"], said={"done_at": done_at}, headers=key)
    again = await fulfil(obliged, one["id"], said={"done_at": done_at}, headers=key)
    await decide(obliged, "m@1")
    after = await of(obliged, "publish")

    assert answer.status_code == 201, answer.text
    said = answer.json()
    assert said["sources"] == DONE["sources"]
    for field, value in (
        ("obligation", one["id"]),
        ("determination", one["raised_by"]["determination"]),
        *((field, one[field]) for field in ("name", "pointer", "model", "policy", "due")),
    ):
        assert said[field] == value
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.content == answer.content
    read = await obliged.get(answer.headers["Location"])
    assert (read.status_code, read.content) == (200, answer.content)
    assert after["status"] == "fulfilled"
    assert after["fulfilled_by"] == {
        "id": said["id"],
        "by": said["by"],
        "done_at": done_at,
        "recorded_at": said["ledger"]["recorded_at"],
    }
    assert problem(await fulfil(obliged, one["id"])) == (409, "already-recorded")
    other = {"Idempotency-Key": "another"}
    assert problem(await fulfil(obliged, one["id"], headers=other)) == (409, "already-recorded")


async def test_only_whom_the_policy_names_says_that_it_was_done(
    empty: Service, obliged: httpx.AsyncClient
) -> None:
    """Its notice is for the ceo to give; what names nobody, anybody who may fulfils."""
    await decide(obliged, "m@1")
    notice, publication = await of(obliged, "give-notice"), await of(obliged, "publish")
    key = await empty.new_key("approver", policy_roles=["rso"])
    async with empty.client(key.text) as rso:
        refused = await fulfil(rso, notice["id"])
        assert (await fulfil(rso, publication["id"])).status_code == 201
    key = await empty.new_key("approver", policy_roles=["ceo"])
    async with empty.client(key.text) as ceo:
        assert (await fulfil(ceo, notice["id"])).status_code == 201

    assert problem(refused) == (403, "role-not-held")


async def test_what_is_raised_anew_is_fulfilled_anew(obliged: httpx.AsyncClient) -> None:
    """The yearly one, after the next report."""
    await decide(obliged, "m@1")
    first = await of(obliged, "re-approve-safeguards")
    assert (await fulfil(obliged, first["id"])).status_code == 201
    await decide(obliged, "m@1")
    assert (await of(obliged, "re-approve-safeguards"))["status"] == "fulfilled"
    await met(obliged, soon(hours=-1))
    await decide(obliged, "m@1")
    second = await of(obliged, "re-approve-safeguards")

    assert (second["id"], second["status"]) == (first["id"], "open")
    assert (await fulfil(obliged, first["id"])).status_code == 201
    assert (await of(obliged, "re-approve-safeguards"))["status"] == "fulfilled"


async def test_of_many_at_once_one_fulfils_it(obliged: httpx.AsyncClient) -> None:
    await decide(obliged, "m@1")
    id = (await of(obliged, "publish"))["id"]
    answers = await asyncio.gather(*(fulfil(obliged, id) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 7]


# --- One that is binding -----------------------------------------------------------------------


def binding(**obligation: Any) -> Json:
    """The small policy with one binding obligation, to `report` after each assessment."""
    document = policy()
    asked = {"id": "report", "statement": "s", "clause": "c", "binding": True}
    since = {"since_assessment": "comprehensive"}
    document["actions"][ACTION]["obligations"] = [asked | since | obligation]
    return document


async def replays(client: httpx.AsyncClient, *ids: str) -> bool:
    """Whether each of those determinations is recomputed to the byte."""
    answers = [await client.get(f"/v1/determinations/{id}/replay") for id in ids]
    return all(answer.json()["same"] for answer in answers)


async def test_one_that_is_overdue_denies_until_it_is_fulfilled(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """What was answered before stays as it was; the next assessment begins its clock anew."""
    client = empty_client
    await in_force(empty, client, binding(due="P20D"))
    await register(client, "m@1")
    await post(client, "assessments", found("m@1", conducted_at=soon(days=-30)))
    late = await decide(client, "m@1")
    one = await of(client, "report")
    made = await fulfil(client, one["id"])
    after = await decide(client, "m@1")
    then = await decide(client, "m@1", known_at=late["ledger"]["index"])

    (reason,) = (one for one in late["reasons"] if one["blocks"])
    page = await client.get(f"/v1/determinations/{after['id']}/explanation")
    assert page.status_code == 200, page.text
    assert (late["decision"], reason["code"]) == ("deny", "obligation.overdue")
    assert one["status"] == "overdue"
    assert (after["decision"], after["valid_until"]) == ("allow", None)
    assert made.json()["id"] in {piece["id"] for piece in after["provenance"]["evidence"]}
    assert after["changed"]["evidence"]["added"] == [made.json()["id"]]
    assert then["decision"] == "deny"

    since = soon()
    await post(client, "assessments", found("m@1", conducted_at=since))
    key = {"Idempotency-Key": "k"}
    question = {"model": "m@1", "action": ACTION, "policy": "small"}
    anew = await post(client, "determinations", question, headers=key)
    with later(days=21):
        lapsed = await client.post("/v1/determinations", json=question, headers=key)

    assert anew["decision"] == "allow"
    assert read_instant(anew["valid_until"]) == read_instant(since) + timedelta(days=20)
    assert problem(lapsed) == (409, "determination-superseded")
    assert (await of(client, "report"))["status"] == "open"
    assert await replays(client, late["id"], after["id"], then["id"], anew["id"])


async def test_a_fulfilment_that_does_not_count_leaves_it_to_be_done(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """One of before the assessment that asks for it; nor may another take that away."""
    client = empty_client
    await in_force(empty, client, binding(due="before"))
    await register(client, "m@1")
    made = await post(client, "assessments", found("m@1", conducted_at=soon(days=-1)))
    denied = [await decide(client, "m@1")]
    one = await of(client, "report")
    assert (await fulfil(client, one["id"], said={"done_at": soon(days=-2)})).status_code == 201
    assert (await of(client, "report"))["status"] == "fulfilled"
    denied.append(await decide(client, "m@1"))
    assert (await of(client, "report"))["status"] == "open"
    async with empty.client((await empty.new_key("assessor")).text) as another:
        withdrawn = await another.post(
            f"/v1/assessments/{made['id']}/withdrawal", json={"reason": "r"}
        )
    assert (await fulfil(client, one["id"])).status_code == 201
    allowed = await decide(client, "m@1")

    assert [one["decision"] for one in denied] == ["deny", "deny"]
    assert problem(withdrawn) == (409, "withdrawal-by-another")
    assert allowed["decision"] == "allow"
    assert await replays(client, *(one["id"] for one in [*denied, allowed]))


async def test_a_fulfilment_can_be_supposed(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    client = empty_client
    await in_force(empty, client, binding(due="before"))
    await register(client, "m@1")
    await post(client, "assessments", found("m@1"))
    supposed = {"model": "m@1", "policy": "small", "pointer": f"/actions/{ACTION}/obligations/0"}

    async def simulated(**more: str) -> httpx.Response:
        body = {"model": "m@1", "action": ACTION, "policy": "small", "on_top_of_record": True}
        evidence = {"fulfilments": [supposed | more]}
        return await client.post("/v1/simulations", json=body | {"evidence": evidence})

    assert (await simulated(name="report")).json()["decision"] == "allow"
    for wrong in ({"name": "rapport"}, {"name": "report", "pointer": "/actions/x/obligations/0"}):
        assert problem(await simulated(**wrong)) == (422, "invalid-document")


async def test_a_fulfilment_that_shows_nothing_is_refused(obliged: httpx.AsyncClient) -> None:
    """One without sources or a reason, one of tomorrow, and one that says who made it."""
    await decide(obliged, "m@1")
    id = (await of(obliged, "publish"))["id"]
    nothing: tuple[Json, ...] = (
        {"sources": []},
        {"reason": " "},
        {"done_at": "2999-01-01T00:00:00Z"},
        {"by": "somebody else"},
    )
    for said in nothing:
        answer = await fulfil(obliged, id, said=said, headers={"Idempotency-Key": "k"})

        assert problem(answer) == (422, "invalid-document")
        pointers = [fault["pointer"] for fault in answer.json()["errors"]]
        assert pointers == [f"/{name}" for name in said]
    assert (await of(obliged, "publish"))["status"] == "open"


async def test_what_is_not_there_is_not_found(reader: httpx.AsyncClient) -> None:
    id = f"obl_{'0' * 32}"

    assert problem(await reader.get(f"{PATH}/{id}")) == (404, "not-found")
    assert problem(await fulfil(reader, id)) == (404, "not-found")
    assert problem(await reader.get(f"/v1/fulfilments/{id}")) == (404, "not-found")


async def test_it_needs_the_permission_to_fulfil(
    empty: Service, obliged: httpx.AsyncClient
) -> None:
    await decide(obliged, "m@1")
    id = (await of(obliged, "publish"))["id"]
    for role, status in (("orchestrator", 403), ("reader", 403), ("safeguards-owner", 201)):
        async with empty.client((await empty.new_key(role)).text) as client:
            assert (await fulfil(client, id)).status_code == status


async def test_a_bent_fulfilment_is_found(empty: Service, obliged: httpx.AsyncClient) -> None:
    """As where somebody lets it speak for another obligation."""
    await decide(obliged, "m@1")
    id = (await of(obliged, "publish"))["id"]
    place = (await fulfil(obliged, id)).json()["ledger"]["index"]
    auditor = Database(empty.server.dsn(empty.name, SERVICE), audits=True)
    honest = await Sweep(auditor, replays=True).go_on()
    other = (await of(obliged, "report"))["id"]
    await empty.as_owner(
        f"ALTER TABLE fulfilment DISABLE TRIGGER USER; UPDATE fulfilment SET obligation_id = '{other}'"
    )
    bent = await Sweep(auditor, replays=True).go_on()
    await auditor.close()

    assert honest.is_clean
    assert [(one.index, "`fulfilment` says otherwise" in one.what) for one in bent.findings] == [
        (place, True)
    ]


# --- That it is late ---------------------------------------------------------------------------


async def test_it_is_overdue_from_its_due_on(obliged: httpx.AsyncClient) -> None:
    """Nothing need be asked or recorded for it; what was fulfilled is overdue no more."""
    await decide(obliged, "m@1")
    assert await listed(obliged, status="overdue") == []
    with later(days=25):
        (late,) = await listed(obliged, status="overdue")
        outstanding = [one["name"] for one in await listed(obliged, status="outstanding")]
        in_time = [one["name"] for one in await listed(obliged, status="open")]

    assert (late["name"], late["status"]) == ("report", "overdue")
    assert late["overdue_since"] == late["due"]
    assert outstanding == ["report", *in_time]
    assert (await fulfil(obliged, late["id"])).status_code == 201
    with later(days=25):
        assert await listed(obliged, status="overdue") == []
        (done,) = await listed(obliged, status="fulfilled")
    assert (done["name"], done["overdue_since"]) == ("report", None)


async def test_metrics_count_what_is_late(obliged: httpx.AsyncClient) -> None:
    """An assessment of a month ago, on which nobody reported."""
    await post(obliged, "assessments", found("m@1", "inconclusive", conducted_at=soon(days=-30)))
    await decide(obliged, "m@1")
    assert (await of(obliged, "report"))["status"] == "overdue"

    async def told() -> dict[str, float]:
        text = (await obliged.get("/metrics")).text
        return {
            sample.name.removeprefix("aslgate_obligations_"): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("aslgate_obligations_")
        }

    until = time.monotonic() + 10
    while await told() != {"open": 4, "overdue": 1, "behind": 0}:
        assert time.monotonic() < until, await told()
        await asyncio.sleep(0.02)


# --- Lists -------------------------------------------------------------------------------------


async def test_pages_give_each_once_in_the_order_of_their_dues(obliged: httpx.AsyncClient) -> None:
    """Dues that are the same, and none at all, included."""
    at = soon(seconds=-1)
    for i in range(2, 5):
        await register(obliged, f"m@{i}")
    for i in range(1, 5):
        await decide(obliged, f"m@{i}", at=at)
    whole = await listed(obliged)
    by_twos = await listed(obliged, limit=2)

    assert len({one["id"] for one in whole}) == len(whole) == 4 * 4 + 1
    assert by_twos == whole
    order = [(one["due"] is None, one["due"] or "", one["id"]) for one in whole]
    assert order == sorted(order)
    due = whole[-1 - 8]["due"]
    before = await listed(obliged, due_before=due, limit=3)
    assert before == [one for one in whole if one["due"] is not None and one["due"] < due]
    assert await listed(obliged, model="m@2", limit=1) == [
        one for one in whole if one["model"] == "m@2"
    ]


@pytest.mark.parametrize(
    "query",
    [
        "status=late",
        "due_before=2026-01-01",
        "after=x",
        "after=djE6MTI",  # of a list of determinations
        "after=ZHVlMTpvYmxfMDo",
        "limit=0",
        "limit=201",
        "by=ceo",
    ],
)
async def test_a_parameter_that_cannot_be_used_is_refused(
    reader: httpx.AsyncClient, query: str
) -> None:
    assert problem(await reader.get(f"{PATH}?{query}")) == (422, "invalid-parameter")


# --- Once, whoever looks -----------------------------------------------------------------------


@asynccontextmanager
async def another_process(service: Service) -> AsyncIterator[ObligationFollower]:
    """The follower of another process: a store, and a memory, of its own."""
    store = Store(Database(service.server.dsn(service.name, SERVICE), throwaway=True))
    await store.open(now())
    try:
        yield ObligationFollower(store, now)
    finally:
        await store.close()


async def ask_many(client: httpx.AsyncClient, many: int) -> list[Json]:
    question = {"model": "m@1", "action": ACTION, "policy": "small"}
    asked = {"determinations": [question] * many}
    answers: list[Json] = (await post(client, "determinations/batch", asked))["determinations"]
    return answers


async def moving(client: httpx.AsyncClient, rounds: int) -> dict[str, datetime]:
    """Many questions, between reports and assessments that move two clocks; the last dues."""
    due: dict[str, datetime] = {}
    for i in range(rounds):
        since = soon(hours=i - 100)
        await met(client, since)
        await post(client, "assessments", found("m@1", "inconclusive", conducted_at=since))
        answers = await ask_many(client, 5)
        due = {
            one["id"]: read_instant(one["due"])
            for one in answers[-1]["obligations"]
            if one["id"] in ("report", "re-approve-safeguards")
        }
    return due


async def test_several_processes_and_cuts_lose_no_clock(
    empty: Service, obliged: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three are at it with the service's own, and are cut off again and again, wherever they are."""
    monkeypatch.setattr(obligations, "PAGE", 3)
    chance, cuts = random.Random(), 0
    first = await decide(obliged, "m@1")
    async with another_process(empty) as one, another_process(empty) as two:
        asking = asyncio.create_task(moving(obliged, 8))
        while not asking.done() or cuts < 6:
            tasks = [asyncio.create_task(follower.run()) for follower in (one, two, one)]
            await asyncio.sleep(chance.uniform(0, 0.05))
            if cuts % 5 == 0:
                await empty.as_owner(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
                    "current_database() AND pid <> pg_backend_pid() AND query LIKE '%obligation%'"
                )
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            cuts += 1
        due = await asking
        told = {one["name"]: one for one in await listed(obliged)}

    assert {name: read_instant(told[name]["due"]) for name in due} == due
    for name in ("publish", "give-notice", "think-ahead"):
        assert told[name]["raised_by"]["determination"] == first["id"]


async def test_who_comes_second_keeps_nothing(empty: Service, obliged: httpx.AsyncClient) -> None:
    """What another has read meanwhile is not read again, nor is anything passed over."""
    await decide(obliged, "m@1")
    before = (await obliged.get(f"{PATH}/{(await of(obliged, 'publish'))['id']}")).json()
    async with empty.store.working() as connection:
        changed = await advance(connection, 0, 10**6, [])

    assert changed is None
    assert (await obliged.get(f"{PATH}/{before['id']}")).json() == before


async def test_all_of_it_can_be_found_again(
    empty: Service, obliged: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no record: whoever runs the database may empty it, and what was fulfilled still is."""
    await decide(obliged, "m@1")
    await fulfil(obliged, (await of(obliged, "report"))["id"])
    await moving(obliged, 2)
    await fulfil(obliged, (await of(obliged, "publish"))["id"])
    before = await listed(obliged)
    monkeypatch.setattr(obligations, "PAGE", 2)
    await empty.as_owner("DELETE FROM obligation; UPDATE obligation_position SET next = 0")

    assert await listed(obliged) == before
    assert [one["name"] for one in before if one["status"] == "fulfilled"] == ["publish"]


async def test_what_cannot_be_read_holds_nobody_up(
    obliged: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails is passed over, and that is logged; what comes after it is found."""

    def fails_once(document: Json, *how: Any) -> Any:
        if document["model"] == "broken@1":
            raise KeyError("due")
        return raised_by(document, *how)

    monkeypatch.setattr(obligations, "raised_by", fails_once)
    await register(obliged, "broken@1")
    await decide(obliged, "broken@1")
    await decide(obliged, "m@1")

    assert {one["model"] for one in await listed(obliged)} == {"m@1"}
