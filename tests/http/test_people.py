"""Two keys of one person are one person: who may approve, activate or take back what, by principal,
and who may speak as which role of a policy.
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.operations.ask_gate import standing_of_gate
from app.operations.context import Context
from app.operations.determine import standing_of
from tests.http.conftest import Service
from tests.http.published import Json, problem
from tests.http.small import ACTION, decide, decision, found, in_force, policy, post, register, soon
from tests.http.test_exceptions import approve, requested

MODEL = "m@1"
PEOPLE = {
    "alice": "person:alice",
    "alice, second key": "person:alice",
    "bob": "person:bob",
    "bob, second key": "person:bob",
    "a team": "team:red",
    "a service": "service:ci",
}
ROLES = ("policy-author", "policy-approver", "assessor", "approver", "registry")
Clients = dict[str, httpx.AsyncClient]
DONE = "done"


@pytest.fixture
async def people(empty: Service) -> AsyncIterator[Clients]:
    """One client for each key; all may do the same, as any role of a policy."""
    async with AsyncExitStack() as stack:
        clients = {}
        for name, principal in PEOPLE.items():
            key = await empty.new_key(*ROLES, principal=principal)
            clients[name] = await stack.enter_async_context(empty.client(key.text))
        yield clients


def became_of(answer: httpx.Response) -> str:
    """`done`, or the name of the problem."""
    return DONE if answer.status_code == 201 else problem(answer)[1]


# --- Who may do what to what alice recorded --------------------------------------------------------


async def test_who_approves_what_alice_recorded(people: Clients) -> None:
    """Sending the same document again makes nobody its author."""
    await post(people["alice"], "policies/small/versions", policy())
    await post(people["bob"], "policies/small/versions", policy())
    path = "/v1/policies/small/versions/1/approvals"
    said = {
        name: became_of(await client.post(path, json={"reason": "r"}))
        for name, client in people.items()
    }

    assert said == {
        "alice": "self-approval",
        "alice, second key": "self-approval",
        "bob": DONE,
        "bob, second key": "already-recorded",
        "a team": DONE,
        "a service": DONE,
    }


async def test_who_activates_what_alice_recorded(
    people: Clients, empty_client: httpx.AsyncClient
) -> None:
    """A version each, approved by somebody who has no part in it otherwise."""
    said = {}
    for number, (name, client) in enumerate(people.items()):
        path = f"policies/small/versions/{number}"
        await post(people["alice"], "policies/small/versions", policy(version=str(number)))
        await post(empty_client, f"{path}/approvals", {"reason": "r"})
        activation = {"in_force_from": soon(minutes=number + 1)}
        said[name] = became_of(await client.post(f"/v1/{path}/activation", json=activation))

    assert said == {
        "alice": "self-activation",
        "alice, second key": "self-activation",
        "bob": DONE,
        "bob, second key": DONE,
        "a team": DONE,
        "a service": DONE,
    }


async def test_a_version_that_comes_back_was_approved_by_another_person_than_activates_it(
    people: Clients, empty_client: httpx.AsyncClient
) -> None:
    for number in (0, 1):
        path = f"policies/small/versions/{number}"
        await post(people["alice"], "policies/small/versions", policy(version=str(number)))
        await post(empty_client, f"{path}/approvals", {"reason": "r"})
        await post(empty_client, f"{path}/activation", {})
    back = "policies/small/versions/0"
    await post(people["bob"], f"{back}/approvals", {"reason": "r"})
    said = {
        name: became_of(
            await people[name].post(
                f"/v1/{back}/activation", json={"in_force_from": soon(days=n), "reason": "r"}
            )
        )
        for n, name in enumerate(("bob", "bob, second key", "a team"), 1)
    }

    assert said == {"bob": "not-approved", "bob, second key": "not-approved", "a team": DONE}


async def with_a_shortfall(empty: Service, client: httpx.AsyncClient) -> None:
    """The small policy, and a model version that has reached its threshold."""
    await in_force(empty, client, policy())
    await register(client, MODEL)
    await post(client, "assessments", found(MODEL, "reached"))


async def test_who_approves_the_exception_that_alice_asked_for(
    people: Clients, empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Each tries both roles on a request of its own."""
    await with_a_shortfall(empty, empty_client)
    said = {}
    for name, client in people.items():
        exception = await post(people["alice"], "exceptions", requested())
        answers = [await approve(client, exception, role) for role in ("ceo", "rso")]
        said[name] = tuple(map(became_of, answers))

    assert said == {
        "alice": ("self-approval", "self-approval"),
        "alice, second key": ("self-approval", "self-approval"),
        "bob": (DONE, "four-eyes"),
        "bob, second key": (DONE, "four-eyes"),
        "a team": (DONE, "four-eyes"),
        "a service": (DONE, "four-eyes"),
    }
    assert await decision(empty_client, MODEL) == "deny"


async def test_two_keys_of_one_person_do_not_make_an_exception_count(
    people: Clients, empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """A third person does."""
    await with_a_shortfall(empty, empty_client)
    exception = await post(people["alice"], "exceptions", requested())
    first = await approve(people["bob"], exception, "ceo")
    second = await approve(people["bob, second key"], exception, "rso")
    before = await decision(empty_client, MODEL)
    again = await approve(people["bob, second key"], exception, "ceo")
    third = await approve(people["a team"], exception, "rso")

    assert [became_of(one) for one in (first, second, again, third)] == [
        DONE,
        "four-eyes",
        "already-recorded",
        DONE,
    ]
    assert (before, await decision(empty_client, MODEL)) == ("deny", "allow_with_conditions")


async def test_who_takes_back_what_alice_found_against_the_model(
    people: Clients, empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, policy())
    await register(empty_client, MODEL)
    said = {}
    for name, client in people.items():
        piece = await post(people["alice"], "assessments", found(MODEL, "not-ruled-out"))
        path = f"/v1/assessments/{piece['id']}/withdrawal"
        said[name] = became_of(await client.post(path, json={"reason": "r"}))

    assert said == {
        "alice": DONE,
        "alice, second key": DONE,
        "bob": "withdrawal-by-another",
        "bob, second key": "withdrawal-by-another",
        "a team": "withdrawal-by-another",
        "a service": "withdrawal-by-another",
    }


# --- As which role of a policy ---------------------------------------------------------------------


@pytest.fixture
async def ceo(empty: Service, empty_client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """Whose key speaks as the CEO, of a service in which a model version may be assessed."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, MODEL)
    key = await empty.new_key(
        "assessor", "approver", "safeguards-owner", principal="person:c", policy_roles=["ceo"]
    )
    async with empty.client(key.text) as client:
        yield client


@pytest.fixture
async def nobody(empty: Service) -> AsyncIterator[httpx.AsyncClient]:
    """Who may record the same, and speaks as no role."""
    key = await empty.new_key("assessor", "approver", "safeguards-owner", policy_roles=[])
    async with empty.client(key.text) as client:
        yield client


def signed(role: str = "ceo", **more: Any) -> Json:
    said = {"model": MODEL, "policy": "small", "action": ACTION, "verb": "approved", "reason": "r"}
    return said | {"role": role} | more


async def test_a_finding_is_made_as_the_roles_that_its_finder_holds(
    ceo: httpx.AsyncClient, nobody: httpx.AsyncClient, empty: Service
) -> None:
    """Whatever is found: and all the roles that are named, not one of them."""
    size = await empty.size()
    for client, by in ((nobody, ["ceo"]), (ceo, ["rso"]), (ceo, ["ceo", "rso"])):
        for outcome in ("ruled-out", "reached"):
            answer = await client.post("/v1/assessments", json=found(MODEL, outcome, by=by))
            assert problem(answer) == (403, "role-not-held")
            unheld = set(by) - ({"ceo"} if client is ceo else set())
            assert [role for role in ("ceo", "rso") if f"`{role}`" in answer.json()["detail"]] == [
                role for role in ("ceo", "rso") if role in unheld
            ]
    assert await empty.size() == size
    await post(ceo, "assessments", found(MODEL, by=["ceo"]))


async def test_a_sign_off_is_given_in_a_role_that_its_giver_holds(
    ceo: httpx.AsyncClient, nobody: httpx.AsyncClient, empty: Service
) -> None:
    """Whatever its verb is."""
    size = await empty.size()
    for verb in ("approved", "recommended", "reversed"):
        for client, role in ((nobody, "ceo"), (ceo, "rso")):
            answer = await client.post("/v1/sign-offs", json=signed(role, verb=verb))
            assert problem(answer) == (403, "role-not-held")
    assert await empty.size() == size
    await post(ceo, "sign-offs", signed("ceo"))


async def test_a_report_is_stated_by_a_role_that_its_reporter_holds(
    ceo: httpx.AsyncClient, nobody: httpx.AsyncClient
) -> None:
    """What no text defines is met by such a word alone. Whoever is no role is named in words that no
    role could have: what no version names now, a later one may.
    """
    report = {"model": MODEL, "policy": "small", "standard": "s", "criterion": None, "met": True}
    report |= {"valid_from": soon(days=-1)}
    for client, who in ((nobody, "ceo"), (ceo, "rso"), (ceo, "cto"), (nobody, "safety.board_2")):
        answer = await client.post("/v1/safeguards", json=report | {"stated_by": who})
        assert problem(answer) == (403, "role-not-held")
    await post(ceo, "safeguards", report | {"stated_by": "ceo"})
    for who in ("the owner", "Owner", "ceo@lab", "CEO"):
        await post(nobody, "safeguards", report | {"stated_by": who})


async def test_an_exception_is_approved_in_a_role_that_its_approver_holds(
    ceo: httpx.AsyncClient, nobody: httpx.AsyncClient, empty_client: httpx.AsyncClient
) -> None:
    await post(empty_client, "assessments", found(MODEL, "reached"))
    exception = await post(empty_client, "exceptions", requested())
    for client, role in ((nobody, "ceo"), (ceo, "rso")):
        assert problem(await approve(client, exception, role)) == (403, "role-not-held")

    assert (await approve(ceo, exception, "ceo")).status_code == 201


async def test_what_is_wrong_with_it_is_said_before_who_may_say_it(
    nobody: httpx.AsyncClient, ceo: httpx.AsyncClient
) -> None:
    """A role that the policy does not have is no role that anybody could hold."""
    answer = await nobody.post("/v1/sign-offs", json=signed("janitor"))

    assert problem(answer) == (422, "invalid-document")


# --- Who found does not approve alone --------------------------------------------------------------


@pytest.fixture
async def assessed(people: Clients, empty: Service, empty_client: httpx.AsyncClient) -> Clients:
    """The people, of a service with two model versions of the same weights, and one of others."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, MODEL, weights="w")
    await register(empty_client, "twin@1", weights="w")
    await register(empty_client, "else@1")
    return people


async def signs(client: httpx.AsyncClient, **more: Any) -> str:
    return became_of(await client.post("/v1/sign-offs", json=signed(**more)))


async def finds(client: httpx.AsyncClient, *said: str, model: str = MODEL) -> str:
    return became_of(await client.post("/v1/assessments", json=found(model, *said)))


async def test_who_found_approves_only_after_somebody_else(assessed: Clients) -> None:
    await finds(assessed["alice"])
    said = [
        await signs(assessed[name])
        for name in ("alice", "alice, second key", "bob", "alice", "alice, second key")
    ]

    assert said == ["sole-approver", "sole-approver", DONE, DONE, DONE]


async def test_who_alone_has_approved_finds_nothing_that_permits(assessed: Clients) -> None:
    """The other order of the same; what counts against the model is always heard."""
    said = [
        await signs(assessed["alice"]),
        await finds(assessed["alice"]),
        await finds(assessed["alice, second key"]),
        await finds(assessed["alice"], "reached"),
        await finds(assessed["bob"]),
        await signs(assessed["bob"], model=MODEL, action=ACTION),
    ]
    assert said == [DONE, "sole-approver", "sole-approver", DONE, DONE, DONE]


async def test_once_somebody_else_has_approved_too_the_finding_is_heard(assessed: Clients) -> None:
    said = [
        await signs(assessed["alice"]),
        await signs(assessed["a team"]),
        await finds(assessed["alice"]),
    ]

    assert said == [DONE, DONE, DONE]


async def test_an_approval_that_was_withdrawn_is_nobody_s(assessed: Clients) -> None:
    """Neither the other's, which would have been enough, nor one's own, which was too much."""
    await finds(assessed["alice"])
    other = await post(assessed["bob"], "sign-offs", signed())
    await post(assessed["bob"], f"sign-offs/{other['id']}/withdrawal", {"reason": "r"})
    assert await signs(assessed["alice"]) == "sole-approver"

    own = await post(assessed["a team"], "sign-offs", signed())
    assert await finds(assessed["a team"]) == "sole-approver"
    await post(assessed["a team"], f"sign-offs/{own['id']}/withdrawal", {"reason": "r"})
    assert await finds(assessed["a team"]) == DONE


async def test_only_what_approves_is_held_against_what_was_found(assessed: Clients) -> None:
    await finds(assessed["alice"])
    said = {
        verb: await signs(assessed["alice"], verb=verb)
        for verb in ("prepared", "recommended", "reversed", "reassess", "decided", "approved")
    }

    refused = {verb for verb, what in said.items() if what == "sole-approver"}
    assert refused == {"decided", "approved"}
    assert set(said.values()) == {DONE, "sole-approver"}


async def test_findings_are_those_of_all_who_serve_the_same_weights(assessed: Clients) -> None:
    """In both orders: the finding lets pass whatever is deployed of them."""
    await finds(assessed["alice"], model="twin@1")
    said = [await signs(assessed["alice"]), await signs(assessed["alice"], model="else@1")]
    await signs(assessed["bob"])
    said.append(await finds(assessed["bob"], model="twin@1"))
    said.append(await finds(assessed["bob"], model="else@1"))

    assert said == ["sole-approver", DONE, "sole-approver", DONE]


async def test_each_action_has_its_own_approvers(empty: Service, people: Clients) -> None:
    """Another's approval of something else is none of this."""
    small = policy()
    small["actions"]["train"] = small["actions"][ACTION]
    small["thresholds"]["T"]["requires"][0]["before"].append("train")
    await in_force(empty, people["a service"], small)
    await register(people["a service"], MODEL)
    said = [
        await signs(people["alice"]),
        await signs(people["bob"], action="train"),
        await finds(people["alice"]),
    ]

    assert said == [DONE, DONE, "sole-approver"]


async def test_a_finding_and_an_approval_at_once_are_not_both_recorded(
    assessed: Clients, empty_client: httpx.AsyncClient
) -> None:
    """By two keys of one person, over and over: one of them comes first, and the other is refused."""
    for number in range(8):
        model = f"at-once@{number}"
        await register(empty_client, model)
        said = await asyncio.gather(
            finds(assessed["alice"], model=model),
            signs(assessed["alice, second key"], model=model),
        )
        assert sorted(said) == [DONE, "sole-approver"]


async def test_findings_at_once_are_in_nobody_s_way(assessed: Clients) -> None:
    """Nor are approvals: an evaluation that sends many results at once is not told to come again."""
    found_by_alice = await asyncio.gather(*(finds(assessed["alice"]) for _ in range(6)))
    by_bob = await asyncio.gather(*(signs(assessed["bob"]) for _ in range(6)))

    assert set(found_by_alice) == {DONE}
    assert set(by_bob) == {DONE}


async def test_a_refusal_is_said_again_under_its_key_and_what_was_recorded_is_given_back(
    assessed: Clients,
) -> None:
    """A key that was used before the refusal began to hold gets what was recorded then."""
    alice, headers = assessed["alice"], {"Idempotency-Key": "k"}
    first = await alice.post("/v1/sign-offs", json=signed(), headers=headers)
    body = found(MODEL)
    refused = [
        await alice.post("/v1/assessments", json=body, headers={"Idempotency-Key": "f"})
        for _ in range(2)
    ]
    by_bob = await post(assessed["bob"], "sign-offs", signed())
    heard = await alice.post("/v1/assessments", json=body, headers={"Idempotency-Key": "f"})
    await post(assessed["bob"], f"sign-offs/{by_bob['id']}/withdrawal", {"reason": "r"})
    withdrawn = await alice.post(
        f"/v1/sign-offs/{first.json()['id']}/withdrawal", json={"reason": "r"}
    )
    anew = await alice.post("/v1/sign-offs", json=signed())
    again = await alice.post("/v1/sign-offs", json=signed(), headers=headers)

    assert [became_of(one) for one in refused] == ["sole-approver"] * 2
    assert heard.status_code == 201
    assert (became_of(withdrawn), became_of(anew)) == (DONE, "sole-approver")
    assert (again.status_code, again.json()) == (201, first.json())


# --- Nor does an answer rest on one who found and alone approved ------------------------------------

LAPSES_AFTER = 30
"""After how many days an approval lapses under `needing_approval`."""


def needing_approval() -> Json:
    """The small policy: a low number rules `T` out too, and the CEO approves, anew every so often."""
    small = policy()
    line = {"title": "t", "unit": "u", "riskier": "higher", "rule_out": {"below": 5}}
    small["lines"] = {"l": line | {"point_value_suffices": True}}
    threshold = small["thresholds"]["T"]
    threshold["evidence"] = ["l"]
    threshold["ruled_out"]["any"].append({"line": "l", "zone": "rule_out"})
    approved = {"role": "ceo", "verb": "approved", "clause": "c", "max_age": f"P{LAPSES_AFTER}D"}
    small["actions"][ACTION]["sign_offs"] = [approved]
    return small


def measured(model: str, value: int = 1) -> Json:
    """An assessment that finds nothing, and has a number."""
    return found(model) | {"findings": [], "results": [{"line": "l", "value": value}]}


@pytest.fixture
async def approvable(people: Clients, empty: Service, empty_client: httpx.AsyncClient) -> Clients:
    """The people, of a service in which an action waits for an approval."""
    await in_force(empty, empty_client, needing_approval())
    await register(empty_client, MODEL)
    return people


class _Steps:
    """What two people do about one model version. `by_bob`: his approvals that stand;
    `is_ruled_out`: whether anything that she found was recorded.
    """

    def __init__(self, alice: httpx.AsyncClient, bob: httpx.AsyncClient, model: str) -> None:
        self._alice, self._bob, self._model = alice, bob, model
        self.by_bob: list[str] = []
        self.is_ruled_out = False

    async def take(self, step: int) -> None:
        alice, bob, model = self._alice, self._bob, self._model
        steps: tuple[Callable[[], Awaitable[Any]], ...] = (
            self._find,
            self._measure,
            lambda: signs(alice, model=model),
            self._approve,
            lambda: signs(bob, model=model, given_at=soon(days=-LAPSES_AFTER, seconds=-1)),
            self._withdraw,
        )
        await steps[step]()

    async def _find(self) -> None:
        self.is_ruled_out |= await finds(self._alice, model=self._model) == DONE

    async def _measure(self) -> None:
        await post(self._alice, "assessments", measured(self._model))
        self.is_ruled_out = True

    async def _approve(self) -> None:
        self.by_bob.append((await post(self._bob, "sign-offs", signed(model=self._model)))["id"])

    async def _withdraw(self) -> None:
        while self.by_bob:
            await post(self._bob, f"sign-offs/{self.by_bob.pop()}/withdrawal", {"reason": "r"})


QUESTION = {"model": MODEL, "action": ACTION, "policy": "small"}


async def asks(client: httpx.AsyncClient, model: str = MODEL) -> str:
    """What is decided, or the name of the problem."""
    answer = await client.post("/v1/determinations", json=QUESTION | {"model": model})
    if answer.status_code == 201:
        said: str = answer.json()["decision"]
        return said
    return problem(answer)[1]


async def test_in_no_order_does_an_allow_rest_on_who_found_and_approved(
    approvable: Clients, empty_client: httpx.AsyncClient
) -> None:
    """All that permits is alice's; bob approves, takes it back, or did so too long ago. After each
    step of many orders an allow needs him, and it is given wherever he stands with her.
    """
    alice, bob = approvable["alice"], approvable["bob"]
    seed = random.randrange(2**32)
    orders = random.Random(seed).sample(list(itertools.permutations(range(6))), 12)
    said: Counter[str] = Counter()
    for number, order in enumerate(orders):
        model = f"order@{number}"
        await register(empty_client, model)
        steps = _Steps(alice, bob, model)
        for done, step in enumerate(order, 1):
            await steps.take(step)
            answer = await asks(empty_client, model)
            said[answer] += 1
            where = f"seed {seed}, order {order}, after {done}"
            assert answer != "allow" or steps.by_bob, where
            if steps.by_bob and steps.is_ruled_out:
                assert answer == "allow", where

    assert set(said) == {"allow", "deny", "sole-approver"}


async def test_once_nobody_else_approves_any_more_no_answer_lets_it_pass(
    approvable: Clients, empty_client: httpx.AsyncClient, empty: Service
) -> None:
    """Neither a new one, alone or with others, nor the one of before, however it is asked for."""
    alice, bob = approvable["alice"], approvable["bob"]
    finding = await post(alice, "assessments", found(MODEL))
    other = await post(bob, "sign-offs", signed())
    own = await post(alice, "sign-offs", signed())
    headers = {"Idempotency-Key": "k"}
    before = await post(empty_client, "determinations", QUESTION, headers=headers)
    gate = await post(empty_client, "gate", {"model": MODEL, "action": ACTION})
    await post(bob, f"sign-offs/{other['id']}/withdrawal", {"reason": "r"})
    size = await empty.size()
    again = await empty_client.post("/v1/determinations", json=QUESTION)
    some = {"determinations": [QUESTION | {"model": "m@2"}, QUESTION]}
    batch = await empty_client.post("/v1/determinations/batch", json=some)
    new_gate = await empty_client.post("/v1/gate", json={"model": MODEL, "action": ACTION})
    replayed = await empty_client.post("/v1/determinations", json=QUESTION, headers=headers)
    latest = await empty_client.get(f"/v1/models/{MODEL}/determination?action={ACTION}")
    read = await empty_client.get(f"/v1/gates/{gate['id']}")

    assert before["decision"] == gate["decision"] == "allow"
    assert problem(again) == problem(batch) == problem(new_gate) == (409, "sole-approver")
    assert again.json()["sign_offs"] == [own["id"]]
    assert again.json()["assessments"] == [finding["id"]]
    assert batch.json()["detail"].startswith("/determinations/1: ")
    assert problem(replayed) == (409, "determination-superseded")
    assert latest.headers["Determination-Superseded"] == "true"
    assert read.headers["Determination-Superseded"] == "true"
    assert await empty.size() == size
    await post(approvable["a service"], "sign-offs", signed())
    assert await asks(empty_client) == "allow"


async def test_an_allow_falls_with_the_age_of_the_other_s_approval(
    approvable: Clients, empty_client: httpx.AsyncClient, empty: Service
) -> None:
    """Nothing is recorded meanwhile, and alice's own approval would carry it for a month."""
    alice, bob = approvable["alice"], approvable["bob"]
    await post(bob, "sign-offs", signed(given_at=soon(days=-LAPSES_AFTER, minutes=5)))
    await finds(alice)
    await signs(alice)
    said = await decide(empty_client, MODEL)
    gate = await post(empty_client, "gate", {"model": MODEL, "action": ACTION})
    records = await empty.store.records_of([said["id"], gate["id"]])
    now = datetime.now(UTC)
    fell = []
    for minutes in (0, 10):
        context = Context(empty.store, "person:x/key_x", now + timedelta(minutes=minutes))
        fell.append(
            (
                (await standing_of(context, records[said["id"]])).superseded,
                (await standing_of_gate(context, records[gate["id"]])).superseded,
            )
        )

    assert said["decision"] == gate["decision"] == "allow"
    assert fell == [(False, False), (True, True)]
