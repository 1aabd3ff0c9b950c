"""What is recorded is never changed: not by the service, not by its owner, not by a script."""

from typing import Any

import asyncpg
import pytest

from app.storage import tables

RECORDED = [table.name for table in tables.RECORDED]
NEVER_REMOVED = [*RECORDED, "ledger_head", "stream"]
GROWN = "root = sha256('d'), frontier = sha256('d')"
REFUSED = (asyncpg.RestrictViolationError, asyncpg.InsufficientPrivilegeError)


async def run(address: Any, *statements: str) -> None:
    connection = await asyncpg.connect(str(address))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def filled(fresh: Any) -> Any:
    await run(
        fresh.owner,
        """INSERT INTO ledger_head
            VALUES (true, 'a log', 3, '2026-01-01Z', sha256('a') || sha256('b'), sha256('c'))""",
        """INSERT INTO ledger_tile
            VALUES (0, 0, decode(repeat('00', 8192), 'hex'), sha256('a tile'))""",
        "INSERT INTO stream VALUES ('model:m@1', 3)",
        r"""INSERT INTO ledger_entry VALUES (2, 'model', 'm@1', 'key_a', '2026-01-01Z', 'entry',
            sha256('\x00'::bytea || 'entry'), 'document', sha256('document'))""",
        "INSERT INTO model_version VALUES (2, 'm@1', 'a lab')",
    )
    return fresh


@pytest.mark.parametrize("role", ["service", "owner", "superuser"])
async def test_what_is_recorded_cannot_be_changed(filled: Any, role: str) -> None:
    """The service lacks the right, and the trigger stops those who have it."""
    for table in RECORDED:
        column = tables.metadata.tables[table].columns.keys()[0]
        with pytest.raises(REFUSED):
            await run(getattr(filled, role), f"UPDATE {table} SET {column} = {column}")


@pytest.mark.parametrize("role", ["service", "owner", "superuser"])
async def test_no_table_can_lose_a_row(filled: Any, role: str) -> None:
    for table in NEVER_REMOVED:
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(REFUSED):
                await run(getattr(filled, role), statement)


async def test_the_triggers_also_stop_who_plays_a_replica(filled: Any) -> None:
    """`session_replication_role` switches ordinary triggers off, so these fire always."""
    with pytest.raises(asyncpg.RestrictViolationError):
        await run(
            filled.superuser,
            "SET session_replication_role = replica",
            "DELETE FROM model_version",
        )


@pytest.mark.parametrize("role", ["service", "owner"])
async def test_what_advances_never_goes_back(filled: Any, role: str) -> None:
    for change in (
        f"UPDATE ledger_head SET size = 2, {GROWN}",
        f"UPDATE ledger_head SET size = 3, {GROWN} || sha256('d')",
        f"UPDATE ledger_head SET size = 4, {GROWN}, last_at = '2025-12-31Z'",
        f"UPDATE ledger_head SET size = 4, {GROWN}, log = 'another log'",
        f"UPDATE ledger_head SET size = 5, {GROWN}",
        "UPDATE ledger_head SET size = 4, frontier = sha256('d')",
        "INSERT INTO ledger_head VALUES (false, 'a second log', 0, now(), '', sha256(''))",
        "UPDATE stream SET version = 2",
        "UPDATE stream SET version = 4, name = 'model:n@1'",
    ):
        with pytest.raises((*REFUSED, asyncpg.CheckViolationError)):
            await run(getattr(filled, role), change)


async def test_what_may_advance_does(filled: Any) -> None:
    await run(
        filled.service,
        f"UPDATE ledger_head SET size = 4, {GROWN}, last_at = '2026-01-02Z'",
        "UPDATE stream SET version = 4",
    )


@pytest.mark.parametrize(
    ("entry", "leaf", "document", "digest", "check"),
    [
        ("'e'", "'e'", "'d'", "'d'", "the_leaf_hash_is_that_of_the_entry"),
        ("'e'", "'\\x00e'", "'d'", "'x'", "the_digest_is_that_of_the_document"),
        ("''", "'\\x00'", "'d'", "'d'", "an_entry_fits_a_bundle"),
        (
            "convert_to(repeat('e', 65536), 'UTF8')",
            "'\\x00'::bytea || convert_to(repeat('e', 65536), 'UTF8')",
            "'d'",
            "'d'",
            "an_entry_fits_a_bundle",
        ),
    ],
)
async def test_a_damaged_entry_cannot_be_written(
    filled: Any, entry: str, leaf: str, document: str, digest: str, check: str
) -> None:
    leaf = leaf.replace("'\\x00e'", "'\\x00'::bytea || 'e'")
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await run(
            filled.service,
            f"INSERT INTO ledger_entry VALUES (3, 'model', 'n@1', 'key_a', now(), {entry}, "
            f"sha256({leaf}), {document}, sha256({digest}))",
        )
    assert refused.value.constraint_name == check


async def test_the_service_owns_nothing_and_can_make_nothing(filled: Any) -> None:
    for statement in (
        "DROP TABLE model_version",
        "ALTER TABLE model_version DISABLE TRIGGER never_changed",
        "CREATE TABLE mine (a integer)",
        "UPDATE alembic_version SET version_num = ''",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(filled.service, statement)
