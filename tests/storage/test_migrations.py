"""The migrations give exactly the tables that the code knows, however often they are run."""

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.errors import Unavailable
from app.storage import tables
from app.storage.database import (
    SERVICE,
    Database,
    UnfitServer,
    UnusableAddress,
    current_revision,
    expected_revision,
    libpq_url,
    migrate,
    migrations_folder,
    prepare_roles,
)
from tests.storage.conftest import upgrade_to


async def fetch(address: Any, statement: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(str(address))
    try:
        return list(await connection.fetch(statement, *values))
    finally:
        await connection.close()


def test_there_is_one_head() -> None:
    """Two heads would be two histories; the second to be merged is rebased."""
    assert len(ScriptDirectory(str(migrations_folder())).get_heads()) == 1


async def test_the_tables_are_those_that_the_code_knows(fresh: Any) -> None:
    """A column that only one side has would be found by the first request instead."""

    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, tables.metadata))

    async def connect() -> Any:
        return await asyncpg.connect(str(fresh.owner))

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_the_checks_are_those_that_the_code_knows(fresh: Any) -> None:
    """alembic does not compare checks, nor what a partial index leaves out."""
    known = {
        (table.name, str(rule.name))
        for table in tables.metadata.tables.values()
        for rule in table.constraints
        if isinstance(rule, CheckConstraint)
    }
    found = await fetch(
        fresh.owner,
        "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c' "
        "AND connamespace = 'public'::regnamespace",
    )
    assert {tuple(row) for row in found} == known
    partial = await fetch(
        fresh.owner,
        "SELECT indexname FROM pg_indexes WHERE tablename = 'determination' "
        "AND indexdef LIKE '%WHERE (NOT as_known)' ORDER BY 1",
    )
    assert [row[0] for row in partial] == [
        "determination_latest_idx",
        "determination_latest_of_policy_idx",
    ]


async def test_every_table_has_its_triggers_and_they_fire_always(fresh: Any) -> None:
    """`O` would mean that `session_replication_role` switches a trigger off."""
    found = await fetch(
        fresh.owner,
        "SELECT tgrelid::regclass::text, tgname, tgenabled::text FROM pg_trigger "
        "WHERE NOT tgisinternal",
    )
    recorded = {(table.name, "never_changed", "A") for table in tables.RECORDED}
    growing = {
        (name, trigger, "A")
        for name in ("ledger_head", "stream")
        for trigger in ("never_removed", "only_advances")
    }
    assert {tuple(row) for row in found} == recorded | growing
    working = {table.name for table in tables.WORKING}
    assert {row[0] for row in found} == set(tables.metadata.tables) - working


async def test_documents_are_compressed_with_lz4_where_the_server_has_it(fresh: Any) -> None:
    """The embedded server was built without it, and keeps the default (empty here)."""
    has_it = await fetch(
        fresh.owner,
        "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'",
    )
    found = await fetch(
        fresh.owner,
        "SELECT attcompression::text FROM pg_attribute "
        "WHERE attrelid = 'ledger_entry'::regclass AND attname = 'document'",
    )
    assert found[0][0] == ("l" if has_it[0][0] else "")


def test_migrating_again_changes_nothing_and_several_may_start_at_once(
    empty_database: Any,
) -> None:
    """Replicas start together; each migrates first."""
    with ThreadPoolExecutor(4) as starters:
        list(starters.map(lambda _: migrate(empty_database.owner, service_role=SERVICE), range(4)))

    async def revisions() -> tuple[str | None, str]:
        database = Database(empty_database.service, throwaway=True)
        async with database.reading() as connection:
            current = await current_revision(connection)
        await database.close()
        return current, expected_revision()

    current, expected = asyncio.run(revisions())
    assert current == expected


def test_model_versions_of_before_are_found_by_their_weights(empty_database: Any) -> None:
    """What they were registered with says so; and the trigger that was put aside fires again."""
    upgrade_to(empty_database.owner, "0002")
    asyncio.run(
        _register_by_hand(empty_database.owner, {"a@1": '"w"', "b@1": '"w"', "c@1": "null"})
    )

    migrate(empty_database.owner, service_role=SERVICE)

    found = asyncio.run(
        fetch(empty_database.service, "SELECT model, weights FROM model_version ORDER BY index")
    )
    assert [tuple(row) for row in found] == [("a@1", "w"), ("b@1", "w"), ("c@1", None)]
    with pytest.raises(asyncpg.RestrictViolationError):
        asyncio.run(fetch(empty_database.superuser, "UPDATE model_version SET weights = 'x'"))


async def _register_by_hand(owner: Any, weights: dict[str, str]) -> None:
    """As the service of then recorded them: only the document says the weights."""
    connection = await asyncpg.connect(str(owner))
    try:
        for index, (model, said) in enumerate(weights.items()):
            await connection.execute(
                r"""INSERT INTO ledger_entry SELECT $1, 'model', $2, 'key_a', '2026-01-01Z', 'e',
                    sha256('\x00'::bytea || 'e'), $3, sha256($3)""",
                index,
                model,
                f'{{"model": "{model}", "weights": {said}}}'.encode(),
            )
            await connection.execute(
                "INSERT INTO model_version VALUES ($1, $2, 'a lab')", index, model
            )
    finally:
        await connection.close()


async def test_a_database_without_tables_has_no_revision(empty_database: Any) -> None:
    database = Database(empty_database.owner, throwaway=True)
    async with database.reading() as connection:
        assert await current_revision(connection) is None
    await database.close()


def test_roles_are_made_once(postgres: Any) -> None:
    prepare_roles(postgres.dsn())
    prepare_roles(postgres.dsn())


async def test_a_server_that_may_forget_is_refused(fresh: Any) -> None:
    """The throw-away server of the tests has fsync off: nothing may be recorded there."""
    with pytest.raises(UnfitServer) as refused:
        await Database(fresh.service).open()
    assert "`fsync` and `full_page_writes` and `synchronous_commit` are off" in str(refused.value)
    await Database(fresh.service, throwaway=True).open()


async def test_a_server_that_is_not_there_is_unavailable(fresh: Any) -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/aslgate")
    with pytest.raises(Unavailable) as refused:
        await database.open()
    assert refused.value.reason == "database"
    with pytest.raises(Unavailable):
        async with database.reading():
            pass


async def test_readers_cannot_write(fresh: Any) -> None:
    """Every reader's transaction is read-only, whatever its role may do."""
    database = Database(fresh.owner, throwaway=True)
    with pytest.raises(Unavailable):
        async with database.reading() as connection:
            await connection.exec_driver_sql("INSERT INTO stream VALUES ('a', 1)")
    await database.close()


async def test_a_reader_that_finds_none_free_is_told_so(fresh: Any) -> None:
    database = Database(fresh.service, throwaway=True)
    holders = [database.reading() for _ in range(8)]
    for holder in holders:
        await (await holder.__aenter__()).exec_driver_sql("SELECT 1")
    with pytest.raises(Unavailable, match="readers are busy"):
        async with database.reading():
            pass
    for holder in holders:
        await holder.__aexit__(None, None, None)
    await database.close()


async def test_readers_go_on_after_their_connections_were_cut(fresh: Any) -> None:
    """A restarted server must not cost one failed request for each pooled connection."""
    database = Database(fresh.service, throwaway=True)
    async with database.reading() as connection:
        await connection.exec_driver_sql("SELECT 1")
    await fetch(
        fresh.superuser,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    await asyncio.sleep(0.05)
    async with database.reading() as connection:
        assert (await connection.exec_driver_sql("SELECT 1")).scalar() == 1
    await database.close()


async def test_a_reader_does_not_wait_for_a_server_that_hangs(fresh: Any) -> None:
    """Below the two seconds that a request may take, and the next reader finds another."""
    database = Database(fresh.service, throwaway=True)
    async with database.reading() as connection:
        pid = (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="in time"):
            async with database.reading() as connection:
                await connection.exec_driver_sql("SELECT 1")
        assert time.monotonic() - begun < 2
        async with database.reading() as connection:
            await connection.exec_driver_sql("SELECT 1")
    finally:
        os.kill(pid, signal.SIGCONT)
    await database.close()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("postgresql://a:b@h:1/d?sslmode=require", "postgresql://a:b@h:1/d?sslmode=require"),
        ("postgresql+asyncpg://a@h/d", "postgresql://a@h/d"),
        ("postgresql://a@/d?host=/run/x&connect_timeout=5", "postgresql://a@/d?host=/run/x"),
    ],
)
def test_libpq_urls_are_read_as_given(given: str, read: str) -> None:
    assert libpq_url(given) == read


@pytest.mark.parametrize("given", ["mysql://h/d", "", "postgresql://h/d?channel_binding=require"])
def test_an_address_that_cannot_be_honoured_is_refused(given: str) -> None:
    with pytest.raises(UnusableAddress):
        libpq_url(given)
