"""Who may call: keys are shown once, kept as hashes, and refused when they should be."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import select

from app.errors import NotFound
from app.storage import keys
from app.storage.database import Database
from app.storage.keys import (
    NewKey,
    UnusableKey,
    authenticate,
    create_key,
    ensure_key,
    list_keys,
    revoke_key,
)
from app.storage.tables import api_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
GIVEN = "correct-horse-battery-staple-42-!"


@pytest.fixture
async def database(fresh: Any) -> AsyncIterator[Database]:
    database = Database(fresh.service, throwaway=True)
    yield database
    await database.close()


async def made(database: Database, **options: Any) -> NewKey:
    async with database.writing() as connection:
        return await create_key(
            connection, name="a pipeline", roles=["author", "reader"], now=NOW, **options
        )


async def caller(database: Database, given: str, now: datetime = NOW) -> keys.Credential | None:
    async with database.reading() as connection:
        return await authenticate(connection, given, now=now)


async def test_a_key_says_who_calls(database: Database) -> None:
    key = await made(database)
    assert key.credential.id.startswith("key_")
    assert await caller(database, key.text) == key.credential
    assert key.credential.roles == ("author", "reader")


async def test_only_the_hash_of_a_key_is_kept(database: Database) -> None:
    key = await made(database)
    async with database.reading() as connection:
        (row,) = (await connection.execute(select(api_key))).all()
    _, _, secret = key.text.split("_", 2)
    assert len(secret) == 43, "256 bits"
    assert secret not in repr(row)
    assert secret.encode() not in row.secret_sha256


async def test_no_two_keys_share_anything(database: Database) -> None:
    made_keys = [await made(database) for _ in range(20)]
    assert len({key.text.split("_")[1] for key in made_keys}) == 20
    assert len({key.text.split("_", 2)[2] for key in made_keys}) == 20


async def test_a_key_that_is_not_exactly_it_is_nobodys(database: Database) -> None:
    key, other = await made(database), await made(database)
    start, id, secret = key.text.split("_", 2)
    other_id, other_secret = other.text.split("_", 2)[1:]
    flipped = ("A" if secret[0] != "A" else "B") + secret[1:]
    for wrong in (
        "",
        "\x00",
        "\ud800",
        key.text[:-1],
        f"{key.text} ",
        key.text.upper(),
        f"{start}_{id}_{flipped}",
        f"{start}_{id}_{other_secret}",
        f"{start}_{other_id}_{secret}",
        f"{start}_{'0' * 32}_{secret}",
        key.credential.id,
        GIVEN,
    ):
        assert await caller(database, wrong) is None, wrong


async def test_every_key_costs_one_comparison(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known or not, right or wrong: the same steps, so that time tells nothing apart."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    key = await made(database)
    monkeypatch.setattr("app.storage.keys.hmac.compare_digest", compare)
    start, id, secret = key.text.split("_", 2)
    for given in (key.text, f"{start}_{id}_{secret[::-1]}", f"{start}_{'0' * 32}_{secret}", GIVEN):
        await caller(database, given)
    assert len(compared) == 4
    assert {len(one) for pair in compared for one in pair} == {32}


async def test_a_key_expires_at_its_instant(database: Database) -> None:
    key = await made(database, expires_at=LATER)
    assert await caller(database, key.text, LATER - timedelta(microseconds=1)) == key.credential
    assert await caller(database, key.text, LATER) is None


async def test_a_revoked_key_is_refused_and_stays_listed(database: Database) -> None:
    key, other = await made(database), await made(database)
    for _ in range(2):
        async with database.writing() as connection:
            await revoke_key(connection, key.credential.id, now=LATER)
    assert await caller(database, key.text) is None
    assert await caller(database, other.text) is not None
    async with database.reading() as connection:
        listed = {key.id: key for key in await list_keys(connection)}
    assert listed[key.credential.id].revoked_at == LATER
    assert listed[other.credential.id].revoked_at is None


async def test_a_key_that_is_not_known_cannot_be_revoked(database: Database) -> None:
    with pytest.raises(NotFound):
        async with database.writing() as connection:
            await revoke_key(connection, "key_unknown", now=NOW)


async def ensured(database: Database, given: str) -> keys.Credential | None:
    async with database.writing() as connection:
        return await ensure_key(connection, given, name="bootstrap", roles=["admin"], now=NOW)


@pytest.mark.parametrize("given", [GIVEN, f"aslk_{'0a' * 16}_{'s' * 43}", "x" * 32])
async def test_a_given_key_becomes_the_first(database: Database, given: str) -> None:
    first = await ensured(database, given)
    assert first is not None
    assert await caller(database, given) == first
    assert await caller(database, f"{given}x") is None
    assert given not in first.id


async def test_a_given_key_is_only_ever_the_first(database: Database) -> None:
    """A restart neither makes it twice nor brings it back after it was revoked."""
    first = await ensured(database, GIVEN)
    assert first is not None
    assert await ensured(database, GIVEN) is None
    assert await ensured(database, "another-key-of-thirty-two-characters") is None
    async with database.writing() as connection:
        await revoke_key(connection, first.id, now=NOW)
    assert await ensured(database, GIVEN) is None
    assert await caller(database, GIVEN) is None


async def test_starters_at_once_agree_on_one_first_key(database: Database) -> None:
    found = await asyncio.gather(*(ensured(database, GIVEN) for _ in range(6)))
    assert sum(credential is not None for credential in found) == 1


@pytest.mark.parametrize("given", ["", "x" * 31, f"{'x' * 40}\n", f"{'x' * 40} x", "é" * 40])
async def test_a_given_key_that_no_header_can_hold_is_refused(
    database: Database, given: str
) -> None:
    with pytest.raises(UnusableKey):
        await ensured(database, given)
    async with database.reading() as connection:
        assert await list_keys(connection) == ()


async def test_what_a_failed_block_wrote_is_undone(database: Database) -> None:
    async def failing() -> None:
        async with database.writing() as connection:
            await create_key(connection, name="a", roles=["reader"], now=NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()
    async with database.reading() as connection:
        assert await list_keys(connection) == ()


async def test_a_key_without_a_role_is_refused(fresh: Any) -> None:
    connection = await asyncpg.connect(str(fresh.service))
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(
            "INSERT INTO api_key VALUES ('key_a', 'a', sha256('a'), '{}', now(), NULL, NULL)"
        )
    await connection.close()
