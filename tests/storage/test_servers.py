"""An address may name several servers: which of them is used, and what it must be like by then."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.errors import Unavailable
from app.storage.database import (
    CONNECT_SECONDS,
    NOT_REPLICATED,
    SERVICE,
    Database,
    UnfitServer,
    UnusableAddress,
    each_server,
)
from app.storage.embedded import PORT
from app.storage.store import Store


@pytest.mark.parametrize(
    ("given", "wanted", "each"),
    [
        ("postgresql://u:p@h:1/d?sslmode=require", "read-write", None),
        ("postgresql://u@/d?host=/run/x&port=1", "read-write", None),
        (
            "postgresql://u:p@a:1,b:2/d?sslmode=require",
            "read-write",
            [
                "postgresql://u:p@a:1/d?sslmode=require&target_session_attrs=read-write",
                "postgresql://u:p@b:2/d?sslmode=require&target_session_attrs=read-write",
            ],
        ),
        (
            "postgresql://u@/d?host=/run/a,/run/b&port=1,2",
            "read-write",
            [
                "postgresql://u@/d?host=/run/a&port=1&target_session_attrs=read-write",
                "postgresql://u@/d?host=/run/b&port=2&target_session_attrs=read-write",
            ],
        ),
        (
            "postgresql://u@/d?host=a,b&target_session_attrs=any",
            "read-write",
            [
                "postgresql://u@/d?host=a&target_session_attrs=any",
                "postgresql://u@/d?host=b&target_session_attrs=any",
            ],
        ),
        # Who has told the server to write nothing would find none that takes writes.
        (
            "postgresql://u@a,b/d?target_session_attrs=read-write",
            "primary",
            [
                "postgresql://u@a/d?target_session_attrs=primary",
                "postgresql://u@b/d?target_session_attrs=primary",
            ],
        ),
        (
            "postgresql://u@a,b/d?target_session_attrs=standby",
            "primary",
            [
                "postgresql://u@a/d?target_session_attrs=standby",
                "postgresql://u@b/d?target_session_attrs=standby",
            ],
        ),
        ("postgresql://u@a,b/d?target_session_attrs=prefer-standby", "primary", None),
    ],
)
def test_each_server_of_an_address_is_named_alone(
    given: str, wanted: str, each: list[str] | None
) -> None:
    assert each_server(given, wanted) == (each or [given])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("postgresql://u@/d?host=a,b,c&port=1,2", "as many ports"),
        ("postgresql://u@a,[::1]/d", "IPv6"),  # which can stand after `host=`
    ],
)
def test_a_list_of_servers_that_cannot_be_read_is_refused(given: str, why: str) -> None:
    with pytest.raises(UnusableAddress, match=why):
        Database(given)


async def test_a_server_that_never_answers_is_passed_over(fresh: Any, server_folder: Path) -> None:
    """As one whose machine is gone. The next one is found in the same try, and from then on first."""
    asked = 0

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        with suppress(OSError):
            await reader.read()
        writer.close()

    hosts = f"{server_folder},{fresh.service.host}"
    address = f"postgresql://{SERVICE}@/{fresh.service.database}?host={hosts}&port={PORT},{PORT}"
    path = str(server_folder / f".s.PGSQL.{PORT}")
    async with await asyncio.start_unix_server(never, path):
        for database in (
            Database(address, throwaway=True),
            Database(f"{address}&target_session_attrs=read-write", audits=True),
        ):
            begun, asked = time.monotonic(), 0
            await database.open()
            took = time.monotonic() - begun
            async with database.reading() as connection:
                await connection.execute(text("SELECT 1"))
            await database.close()
            assert took >= CONNECT_SECONDS / 2, "the first one was given its share"
            assert asked == 1, "and was not asked again"


async def test_an_unfit_server_that_came_by_later_is_no_fault_of_the_request(fresh: Any) -> None:
    """After a failover, say: who reads is told why, and that it may pass."""
    database = Database(fresh.service)
    with pytest.raises(Unavailable, match="`fsync`") as refused:
        async with database.reading():
            pass
    assert refused.value.reason == "database"
    await database.close()


async def test_a_server_that_waits_for_no_standby_is_unfit_where_one_is_required(
    fresh: Any,
) -> None:
    store = Store(Database(fresh.service, throwaway=True, require_replica=True))
    with pytest.raises(UnfitServer) as refused:
        await store.open(datetime.now(UTC))
    assert str(refused.value) == NOT_REPLICATED
    await store.close()


async def test_what_the_server_warns_of_is_not_taken_for_well_done(fresh: Any) -> None:
    """A wait for a standby that somebody cancels ends with success, and a warning that says so."""
    database = Database(fresh.service, throwaway=True)
    for _ in range(2):
        with pytest.raises(Unavailable) as refused:
            async with database.writing() as connection:
                await connection.execute(text("DO $$ BEGIN RAISE WARNING 'not there yet'; END $$"))
        assert refused.value.reason == "outcome-unknown"
    async with database.writing() as connection:
        await connection.execute(text("DO $$ BEGIN RAISE NOTICE 'by the way'; END $$"))
    await database.close()
