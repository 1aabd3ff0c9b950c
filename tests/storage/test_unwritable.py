"""A database that answers whoever reads, and takes no records: a full disk, or a standby."""

import logging
from typing import Any

import pytest

from app.errors import Unavailable
from app.storage import ledger
from tests.storage.test_ledger import as_superuser
from tests.storage.test_signer import opened, record


async def take_no_records(fresh: Any, yes: bool) -> None:
    """Let the database be read only, as a standby is, or not; who is connected comes again."""
    whose = f"ALTER ROLE {fresh.service.user} IN DATABASE {fresh.service.database}"
    await as_superuser(
        fresh,
        f"{whose} SET default_transaction_read_only = {'on' if yes else 'off'}",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


async def refused(store: Any) -> None:
    # The connection that has just been ended is the first one's to notice.
    for _ in range(3):
        with pytest.raises(Unavailable) as why:
            await record(store)
        assert why.value.reason == "database"


async def test_what_takes_no_records_is_not_ready_until_it_does(
    fresh: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said when asked, and in the log once, however often it happens, and when it is over."""
    caplog.set_level(logging.WARNING, logger="aslgate.ledger")
    async with opened(fresh) as store:
        await record(store)
        await take_no_records(fresh, True)
        await refused(store)
        assert await store.trouble() == (
            "the database takes no records (ReadOnlySQLTransactionError, 25006)"
        )
        await refused(store)

        await take_no_records(fresh, False)
        while True:
            try:
                await record(store)
                break
            except Unavailable:
                continue
        assert await store.trouble() is None
    said = [record.getMessage() for record in caplog.records]
    assert sum("read-only" in text for text in said) == 1, said
    assert said[-1] == "the ledger records again"


async def test_what_took_no_records_once_is_not_held_against_it_for_ever(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a server that nobody sends to, because it was not ready, would never be ready again."""
    async with opened(fresh) as store:
        await take_no_records(fresh, True)
        await refused(store)
        assert await store.trouble() is not None

        monkeypatch.setattr(ledger, "UNWRITABLE_SECONDS", 0.0)
        assert await store.trouble() is None
