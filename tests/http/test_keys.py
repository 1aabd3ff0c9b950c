"""API keys over HTTP: each is made once, shown once, on record for good, and ends when it is said."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.operations.manage_keys import MadeKey
from app.settings import Settings
from app.storage import keys
from app.storage.database import SERVICE, Database
from app.storage.keys import Credential
from app.storage.store import OPERATOR, TRUSTED_SECONDS, Store
from app.vocabulary import read_instant
from tests.http.conftest import AT_FIRST, Service
from tests.http.documented import Documented
from tests.http.published import Json, problem
from tests.http.small import found, in_force, policy, post, register

KEYS = "/v1/keys"


def wanted(**more: Any) -> Json:
    """A key for somebody who assesses."""
    asked = {"principal": "person:alice", "roles": ["assessor"], "policy_roles": ["ceo"]}
    return asked | more


async def made(client: httpx.AsyncClient, **more: Any) -> Json:
    return await post(client, "keys", wanted(**more))


async def revoke(client: httpx.AsyncClient, key: Json) -> Json:
    return await post(client, f"keys/{key['id']}/revocation", {"reason": "it leaked"})


def bearer(key: Json) -> dict[str, str]:
    return {"Authorization": f"Bearer {key['key']}"}


def a_model(number: int) -> Json:
    return {"model": f"m{number}@1", "developer": "lab"}


@pytest.fixture
async def second(empty: Service) -> AsyncIterator[Service]:
    """Another service over the empty service's database, with a memory of its own."""
    store = Store(
        Database(empty.server.dsn(empty.name, SERVICE), throwaway=True), deadline_seconds=10
    )
    app = create_app(Settings(), store)
    async with app.router.lifespan_context(app):
        yield replace(empty, app=app, store=store, documented=Documented.of(app))


# --- Made and shown --------------------------------------------------------------------------------


async def test_a_key_is_made_and_opens_and_is_on_record(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    answer = await empty_client.post(KEYS, json=wanted(name="laptop", days=1))
    key = answer.json()
    async with empty.client(key["key"]) as alice:
        seen = await alice.get("/v1/models/m@1")

    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Location"] == f"{KEYS}/{key['id']}"
    assert problem(seen) == (404, "not-found"), "it is let in, and there is no such model"
    entry = json.loads(await empty.entry(key["ledger"]["index"]))
    assert (entry["kind"], entry["subject"]) == ("credential", key["id"])
    assert entry["actor"] == key["by"]
    assert key["by"].startswith("service:bootstrap/key_")
    lasts = read_instant(key["expires_at"]) - read_instant(key["created_at"])
    assert lasts.total_seconds() == 86400


async def test_the_keys_that_ever_were_are_listed_and_read(
    empty_client: httpx.AsyncClient,
) -> None:
    """The bootstrap key too, and those that were revoked."""
    first = await made(empty_client, name="laptop")
    gone = await made(empty_client, principal="team:red", policy_roles=[])
    revoked = await revoke(empty_client, gone)

    listed = (await empty_client.get(KEYS)).json()["keys"]

    bootstrap, alice, red = listed
    assert (bootstrap["principal"], bootstrap["created_by"]) == ("service:bootstrap", OPERATOR)
    assert bootstrap["expires_at"] is None
    assert {name: alice[name] for name in ("principal", "name", "roles", "policy_roles")} == {
        "principal": "person:alice",
        "name": "laptop",
        "roles": ["assessor"],
        "policy_roles": ["ceo"],
    }
    assert (alice["revoked_at"], red["revoked_at"]) == (None, revoked["revoked_at"])
    assert (red["id"], revoked["credential"]) == (gone["id"], gone["id"])
    assert (await empty_client.get(f"{KEYS}/{first['id']}")).json() == alice
    assert problem(await empty_client.get(f"{KEYS}/key_none")) == (404, "not-found")


async def test_a_key_is_in_the_answer_that_made_it_and_in_no_other(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Who lost the answer has to make another key: nobody can read this one again."""
    headers = {"Idempotency-Key": "once"}
    first = await empty_client.post(KEYS, json=wanted(), headers=headers)
    again = await empty_client.post(KEYS, json=wanted(), headers=headers)
    path = f"{KEYS}/{first.json()['id']}/rotation"
    headers = {"Idempotency-Key": "twice"}
    rotated = await empty_client.post(path, json={}, headers=headers)
    rotated_again = await empty_client.post(path, json={}, headers=headers)

    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert again.json() == first.json() | {"key": None}
    assert first.json()["key"] is not None
    assert rotated_again.json() == rotated.json() | {"key": None}
    assert rotated.json()["succeeds"] == first.json()["id"]
    assert await empty.size() == AT_FIRST + 3, "two keys and a revocation"


async def test_a_secret_is_in_no_log_and_neither_it_nor_its_hash_in_another_answer(
    empty: Service, empty_client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await made(empty_client)
    await empty_client.post("/v1/models", json=a_model(0), headers=bearer(key))
    others = [
        await empty_client.get(path)
        for path in (
            KEYS,
            f"{KEYS}/{key['id']}",
            f"/v1/ledger/entries/{key['ledger']['index']}/proof",
            "/v1/ledger/tile/entries/000.p/2",
            *(
                f"/v1/{kind}/{key['id']}"
                for kind in ("assessments", "sign-offs", "withdrawals", "exceptions")
            ),
            "/metrics",
        )
    ]
    others.append(await empty_client.post(f"{KEYS}/{key['id']}/rotation", json={}))
    others.append(await empty_client.get(f"{KEYS}/{key['id']}", headers=bearer(key)))

    hashed = hashlib.sha256(key["key"].encode()).digest()
    secret = key["key"].rpartition("_")[2]
    logged = capsys.readouterr()
    assert "route=/v1/keys" in logged.out, "there is a log to look at"
    for text in (logged.out, logged.err, *(answer.text for answer in others)):
        assert secret not in text
        assert hashed.hex() not in text
        assert repr(hashed)[2:-1] not in text


async def test_what_is_printed_of_a_key_in_the_making_tells_nothing(empty: Service) -> None:
    """As in a traceback, or where somebody logs too much."""
    secret = keys.new_secret()
    credential = Credential(secret.id, "person:alice", ("reader",))
    draft = keys.credential_draft(
        credential, secret, by=OPERATOR, now=read_instant("2026-01-01T00:00:00Z")
    )
    appended = await empty.store.ledger.append([draft], actor=OPERATOR, rests_on={}, touches=())

    for thing in (secret, credential, draft, MadeKey(appended, secret.text)):
        assert secret.text.rpartition("_")[2] not in repr(thing)
        assert secret.sha256.hex() not in repr(thing)
        assert repr(secret.sha256)[2:-1] not in repr(thing)


@pytest.mark.parametrize(
    ("more", "pointer", "code"),
    [
        ({"roles": ["assessor", "king"]}, "/roles/1", "unknown-role"),
        ({"roles": []}, "/roles", None),
        ({"principal": "alice"}, "/principal", None),
        ({"principal": "person:alice/key_1"}, "/principal", None),
        ({"principal": "person:Alice"}, "/principal", None),
        ({"policy_roles": ["C E O"]}, "/policy_roles/0", None),
        ({"days": 0}, "/days", None),
        ({"days": 3651}, "/days", None),
        ({"secret": "mine"}, "/secret", None),
    ],
)
async def test_what_no_key_can_be_is_named_and_nothing_is_recorded(
    empty: Service, empty_client: httpx.AsyncClient, more: Json, pointer: str, code: str | None
) -> None:
    """A principal that held a `/` could pass for another's in the records."""
    answer = await empty_client.post(KEYS, json=wanted(**more))

    assert problem(answer) == (422, "invalid-document")
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert code is None or error["code"] == code
    assert await empty.size() == AT_FIRST


async def test_nobody_but_an_admin_makes_keys_not_even_like_their_own(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    key = await made(empty_client)
    size = await empty.size()
    path = f"{KEYS}/{key['id']}"
    for method, at, body in (
        ("POST", KEYS, wanted(roles=["admin"])),
        ("POST", f"{path}/rotation", {}),
        ("POST", f"{path}/revocation", {"reason": "r"}),
        ("GET", KEYS, None),
        ("GET", path, None),
    ):
        answer = await empty_client.request(method, at, json=body, headers=bearer(key))
        assert problem(answer) == (403, "forbidden")
    assert await empty.size() == size


async def test_when_a_key_was_last_used_is_shown(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """So that whoever cleans up sees which nobody needs."""
    key, idle = await made(empty_client), await made(empty_client)
    before = await empty_client.get(f"{KEYS}/{key['id']}")
    await empty_client.get("/v1/models/m@1", headers=bearer(key))
    used_at = None
    for _ in range(100):
        used_at = (await empty_client.get(f"{KEYS}/{key['id']}")).json()["used_at"]
        if used_at is not None:
            break
        await asyncio.sleep(0.02)

    assert before.json()["used_at"] is None
    assert used_at is not None
    assert read_instant(used_at) > read_instant(key["created_at"])
    assert (await empty_client.get(f"{KEYS}/{idle['id']}")).json()["used_at"] is None
    size = await empty.size()
    assert size == AT_FIRST + 2, "being used is no record"


# --- Rotated ---------------------------------------------------------------------------------------


async def test_a_rotated_key_is_the_same_caller(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """It may take back what the old one found against the model, which nobody else may."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    old = await made(empty_client)
    against = found("m@1", "not-ruled-out")
    said = await post(empty_client, "assessments", against, headers=bearer(old))
    withdrawal = f"/v1/assessments/{said['id']}/withdrawal"

    new = await post(empty_client, f"keys/{old['id']}/rotation", {})
    by_another = await empty_client.post(withdrawal, json={"reason": "r"})
    by_the_new = await empty_client.post(withdrawal, json={"reason": "r"}, headers=bearer(new))

    same = ("principal", "name", "roles", "policy_roles")
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert (new["succeeds"], new["id"] != old["id"]) == (old["id"], True)
    spans = [read_instant(k["expires_at"]) - read_instant(k["created_at"]) for k in (old, new)]
    assert spans[0] == spans[1]
    assert problem(by_another) == (409, "withdrawal-by-another")
    assert by_the_new.status_code == 201, by_the_new.text


async def test_rotation_ends_the_old_key_in_the_same_commit_unless_told_otherwise(
    empty_client: httpx.AsyncClient,
) -> None:
    old, kept = await made(empty_client), await made(empty_client)
    new = await post(empty_client, f"keys/{old['id']}/rotation", {})
    beside = await post(empty_client, f"keys/{kept['id']}/rotation", {"revoke": False})
    said = {k["id"]: k["revoked_at"] for k in (await empty_client.get(KEYS)).json()["keys"]}

    assert said[old["id"]] == new["created_at"]
    assert said[kept["id"]] is None
    for key, status in ((old, 401), (new, 404), (kept, 404), (beside, 404)):
        answer = await empty_client.get("/v1/models/m@1", headers=bearer(key))
        assert answer.status_code == status


# --- Revoked ---------------------------------------------------------------------------------------


async def test_a_key_is_revoked_once(empty: Service, empty_client: httpx.AsyncClient) -> None:
    """The same request again is answered as it was; any other, and a rotation, is refused."""
    key = await made(empty_client)
    path = f"{KEYS}/{key['id']}"
    headers = {"Idempotency-Key": "once"}
    first = await empty_client.post(f"{path}/revocation", json={"reason": "r"}, headers=headers)
    again = await empty_client.post(f"{path}/revocation", json={"reason": "r"}, headers=headers)
    size = await empty.size()

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    for step, body in (("revocation", {"reason": "r"}), ("rotation", {})):
        answer = await empty_client.post(f"{path}/{step}", json=body)
        assert problem(answer) == (409, "already-recorded")
        unknown = await empty_client.post(f"{KEYS}/key_none/{step}", json=body)
        assert problem(unknown) == (404, "not-found")
    assert await empty.size() == size


async def test_revocations_and_rotations_at_once_end_a_key_once(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    key = await made(empty_client)
    path = f"{KEYS}/{key['id']}"
    size = await empty.size()

    answers = await asyncio.gather(
        *(empty_client.post(f"{path}/revocation", json={"reason": str(i)}) for i in range(4)),
        *(empty_client.post(f"{path}/rotation", json={}) for _ in range(4)),
    )

    (won,) = (answer for answer in answers if answer.status_code == 201)
    assert {problem(answer) for answer in answers if answer is not won} == {
        (409, "already-recorded")
    }
    assert await empty.size() == size + (2 if "succeeds" in won.json() else 1)


async def test_a_revoked_key_opens_nothing_on_another_replica_within_a_second(
    empty_client: httpx.AsyncClient, second: Service
) -> None:
    """The replica has believed it until then, and is told nothing but what is on record."""
    key = await made(empty_client)
    async with second.client(key["key"]) as there:
        assert (await there.get("/v1/models/m@1")).status_code == 404
        await revoke(empty_client, key)
        begun = time.monotonic()
        while (await there.get("/v1/models/m@1")).status_code != 401:
            assert time.monotonic() < begun + 5
            await asyncio.sleep(0.02)

    assert time.monotonic() - begun < TRUSTED_SECONDS + 0.5 <= 1


async def test_nothing_is_recorded_with_a_revoked_key_that_is_still_believed(
    empty: Service,
    empty_client: httpx.AsyncClient,
    second: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever commits asks the database, whatever the replica remembers; here it forgets nothing."""
    monkeypatch.setattr("app.storage.store.TRUSTED_SECONDS", 3600)
    key = await made(empty_client)
    async with second.client(key["key"]) as there:
        assert (await there.get("/v1/models/m@1")).status_code == 404
        await register(empty_client, "n@1")
        await in_force(empty, empty_client, policy())
        revocation = await revoke(empty_client, key)
        read = await there.get("/v1/models/n@1")
        recorded = await there.post("/v1/assessments", json=found("n@1"))

    assert read.status_code == 200, "the replica still believes it"
    assert problem(recorded) == (401, "unauthenticated")
    assert await empty.size() == revocation["ledger"]["index"] + 1


WRITERS = 8


async def test_no_entry_by_a_key_stands_after_its_revocation(
    empty: Service,
    empty_client: httpx.AsyncClient,
    second: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It writes through two replicas that both believe it, while it is revoked through one."""
    monkeypatch.setattr("app.storage.store.TRUSTED_SECONDS", 3600)
    key = await made(empty_client, roles=["registry"])
    numbers = iter(range(100_000))
    refused = 0
    under_way = asyncio.Event()

    async def write(service: Service) -> None:
        nonlocal refused
        async with service.client(key["key"]) as client:
            while True:
                answer = await client.post("/v1/models", json=a_model(next(numbers)))
                if answer.status_code == 401:
                    refused += 1
                    return
                assert answer.status_code in (201, 503), answer.text
                if answer.status_code == 201 and answer.json()["ledger"]["index"] > 20:
                    under_way.set()

    writers = [asyncio.create_task(write((empty, second)[i % 2])) for i in range(WRITERS)]
    await asyncio.wait_for(under_way.wait(), 30)
    revocation = await revoke(empty_client, key)
    await asyncio.gather(*writers)

    actor = f"person:alice/{key['id']}"
    entries = [json.loads(await empty.entry(index)) for index in range(await empty.size())]
    by_it = [entry["index"] for entry in entries if entry["actor"] == actor]
    assert refused == WRITERS
    assert len(by_it) >= WRITERS, "hardly anything was recorded before"
    assert max(by_it) < revocation["ledger"]["index"]
