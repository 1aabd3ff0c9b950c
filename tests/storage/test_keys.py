"""Who may call: keys are shown once, kept as hashes, and refused when they should be."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from app.errors import Unauthenticated
from app.operations.audit import Report, Sweep
from app.storage import keys
from app.storage.database import Database
from app.storage.keys import (
    CREDENTIALS_STREAM,
    Credential,
    KnownKey,
    NewSecret,
    UnusableKey,
    authenticate,
)
from app.storage.ledger import Ledger, revocation_stream
from app.storage.store import OPERATOR, Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
GIVEN = "correct-horse-battery-staple-42-!"


class Keys:
    """A database, and the keys that are recorded in it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ledger = Ledger(database)

    async def made(self, expires_at: datetime | None = None) -> tuple[Credential, str]:
        """A key that was just recorded, and what its holder shows."""
        secret = keys.new_secret()
        roles = ("author", "reader")
        credential = Credential(
            secret.id, "service:pipeline", roles, ("ceo",), "a pipeline", expires_at
        )
        await self.record(keys.credential_draft(credential, secret, by=OPERATOR, now=NOW))
        return credential, secret.text

    async def revoke(self, id: str) -> None:
        await self.record(
            keys.revocation_draft(f"rev_{id}", id, "it leaked", by=OPERATOR, now=LATER),
            touches=revocation_stream(id),
        )

    async def record(
        self, draft: Any, *, actor: str = OPERATOR, touches: str = CREDENTIALS_STREAM
    ) -> None:
        await self.ledger.append([draft], actor=actor, rests_on={}, touches=(touches,))

    async def caller(self, given: str, now: datetime = NOW) -> Credential | None:
        async with self.database.reading() as connection:
            return await authenticate(connection, given, now=now)

    async def listed(self) -> dict[str, KnownKey]:
        async with self.database.reading() as connection:
            return {one.credential.id: one for one in await keys.list_keys(connection)}


@pytest.fixture
async def known(fresh: Any) -> AsyncIterator[Keys]:
    """A ledger in which no key is recorded yet."""
    known = Keys(Database(fresh.service, throwaway=True))
    await known.ledger.initialise("a log")
    await known.ledger.start()
    yield known
    await known.ledger.close()
    await known.database.close()


async def test_a_key_says_who_calls_and_as_what(known: Keys) -> None:
    credential, key = await known.made()

    caller = await known.caller(key)

    assert caller == credential
    assert caller.actor == f"service:pipeline/{credential.id}"
    assert (caller.roles, caller.policy_roles) == (("author", "reader"), ("ceo",))


async def test_only_the_hash_of_a_key_is_kept(known: Keys, fresh: Any) -> None:
    """In no column of any row, and in no document."""
    _, key = await known.made()
    _, _, secret = key.split("_", 2)
    connection = await asyncpg.connect(str(fresh.owner))
    rows = [*await connection.fetch("SELECT * FROM credential")]
    rows += await connection.fetch("SELECT * FROM ledger_entry")
    await connection.close()

    assert len(secret) == 43, "256 bits"
    for value in (value for row in rows for value in row.values()):
        assert secret not in str(value)


def test_what_is_printed_of_a_secret_is_its_id() -> None:
    secret = NewSecret("key_1", "aslk_1_secret")

    assert "secret" not in f"{secret} {secret!r}".replace("NewSecret", "")


async def test_no_two_keys_share_anything(known: Keys) -> None:
    made = [key for _, key in [await known.made() for _ in range(20)]]

    assert len({key.split("_")[1] for key in made}) == 20
    assert len({key.split("_", 2)[2] for key in made}) == 20


async def test_a_key_that_is_not_exactly_it_is_nobodys(known: Keys) -> None:
    (credential, key), (_, other) = await known.made(), await known.made()
    start, id, secret = key.split("_", 2)
    other_id, other_secret = other.split("_", 2)[1:]
    flipped = ("A" if secret[0] != "A" else "B") + secret[1:]
    for wrong in (
        "",
        "\x00",
        "\ud800",
        key[:-1],
        f"{key} ",
        key.upper(),
        f"{start}_{id}_{flipped}",
        f"{start}_{id}_{other_secret}",
        f"{start}_{other_id}_{secret}",
        f"{start}_{'0' * 32}_{secret}",
        credential.id,
        GIVEN,
    ):
        assert await known.caller(wrong) is None, wrong


async def test_every_key_costs_one_comparison(known: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known or not, right or wrong: the same steps, so that time tells nothing apart."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    _, key = await known.made()
    monkeypatch.setattr("app.storage.keys.hmac.compare_digest", compare)
    start, id, secret = key.split("_", 2)
    for given in (key, f"{start}_{id}_{secret[::-1]}", f"{start}_{'0' * 32}_{secret}", GIVEN):
        await known.caller(given)
    assert len(compared) == 4
    assert {len(one) for pair in compared for one in pair} == {32}


async def test_a_key_expires_at_its_instant(known: Keys) -> None:
    credential, key = await known.made(expires_at=LATER)

    assert await known.caller(key, LATER - timedelta(microseconds=1)) == credential
    assert await known.caller(key, LATER) is None


async def test_a_revoked_key_is_refused_and_stays_listed(known: Keys) -> None:
    (credential, key), (other, others) = await known.made(), await known.made()

    await known.revoke(credential.id)

    assert await known.caller(key) is None
    assert await known.caller(others) is not None
    listed = await known.listed()
    assert listed[credential.id].revoked_at == LATER
    assert listed[other.id].revoked_at is None


async def test_nothing_is_recorded_with_a_key_after_its_revocation(known: Keys) -> None:
    """Also in the very batch in which it is revoked, where that comes first."""
    credential, _ = await known.made()

    async def by_it() -> None:
        secret = keys.new_secret()
        made = Credential(secret.id, "person:a", ("reader",))
        draft = keys.credential_draft(made, secret, by=credential.actor, now=NOW)
        await known.record(draft, actor=credential.actor)

    await by_it()
    revoked, *asked = await asyncio.gather(
        known.revoke(credential.id), *(by_it() for _ in range(8)), return_exceptions=True
    )

    assert revoked is None
    assert {type(one) for one in asked} == {Unauthenticated}
    assert len(await known.listed()) == 2


async def test_when_a_key_was_used_is_noted_and_never_goes_back(known: Keys) -> None:
    credential, _ = await known.made()
    other, _ = await known.made()

    for at in (LATER, NOW):
        async with known.database.writing() as connection:
            await keys.note_use(connection, credential.id, at)

    listed = await known.listed()
    assert (listed[credential.id].used_at, listed[other.id].used_at) == (LATER, None)


async def opened(fresh: Any, given: str) -> None:
    """A service starts with that bootstrap key, and stops."""
    store = Store(
        Database(fresh.service, throwaway=True),
        bootstrap_key=given,
        bootstrap_policy_roles=("ceo",),
    )
    try:
        await store.open(NOW)
        assert await store.trouble() is None
    finally:
        await store.close()


async def found(fresh: Any, given: str) -> Credential | None:
    database = Database(fresh.service, throwaway=True)
    try:
        return await Keys(database).caller(given)
    finally:
        await database.close()


@pytest.mark.parametrize("given", [GIVEN, f"aslk_{'0a' * 16}_{'s' * 43}", "x" * 32])
async def test_a_given_key_becomes_the_first(fresh: Any, given: str) -> None:
    await opened(fresh, given)

    first = await found(fresh, given)

    assert first is not None
    assert (first.principal, first.roles, first.policy_roles) == (
        "service:bootstrap",
        ("admin",),
        ("ceo",),
    )
    assert await found(fresh, f"{given}x") is None
    assert given not in first.id


async def test_a_given_key_is_only_ever_the_first(fresh: Any) -> None:
    """A restart neither makes it twice nor brings it back after it was revoked."""
    await opened(fresh, GIVEN)
    first = await found(fresh, GIVEN)
    assert first is not None
    await opened(fresh, GIVEN)
    await opened(fresh, "another-key-of-thirty-two-characters")
    assert await found(fresh, "another-key-of-thirty-two-characters") is None

    known = Keys(Database(fresh.service, throwaway=True))
    await known.ledger.start()
    await known.revoke(first.id)
    assert len(await known.listed()) == 1
    await known.ledger.close()
    await known.database.close()
    await opened(fresh, GIVEN)

    assert await found(fresh, GIVEN) is None


async def test_starters_at_once_agree_on_one_first_key(fresh: Any) -> None:
    given = [f"{GIVEN}{number}" for number in range(4)]

    await asyncio.gather(*(opened(fresh, one) for one in given))

    assert sum([await found(fresh, one) is not None for one in given]) == 1


async def test_a_first_key_that_could_not_be_recorded_at_the_start_is_recorded_later(
    fresh: Any,
) -> None:
    """Another holds the ledger's head for longer than a start waits; there is one writer after all."""
    before = asyncio.all_tasks()
    known = Keys(Database(fresh.service, throwaway=True))
    await known.ledger.initialise("localhost/aslgate")
    await known.ledger.close()
    store = Store(
        Database(fresh.service, throwaway=True), deadline_seconds=0.2, bootstrap_key=GIVEN
    )
    busy = await asyncpg.connect(str(fresh.owner))
    async with busy.transaction():
        await busy.execute("SELECT FROM ledger_head FOR UPDATE")
        await store.open(NOW)
        assert await store.trouble() is not None
        await asyncio.sleep(2.5)
    await busy.close()
    for _ in range(100):
        if await store.trouble() is None:
            break
        await asyncio.sleep(0.1)

    assert await store.trouble() is None
    assert await known.caller(GIVEN) is not None
    writers = {task for task in asyncio.all_tasks() if task.get_name() == "ledger-writer"}
    assert len(writers - before) == 1
    await store.close()
    await known.database.close()


@pytest.mark.parametrize("given", ["", "x" * 31, f"{'x' * 40}\n", f"{'x' * 40} x", "é" * 40])
async def test_a_given_key_that_no_header_can_hold_is_refused(fresh: Any, given: str) -> None:
    with pytest.raises(UnusableKey):
        await opened(fresh, given)

    assert await found(fresh, given) is None


async def test_a_hash_of_another_length_is_no_key(known: Keys, fresh: Any) -> None:
    """Whoever writes rows by hand cannot make one that a short guess opens."""
    connection = await asyncpg.connect(str(fresh.owner))
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await connection.execute(
            "INSERT INTO credential VALUES (0, 'key_a', 'person:a', 'x', now(), NULL)"
        )
    await connection.close()

    assert refused.value.constraint_name == "secrets_are_kept_as_sha256"


# --- What `aslgate ledger verify` sees of them -----------------------------------------------------


@pytest.mark.parametrize(
    ("change", "index", "said"),
    [
        ("UPDATE credential SET secret_sha256 = sha256('mine') WHERE index = 0", 0, "otherwise"),
        ("UPDATE credential SET principal = 'person:mallory' WHERE index = 0", 0, "otherwise"),
        ("UPDATE credential SET expires_at = '2999-01-01Z' WHERE index = 0", 0, "otherwise"),
        ("DELETE FROM credential_revocation", 2, "credential_revocation"),
        ("UPDATE credential_revocation SET credential = '{other}'", 2, "otherwise"),
        ("UPDATE credential_revocation SET revoked_at = '2999-01-01Z'", 2, "otherwise"),
        (
            "INSERT INTO credential_revocation VALUES (1, 'rev_x', '{other}', now())",
            1,
            "credential_revocation",
        ),
    ],
)
async def test_who_opens_or_shuts_a_door_behind_the_ledger_is_found(
    known: Keys, fresh: Any, change: str, index: int, said: str
) -> None:
    """A key for another, a secret of one's own in somebody's row, a revocation gone or made up."""
    credential, _ = await known.made()
    other, _ = await known.made()
    await known.revoke(credential.id)
    assert (await audit(fresh)).is_clean

    connection = await asyncpg.connect(str(fresh.owner))
    for table in ("credential", "credential_revocation"):
        await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await connection.execute(change.replace("{other}", other.id))
    await connection.close()

    found = (await audit(fresh)).findings
    assert {one.index for one in found} == {index}
    assert said in found[0].what


async def audit(fresh: Any) -> Report:
    database = Database(fresh.service, throwaway=True, audits=True)
    try:
        return await Sweep(database).go_on()
    finally:
        await database.close()
