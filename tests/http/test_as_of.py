"""Asked again as of then, the answer is what was answered then: to the byte, but for its id.

A random history of all kinds of record is made, and after each step everything is asked. Afterwards
each question is asked again, as of the ledger size and the instant that its answer names. What is
inherent: the new answer has an id and a place in the ledger of its own. All else is the same, what
had changed by then included.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.canonical import canonical_json
from app.ledger.entry import Kind
from app.operations.replay import replay_all
from app.storage.said import EVIDENCE
from app.storage.tables import ledger_entry
from tests.http.conftest import Service
from tests.http.published import OPUS, POLICY, RELEASE, Json, asked
from tests.http.small import ACTION, found, in_force, into_force, policy, post, register, soon
from tests.http.test_exceptions import requested
from tests.http.test_orders import STOP

MODELS = ("m@1", "n@1", "o@1")
OUTCOMES = ("reached", *["ruled-out"] * 5, "inconclusive")
NEW_TO_EACH = {"id", "ledger"}
STEPS = 36
RESTED_ON = {
    *EVIDENCE,
    Kind.MODEL,
    Kind.WITHDRAWAL,
    Kind.EXCEPTION_APPROVAL,
    Kind.LIFTING,
    Kind.POLICY_VERSION,
    Kind.POLICY_APPROVAL,
    Kind.POLICY_ACTIVATION,
}
"""What may change an answer."""
AT_ONCE = 1000
"""How many questions a batch may have."""


class History:
    """Records one thing or another, and asks in between."""

    def __init__(self, service: Service, client: httpx.AsyncClient, chance: random.Random) -> None:
        self._service, self._client, self._chance = service, client, chance
        self.answers: list[Json] = []
        self._approver: str | None = None
        self._versions = 1
        self._registered: list[str] = []
        self._withdrawable: list[str] = []
        self._liftable: list[str] = []
        self._approvable: list[str] = []
        self._into_force: list[Callable[[], Awaitable[None]]] = []

    async def ask_everything(self) -> None:
        """The question that there is of each model version, in one batch."""
        asked = [{"model": model, "action": ACTION, "policy": "small"} for model in MODELS]
        answer = await post(self._client, "determinations/batch", {"determinations": asked})
        self.answers += answer["determinations"]

    async def ask(self) -> None:
        model = self._chance.choice((*MODELS, "nobody@1"))
        question: Json = {"model": model, "action": ACTION, "policy": "small"}
        if self._chance.random() < 0.2:
            question["action"] = "other"
        if self._chance.random() < 0.3:
            question["at"] = soon(seconds=-self._chance.uniform(0, 3))
        if self._chance.random() < 0.3:
            body = {"model": model, "action": question["action"]}
            gate = await post(self._client, "gate", body)
            self.answers += gate["answers"]
        elif self._chance.random() < 0.3:
            batch = {"determinations": [question, {**question, "model": "m@1"}, question]}
            answer = await post(self._client, "determinations/batch", batch)
            self.answers += answer["determinations"]
        else:
            self.answers.append(await post(self._client, "determinations", question))

    async def record(self) -> None:
        steps = [self._register, self._assess, self._lean, self._withdraw, self._safeguard]
        steps += [self._order, self._lift, self._except, self._approve, self._sign_off]
        steps += [self._version, self._version]
        size = await self._service.size()
        while await self._service.size() == size:
            # One that there is nothing for yet records nothing.
            await self._chance.choice(steps)()

    async def _register(self) -> None:
        missing = [model for model in MODELS if model not in self._registered]
        if missing:
            weights = self._chance.choice(("w", None))
            await register(self._client, missing[0], weights=weights)
            self._registered.append(missing[0])

    async def _assess(self) -> None:
        if self._registered:
            body = found(self._chance.choice(self._registered), self._chance.choice(OUTCOMES))
            body["conducted_at"] = soon(seconds=-self._chance.uniform(0, 20))
            made = await post(self._client, "assessments", body)
            self._withdrawable.append(f"assessments/{made['id']}")

    async def _lean(self) -> None:
        if len(self._registered) > 1:
            one, other = self._chance.sample(self._registered, 2)
            made = await post(
                self._client, "assessments", found(one, "bounded-by", bounded_by=other)
            )
            self._withdrawable.append(f"assessments/{made['id']}")

    async def _withdraw(self) -> None:
        if self._withdrawable:
            path = self._withdrawable.pop(self._chance.randrange(len(self._withdrawable)))
            await post(self._client, f"{path}/withdrawal", {"reason": "r"})

    async def _safeguard(self) -> None:
        if self._registered:
            body: Json = {
                "model": self._chance.choice(self._registered),
                "policy": "small",
                "standard": "s",
                "criterion": self._chance.choice(("a", None)),
                "met": self._chance.random() < 0.7,
                "valid_from": soon(seconds=-self._chance.uniform(0, 20)),
                "valid_until": soon(days=30),
                "stated_by": "s",
                "sources": [],
            }
            made = await post(self._client, "safeguards", body)
            self._withdrawable.append(f"safeguards/{made['id']}")

    async def _sign_off(self) -> None:
        if self._registered:
            body: Json = {
                "model": self._chance.choice(self._registered),
                "policy": "small",
                "action": ACTION,
                "role": "ceo",
                "verb": "approved",
                "given_at": soon(seconds=-self._chance.uniform(0, 20)),
                "reason": "r",
            }
            # By somebody else, for who found may not approve alone.
            if self._approver is None:
                self._approver = (await self._service.new_key("approver")).text
            async with self._service.client(self._approver) as approver:
                made = await post(approver, "sign-offs", body)
            self._withdrawable.append(f"sign-offs/{made['id']}")

    async def _order(self) -> None:
        if self._registered:
            order = STOP | {"model": self._chance.choice(self._registered)}
            order["begins_at"] = soon(seconds=-self._chance.uniform(0, 3))
            made = await post(self._client, "orders", order)
            self._liftable.append(made["id"])

    async def _lift(self) -> None:
        if self._liftable:
            await post(
                self._client, f"orders/{self._liftable.pop()}/lifting", {"reason": "looked at"}
            )

    async def _except(self) -> None:
        if self._registered:
            body = requested(model=self._chance.choice(self._registered))
            async with self._service.client((await self._service.new_key("assessor")).text) as one:
                made = await post(one, "exceptions", body)
            self._approvable.append(made["id"])

    async def _approve(self) -> None:
        if self._approvable:
            id = self._approvable.pop()
            for role in ("ceo", "rso"):
                key = (await self._service.new_key("approver")).text
                async with self._service.client(key) as one:
                    said = {"role": role, "reason": "r"}
                    await post(one, f"exceptions/{id}/approvals", said)

    async def _version(self) -> None:
        """The next step of the version under way, or the first of another."""
        if not self._into_force and self._versions < 4:
            self._versions += 1
            document = policy(version=str(self._versions))
            by = ["ceo"] if self._chance.random() < 0.5 else ["rso"]
            document["thresholds"]["T"]["ruled_out"]["any"][0]["by"] = by
            since = soon(seconds=self._chance.choice((-5, -1, 60)))
            self._into_force += into_force(self._service, self._client, document, since)
        if self._into_force:
            await self._into_force.pop(0)()


def without_what_is_new(answer: Json) -> bytes:
    return canonical_json({k: v for k, v in answer.items() if k not in NEW_TO_EACH})


def _in_short(answer: Json) -> tuple[str, ...]:
    """The decision, and what it says of the threshold and of its basis."""
    return (
        answer["decision"],
        *(f"{one['status']} by {one['basis']}" for one in answer["thresholds"]),
        *(one["met"] for one in answer["standards"]),
    )


async def again(client: httpx.AsyncClient, answer: Json, **more: Any) -> Json:
    """The same question, as of what the answer says that it saw."""
    return await post(client, "determinations", as_of_then(answer) | more)


def as_of_then(answer: Json) -> Json:
    """The question that it answers, about that instant, with what was known then."""
    provenance = answer["provenance"]
    return {
        "model": answer["model"],
        "action": answer["action"],
        "policy": provenance["policy"]["name"],
        "at": provenance["at"],
        "known_at": provenance["known_at"],
    }


async def asked_again(client: httpx.AsyncClient, answers: Sequence[Json]) -> list[Json]:
    """The same questions, each as of what its answer says that it saw."""
    made: list[Json] = []
    for first in range(0, len(answers), AT_ONCE):
        batch = [as_of_then(one) for one in answers[first : first + AT_ONCE]]
        answer = await post(client, "determinations/batch", {"determinations": batch})
        made += answer["determinations"]
    return made


@pytest.mark.parametrize("seed", range(2))
async def test_asked_again_as_of_then_the_answer_is_the_same(
    empty: Service, empty_client: httpx.AsyncClient, seed: int
) -> None:
    """Whatever came after it, and in whatever order things are asked again: at each ledger size at
    which something had been recorded, every question.
    """
    chance = random.Random(seed)
    await in_force(empty, empty_client, policy())
    history = History(empty, empty_client, chance)
    for _ in range(STEPS):
        await history.record()
        await history.ask()
        await history.ask_everything()

    seen = {_in_short(answer) for answer in history.answers}
    assert len(seen) > 2, f"a history in which little changes shows little: {seen}"
    assert any(answer["changed"] for answer in history.answers)
    shuffled = chance.sample(history.answers, len(history.answers))
    for answer, same in zip(shuffled, await asked_again(empty_client, shuffled), strict=True):
        assert without_what_is_new(same) == without_what_is_new(answer)
        assert same["id"] != answer["id"]
    async with empty.store.reading() as connection:
        recorded = set(await connection.scalars(select(ledger_entry.c.kind)))
    assert {kind.value for kind in RESTED_ON} - recorded == set(), "that was not looked at"
    replays = [found async for found, _ in replay_all(empty.store.reading)]
    assert len(replays) > 2 * len(history.answers), "the gates too"
    assert [found for found in replays if not found.same] == []


async def test_the_published_answer_is_given_again(client: httpx.AsyncClient) -> None:
    made = await post(client, "determinations", asked(at=RELEASE))
    withdrawn = next(
        one["id"] for one in made["provenance"]["evidence"] if one["id"].startswith("asm_")
    )
    await post(client, f"assessments/{withdrawn}/withdrawal", {"reason": "r"})
    after = await post(client, "determinations", asked(at=RELEASE))
    same = await again(client, made)

    assert (made["model"], made["provenance"]["policy"]["name"]) == (OPUS, POLICY)
    assert without_what_is_new(after) != without_what_is_new(made)
    assert without_what_is_new(same) == without_what_is_new(made)


async def test_what_was_asked_of_the_past_is_nobodys_previous(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """An answer as of then says what had changed by then, and no present answer follows it."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    question = {"model": "m@1", "action": ACTION, "policy": "small"}
    first = await post(empty_client, "determinations", question)
    second = await post(empty_client, "determinations", question)
    past = await again(empty_client, second)
    third = await post(empty_client, "determinations", question)

    assert past["changed"] == second["changed"]
    assert past["changed"]["since"] == first["id"]
    assert third["changed"]["since"] == second["id"]
