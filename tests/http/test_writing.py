"""Many write at once over HTTP: what one of them does, or suffers, is not the others' trouble."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from app.storage.database import OWNER
from app.storage.ledger import Appended, Ledger
from tests.http.conftest import AT_FIRST, Service
from tests.http.published import problem
from tests.http.small import ACTION, decide, found, in_force, policy, post, register, soon


@asynccontextmanager
async def head_locked(service: Service) -> AsyncIterator[None]:
    """Another replica that does not get on: whatever is to be recorded waits for it."""
    connection = await asyncpg.connect(str(service.server.dsn(service.name, OWNER)))
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM ledger_head FOR UPDATE")
            yield
    finally:
        await connection.close()


async def queued(service: Service, many: int) -> None:
    """Wait until so many wait for the batch that is under way to end."""
    for _ in range(500):
        if service.store.ledger.queued == many:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{service.store.ledger.queued} wait, not {many}")


def model(number: int) -> dict[str, Any]:
    return {"model": f"m{number}@1", "developer": "lab"}


async def test_who_comes_to_a_full_queue_is_told_when_to_come_back(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """At once, and nothing of theirs is recorded; those who wait are served."""
    empty.store.ledger._most_waiting = 3
    async with head_locked(empty):
        first = asyncio.create_task(empty_client.post("/v1/models", json=model(0)))
        await asyncio.sleep(0.2)
        waiting = [
            asyncio.create_task(empty_client.post("/v1/models", json=model(n))) for n in (1, 2, 3)
        ]
        await queued(empty, 3)
        beyond = await asyncio.gather(
            *(empty_client.post("/v1/models", json=model(n)) for n in range(4, 8))
        )
    served = await asyncio.gather(*waiting)
    # Where this machine is slow, the one under way has waited too long for the lock.
    under_way = (await first).status_code

    for answer in beyond:
        assert problem(answer) == (503, "unavailable")
        assert answer.json()["reason"] == "queue-full"
        assert 1 <= int(answer.headers["Retry-After"]) <= 5
    assert [answer.status_code for answer in served] == [201] * 3
    assert await empty.size() == AT_FIRST + 3 + (under_way == 201)


async def test_a_bad_request_among_many_fails_alone(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """What cannot be stored, what is too long for a key, what is taken, what is no document."""
    await post(empty_client, "models", model(0))
    bad: list[dict[str, Any]] = [
        {"json": model(1) | {"registry_uri": "a\x00b"}},
        {"json": model(2), "headers": {"Idempotency-Key": "k" * 8000}},
        {"json": model(0) | {"developer": "another lab"}},
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
    ]

    async def ask(**request: Any) -> httpx.Response:
        """Ask until it is answered: so many at once may have to wait for a reader."""
        while True:
            answer = await empty_client.post("/v1/models", **request)
            if answer.status_code != 503:
                return answer

    asked = [ask(json=model(100 + n)) for n in range(40)]
    for place, one in zip((7, 15, 23, 31), bad, strict=True):
        asked.insert(place, ask(**one))
    answers = await asyncio.gather(*asked)

    refused = [answers.pop(place) for place in (31, 23, 15, 7)]
    assert all(400 <= answer.status_code < 500 for answer in refused), refused
    assert [answer.status_code for answer in answers] == [201] * 40
    assert await empty.size() == AT_FIRST + 41


async def test_callers_who_go_away_leave_no_hole(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Some while they wait, some while theirs is being recorded: it is there, or it is not."""
    async with head_locked(empty):
        under_way = asyncio.create_task(empty_client.post("/v1/models", json=model(0)))
        await asyncio.sleep(0.2)
        asked = [
            asyncio.create_task(empty_client.post("/v1/models", json=model(n)))
            for n in range(1, 21)
        ]
        await queued(empty, 20)
        for gone in (under_way, *asked[::2]):
            gone.cancel()
        await asyncio.sleep(0)
    answers = await asyncio.gather(*asked[1::2])
    after = await post(empty_client, "models", model(99))

    assert [answer.status_code for answer in answers] == [201] * 10
    assert after["ledger"]["index"] == await empty.size() - 1, "the indexes have a gap"
    assert await empty.size() - AT_FIRST in (11, 12), "who waited only is not recorded"


async def test_what_comes_between_reading_and_recording_is_decided_on(
    empty: Service,
    empty_client: httpx.AsyncClient,
    replica: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A finding is recorded by another replica after this one has read the evidence: no answer
    leaves that does not know it.
    """
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1"))
    assert (await decide(empty_client, "m@1"))["decision"] == "allow"
    append, tried = Ledger.append, 0

    async def append_late(self: Ledger, *drafts: Any, **how: Any) -> Appended:
        nonlocal tried
        if self is empty.store.ledger:
            tried += 1
            if tried == 1:
                await post(replica, "assessments", found("m@1", "reached"))
        return await append(self, *drafts, **how)

    monkeypatch.setattr(Ledger, "append", append_late)
    answer = await empty_client.post("/v1/gate", json={"model": "m@1", "action": ACTION})

    assert tried == 2
    assert answer.json()["decision"] == "deny"
    assert len(answer.json()["determinations"]) == 1


VERSIONS = 8


async def test_each_answer_names_the_version_that_the_ledger_says_was_in_force(
    empty: Service, empty_client: httpx.AsyncClient, replica: httpx.AsyncClient
) -> None:
    """Two services answer while one version after another is put in force through both of them. The
    ledger's own order is the judge: of what stands before an answer, the latest activation for its
    instant.
    """
    await drafted(empty, empty_client)
    await register(empty_client, "m@1")
    over = asyncio.Event()

    async def activate() -> None:
        for number in range(VERSIONS):
            client = (empty_client, replica)[number % 2]
            said = {"in_force_from": soon(), "retroactive": True, "reason": "r"}
            await post(client, f"policies/small/versions/{number}/activation", said)
            await asyncio.sleep(0.05)
        over.set()

    async def ask(client: httpx.AsyncClient) -> None:
        while not over.is_set():
            answer = await client.post(
                "/v1/determinations", json={"model": "m@1", "action": ACTION, "policy": "small"}
            )
            assert answer.status_code in (201, 503), answer.text

    await asyncio.gather(activate(), *(ask(client) for client in (empty_client, replica) * 3))

    activations: list[tuple[datetime, str]] = []
    named = set()
    for kind, document in await documents(empty):
        if kind == "policy-activation":
            since = datetime.fromisoformat(document["in_force_from"])
            activations.append((since, document["digest"]))
        elif kind == "determination":
            provenance = document["provenance"]
            at = datetime.fromisoformat(provenance["at"])
            begun = [one for one in activations if one[0] <= at]
            in_force = max(begun)[1] if begun else None
            policy_named = provenance["policy"]
            assert (policy_named and policy_named["digest"]) == in_force, document["id"]
            named.add(in_force)
    assert len(named) > VERSIONS // 2, "hardly anything was asked in between"


async def drafted(service: Service, approver: httpx.AsyncClient) -> None:
    """Versions 0, 1 and so on of one policy, recorded and approved, of which none is in force."""
    path = "policies/small/versions"
    async with service.client((await service.new_key("policy-author")).text) as author:
        for number in range(VERSIONS):
            await post(author, path, policy(version=str(number)))
            await post(approver, f"{path}/{number}/approvals", {"reason": "r"})


async def documents(service: Service) -> list[tuple[str, Any]]:
    """The kind of each record, and what it says, in the ledger's order."""
    connection = await asyncpg.connect(str(service.server.dsn(service.name, OWNER)))
    try:
        rows = await connection.fetch("SELECT kind, document FROM ledger_entry ORDER BY index")
    finally:
        await connection.close()
    return [(row["kind"], orjson.loads(row["document"])) for row in rows]
