"""AuthZEN 1.0: an evaluation is a gate, and whatever is not one is a no or a 400."""

from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import ValidationError

from app.http.authzen import router as authzen_router
from app.operations import find_allowed
from app.settings import Settings
from app.storage.embedded import EmbeddedPostgres
from tests.http.conftest import BOOTSTRAP_KEY, Service, running
from tests.http.published import Json, problem
from tests.http.small import ACTION, found, in_force, policy, post, register

SUBJECT = {"type": "user", "id": "alice@example.com"}


def asking(model: str = "yes@1", **more: Any) -> Json:
    return {
        "subject": SUBJECT,
        "action": {"name": ACTION},
        "resource": {"type": "model", "id": model},
    } | more


def items(*models: str) -> list[Json]:
    return [{"resource": {"type": "model", "id": model}} for model in models]


def many(*models: str, semantic: str | None = None, **more: Any) -> Json:
    options = {} if semantic is None else {"options": {"evaluations_semantic": semantic}}
    return {"subject": SUBJECT, "action": {"name": ACTION}, "evaluations": items(*models)} | (
        options | more
    )


async def evaluate(client: httpx.AsyncClient, body: Json, **headers: str) -> Json:
    """What is answered, which is 200 and not 201."""
    path = "evaluations" if "evaluations" in body else "evaluation"
    answer = await client.post(f"/access/v1/{path}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    said: Json = answer.json()
    return said


async def decisions(client: httpx.AsyncClient, body: Json) -> list[bool]:
    return [one["decision"] for one in (await evaluate(client, body))["evaluations"]]


@pytest.fixture
async def models(empty: Service, empty_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a service with a model version for each answer: `yes@1`, `no@1`, `limited@1`."""
    await in_force(empty, empty_client, policy())
    for model in ("no@1", "yes@1", "limited@1"):
        await register(empty_client, model)
    for model in ("yes@1", "limited@1"):
        await post(empty_client, "assessments", found(model))
    limit = {"model": "limited@1", "issuer": "i", "issued_by": "customer", "effect": "limit"}
    await post(empty_client, "orders", limit | {"statement": "only in the daytime"})
    return empty_client


# --- One ---------------------------------------------------------------------------------------


async def test_an_evaluation_is_a_gate_that_is_recorded_with_whom_it_was_asked_for(
    models: httpx.AsyncClient,
) -> None:
    """And its context says where it is read and proved, what each policy says, and why not."""
    allowed = await evaluate(models, asking())
    denied = await evaluate(models, asking("no@1"))

    assert (allowed["decision"], denied["decision"]) == (True, False)
    for said in (allowed, denied):
        context = said["context"]
        gate = (await models.get(context["record"])).json()
        assert gate["id"] == context["gate"]
        assert gate["allowed"] is said["decision"]
        assert gate["on_behalf_of"] == "user:alice@example.com"
        assert context["proof"] == f"/v1/ledger/entries/{gate['ledger']['index']}/proof"
        assert context["policies"] == [{**gate["policies"][0], "level": None}]
        replay = await models.get(f"{context['record']}/replay")
        assert replay.json()["same"] is True
    assert allowed["context"]["reasons"] == []
    assert [one["policy"] for one in denied["context"]["reasons"]] == ["small"]


async def test_conditions_are_a_no_but_to_who_keeps_them(models: httpx.AsyncClient) -> None:
    without = await evaluate(models, asking("limited@1"))
    with_them = await evaluate(models, asking("limited@1", context={"accept_conditions": True}))

    assert (without["decision"], with_them["decision"]) == (False, True)
    for said in (without, with_them):
        assert said["context"]["decision"] == "allow_with_conditions"
        assert ["only in the daytime" in c["message"] for c in said["context"]["conditions"]] == [
            True
        ]
    assert [one["code"] for one in without["context"]["reasons"]] == ["conditions.not_accepted"]
    for given in ("true", 1, None):
        refused = await models.post(
            "/access/v1/evaluation", json=asking(context={"accept_conditions": given})
        )
        assert problem(refused) == (400, "undecodable-document")
        assert refused.json()["errors"][0]["pointer"] == "/context/accept_conditions"


@pytest.mark.parametrize(
    ("more", "code", "recorded"),
    [
        ({"resource": {"type": "model", "id": "nobody@1"}}, "model.unknown", True),
        ({"action": {"name": "no-such-action"}}, "action.unknown", True),
        ({"resource": {"type": "model", "id": "no version"}}, "model.unknown", False),
        ({"resource": {"type": "record", "id": "yes@1"}}, "resource.unknown_type", False),
        ({"action": {"name": "Deploy it!"}}, "action.unknown", False),
    ],
)
async def test_what_is_unknown_is_a_no(
    empty: Service, models: httpx.AsyncClient, more: Json, code: str, recorded: bool
) -> None:
    """Recorded, where it is a question that a gate can be asked."""
    size = await empty.size()
    said = await evaluate(models, asking(**more))

    assert said["decision"] is False
    assert [reason["code"] for reason in said["context"]["reasons"]] == [code]
    assert (await empty.size() > size) is recorded
    assert ("record" in said["context"]) is recorded


async def test_the_same_idempotency_key_gives_the_same_decision_until_something_moves(
    empty: Service, models: httpx.AsyncClient
) -> None:
    for body in (asking(), many("yes@1", "no@1", "yes@1")):
        path = "/access/v1/evaluations" if "evaluations" in body else "/access/v1/evaluation"
        key = {"Idempotency-Key": path}
        first = await models.post(path, json=body, headers=key)
        size = await empty.size()
        again = await models.post(path, json=body, headers=key)

        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert await empty.size() == size
    await post(models, "assessments", found("yes@1", "reached"))
    for body in (asking(), many("yes@1", "no@1", "yes@1")):
        path = "/access/v1/evaluations" if "evaluations" in body else "/access/v1/evaluation"
        later = await models.post(path, json=body, headers={"Idempotency-Key": path})
        assert problem(later) == (409, "determination-superseded")


async def test_without_a_database_it_is_neither_yes_nor_no(
    empty: Service, models: httpx.AsyncClient
) -> None:
    await empty.cut_off(True)
    try:
        for path, body in (("evaluation", asking()), ("evaluations", many("yes@1", "no@1"))):
            answer = await models.post(f"/access/v1/{path}", json=body)
            assert problem(answer) == (503, "unavailable")
            assert answer.headers["Retry-After"]
    finally:
        await empty.cut_off(False)


@pytest.mark.parametrize("given", ["bfe9eb29-ab87-4ca3-be83-a1d5d8305716", "a/b:c=d e", "~" * 300])
async def test_the_request_s_id_comes_back_as_it_was_sent(
    reader: httpx.AsyncClient, given: str
) -> None:
    """Also where the request is refused. Elsewhere only a plain word does."""
    headers = {"X-Request-ID": given}
    for body in ({}, {"subject": SUBJECT}):
        answer = await reader.post("/access/v1/evaluation", json=body, headers=headers)
        assert answer.headers.get_list("X-Request-ID") == [given]


# --- Many --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("semantic", "answered"),
    [
        (None, [True, False, True, False]),
        ("execute_all", [True, False, True, False]),
        ("deny_on_first_deny", [True, False]),
        ("permit_on_first_permit", [True]),
    ],
)
async def test_each_semantics_ends_where_it_says(
    empty: Service, models: httpx.AsyncClient, semantic: str | None, answered: list[bool]
) -> None:
    """What comes after that is not asked, and nothing of it is recorded."""
    size = await empty.size()
    body = many("yes@1", "no@1", "yes@1", "limited@1", semantic=semantic)

    assert await decisions(models, body) == answered
    assert await empty.size() == size + 2 * len(answered)


async def test_an_item_that_asks_nothing_is_a_no_in_its_place(
    empty: Service, models: httpx.AsyncClient
) -> None:
    """It denies like any other, so what comes after it is not asked where a denial ends it."""
    body = many("yes@1", "?", "yes@1")
    body["evaluations"].insert(1, {"resource": "no object"})

    size = await empty.size()
    said = await evaluate(models, body)
    assert [one["decision"] for one in said["evaluations"]] == [True, False, False, True]
    assert said["evaluations"][1]["context"]["error"]["status"] == 400
    assert "/resource" in said["evaluations"][1]["context"]["error"]["message"]
    assert await empty.size() == size + 2 * 2

    denying = body | {"options": {"evaluations_semantic": "deny_on_first_deny"}}
    assert await decisions(models, denying) == [True, False]
    assert await empty.size() == size + 2 * 3
    body["evaluations"].pop(0)
    permitting = body | {"options": {"evaluations_semantic": "permit_on_first_permit"}}
    assert await decisions(models, permitting) == [False, False, True]


async def test_what_stands_above_counts_where_an_item_does_not_say(
    models: httpx.AsyncClient,
) -> None:
    """Whole: of an entity that an item names nothing is taken from above."""
    above = asking("limited@1", context={"accept_conditions": True})
    body = above | {
        "evaluations": [
            {},
            {"context": {}},
            {"resource": {"type": "model", "id": "yes@1"}},
            {"resource": {"type": "model"}},
            {"action": None},
        ]
    }

    said = await evaluate(models, body)
    assert [one["decision"] for one in said["evaluations"]] == [True, False, True, False, False]
    assert all("error" in one["context"] for one in said["evaluations"][3:])


async def test_many_are_one_commit_and_not_too_many(
    empty: Service, models: httpx.AsyncClient
) -> None:
    size = await empty.size()
    assert await decisions(models, many(*["yes@1"] * 100)) == [True] * 100
    assert await empty.size() == size + 200

    refused = await models.post("/access/v1/evaluations", json=many(*["yes@1"] * 101))
    assert problem(refused) == (400, "undecodable-document")
    assert refused.json()["errors"][0]["pointer"] == "/evaluations"
    assert await empty.size() == size + 200


# --- What is no request ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"subject": {"type": "user", "id": "a" * 257}},
        {"subject": {"type": "user", "id": ""}},
        {"subject": {"type": "user", "id": "a\nb"}},
        {"context": []},
        {"resource": {"type": "model", "id": "yes@1", "properties": 1}},
    ],
)
async def test_what_we_cannot_keep_or_read_is_refused(standing: Service, more: Json) -> None:
    """400, with a pointer to what is wrong."""
    async with standing.client(BOOTSTRAP_KEY) as client:
        refused = await client.post("/access/v1/evaluation", json=asking(**more))

    assert problem(refused) == (400, "undecodable-document")
    assert refused.json()["errors"][0]["pointer"].startswith(f"/{next(iter(more))}")


# --- What may be done --------------------------------------------------------------------------


def searching(**more: Any) -> Json:
    return {"subject": SUBJECT, "action": {"name": ACTION}, "resource": {"type": "model"}} | more


async def search(client: httpx.AsyncClient, body: Json) -> Json:
    answer = await client.post("/access/v1/search/resource", json=body)
    assert answer.status_code == 200, answer.text
    said: Json = answer.json()
    return said


def names(said: Json) -> list[str]:
    return [one["id"] for one in said["results"]]


async def test_what_is_found_is_what_a_gate_would_allow_now(
    empty: Service, models: httpx.AsyncClient
) -> None:
    """On what is recorded now, whatever is remembered; and nothing is recorded by it."""
    for _ in range(2):
        size = await empty.size()
        assert names(await search(models, searching())) == ["yes@1"]
        with_conditions = searching(context={"accept_conditions": True})
        assert names(await search(models, with_conditions)) == ["yes@1", "limited@1"]
        assert await empty.size() == size
        for model in ("yes@1", "no@1", "limited@1"):
            allowed = (await evaluate(models, asking(model)))["decision"]
            assert allowed is (model == "yes@1")

    await post(models, "assessments", found("yes@1", "reached"))
    assert names(await search(models, searching())) == []


async def test_what_another_replica_recorded_is_seen(
    models: httpx.AsyncClient, replica: httpx.AsyncClient, empty: Service
) -> None:
    """What this one remembers is held against the ledger: the evidence, and which policies there are."""
    assert names(await search(models, searching())) == ["yes@1"]
    await post(replica, "assessments", found("no@1"))
    assert names(await search(models, searching())) == ["no@1", "yes@1"]

    await in_force(empty, replica, policy("other"))
    assert names(await search(models, searching())) == []


@pytest.mark.parametrize(
    "more",
    [
        {"resource": {"type": "record"}},
        {"action": {"name": "no-such-action"}},
        {"action": {"name": "No such action!"}},
    ],
)
async def test_of_what_is_unknown_nothing_is_found(models: httpx.AsyncClient, more: Json) -> None:
    said = await search(models, searching(**more))
    assert said == {"page": {"next_token": "", "count": 0}, "results": []}


async def test_pages_follow_each_other_to_an_empty_token(
    models: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of so many at most, found among so many looked at; a token is of one search only."""
    for number in range(2, 6):
        await register(models, f"yes@{number}")
        await post(models, "assessments", found(f"yes@{number}"))
    for looked_at in (2, 100):
        monkeypatch.setattr(find_allowed, "MOST_LOOKED_AT", looked_at)
        for limit in (1, 2, 50):
            seen: list[str] = []
            said = await search(models, searching(page={"limit": limit}))
            while token := said["page"]["next_token"]:
                seen += names(said)
                assert said["page"]["count"] == len(said["results"]) <= limit
                again = searching(page={"limit": limit, "token": token})
                said = await search(models, again)
            assert seen + names(said) == [f"yes@{number}" for number in range(1, 6)]

    first = (await search(models, searching(page={"limit": 1})))["page"]["next_token"]
    none = await search(models, searching(page={"limit": 0}))
    assert none["results"] == []
    assert none["page"]["next_token"]
    others = [
        searching(page={"token": first}, action={"name": "other"}),
        searching(page={"token": first}, context={"accept_conditions": True}),
        searching(page={"token": ""}),
        searching(page={"token": "x"}),
        searching(page={"limit": -1}),
    ]
    for body in others:
        refused = await models.post("/access/v1/search/resource", json=body)
        assert problem(refused) == (400, "undecodable-document")
        assert refused.json()["errors"][0]["pointer"].startswith("/page/")


# --- Where ---------------------------------------------------------------------------------------


async def test_who_is_told_its_address_tells_where_it_speaks_authzen(
    postgres: EmbeddedPostgres, template: str
) -> None:
    """To everybody; and its answers hold whole addresses then. Who is not has no such document."""
    base = "https://aslgate.example.com"
    async with (
        running(postgres, template, public_url=f"{base}/") as service,
        service.client(None) as anyone,
        service.client(BOOTSTRAP_KEY) as client,
    ):
        answer = await anyone.get("/.well-known/authzen-configuration")
        evaluated = await evaluate(client, asking())

    assert answer.headers["Content-Type"] == "application/json"
    said = answer.json()
    assert said.pop("policy_decision_point") == base
    assert {path.removeprefix(base) for path in said.values()} == {
        route.path for route in authzen_router.routes if isinstance(route, APIRoute)
    }
    assert evaluated["context"]["record"].startswith(f"{base}/v1/gates/gat_")


async def test_who_is_not_told_its_address_does_not_guess_it(reader: httpx.AsyncClient) -> None:
    answer = await reader.get("/.well-known/authzen-configuration")
    assert problem(answer) == (404, "no-such-path")


@pytest.mark.parametrize(
    "url",
    ["http://a.example", "a.example", "https://", "https://a.example/?x=1", "https://u@a.example"],
)
def test_only_an_address_that_authzen_takes_is_taken(url: str) -> None:
    with pytest.raises(ValidationError):
        Settings(public_url=url)
