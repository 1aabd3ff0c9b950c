"""Reading the ledger from end to end: nothing that finds a record is left out, and memory is kept."""

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from app.canonical import canonical_json
from app.ledger.entry import Kind
from app.ledger.filing import FILINGS, misfiled
from app.storage import tables, whole_ledger
from app.storage.database import Database
from app.storage.ledger import TABLE_OF, Draft, Ledger, ModelRow


def test_every_column_by_which_a_record_is_found_is_held_against_its_document() -> None:
    """A new table, or a new column, would otherwise be one that can be bent."""
    assert {one.table for one in FILINGS} == {table.name for table in TABLE_OF.values()}
    assert {one.table for one in FILINGS} == {table.name for table in tables.FILED}
    for one in FILINGS:
        there = {column.name for column in tables.metadata.tables[one.table].columns}
        assert set(one.columns) == there - {"index"}, one.table
        assert one.subject in one.columns


def test_every_kind_has_its_table() -> None:
    kinds = [kind.value for one in FILINGS for kind in one.kinds]
    assert sorted(kinds) == sorted(kind.value for kind in Kind)


@pytest.fixture
async def filled(fresh: Any) -> Any:
    """Forty models, of about a hundred bytes each, two of which are much larger."""
    database = Database(fresh.service, throwaway=True)
    ledger = Ledger(database)
    await ledger.initialise("a log")
    await ledger.start()
    for i in range(40):
        more = "x" * (5000 if i in (7, 8) else 1)
        said = {"developer": "lab", "model": f"m@{i}", "more": more, "weights": None}
        draft = _draft(f"m@{i}", canonical_json(said))
        await ledger.append([draft], actor="key_1", rests_on={}, touches=())
    await ledger.close()
    await database.close()
    return fresh


def _draft(model: str, document: bytes) -> Draft:
    return Draft(Kind.MODEL, model, ModelRow(model, "lab"), lambda _: document)


async def test_a_page_holds_so_many_bytes_and_one_entry_at_least(
    filled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_ledger, "PAGE_BYTES", 1000)
    database = Database(filled.service, audits=True)
    pages = []
    async with whole_ledger.reading(database) as connection:
        async for page in whole_ledger.pages(connection, range(40)):
            pages.append([one.index for one in page.entries])
            assert list(page.filed["model_version"]) == pages[-1]
    await database.close()

    assert [index for page in pages for index in page] == list(range(40))
    assert [7] in pages
    assert [8] in pages
    assert max(map(len, pages)) < 20


async def test_what_is_no_document_is_named_and_hides_no_other(filled: Any) -> None:
    connection = await asyncpg.connect(str(filled.superuser))
    for statement in (
        "ALTER TABLE ledger_entry DISABLE TRIGGER ALL",
        "ALTER TABLE model_version DISABLE TRIGGER ALL",
        "UPDATE ledger_entry SET document = '{', document_sha256 = sha256('{') WHERE index = 11",
        r"UPDATE ledger_entry SET document = '\xff', document_sha256 = sha256('\xff') WHERE index = 30",
        "UPDATE model_version SET developer = 'another' WHERE index = 29",
        "DELETE FROM ledger_entry WHERE index = 35",
    ):
        await connection.execute(statement)
    await connection.close()
    database = Database(filled.service, audits=True)
    async with whole_ledger.reading(database) as reading:
        found = [
            one
            async for page in whole_ledger.pages(reading, range(40))
            for one in misfiled(page.entries, page.filed)
        ]
    await database.close()

    assert [one.index for one in found] == [11, 29, 30, 35]
    assert "its document does not say what `model_version` repeats" in found[0].what
    assert "says otherwise than its document" in found[1].what
    assert "`model_version` has a row for it" in found[3].what


async def test_an_empty_database_has_no_head(fresh: Any) -> None:
    database = Database(fresh.service, audits=True)
    async with whole_ledger.reading(database) as connection:
        assert await whole_ledger.stored_head(connection) is None
    await database.close()


async def test_when_an_entry_was_recorded(filled: Any) -> None:
    database = Database(filled.service, audits=True)
    async with whole_ledger.reading(database) as connection:
        at = await whole_ledger.recorded_at(connection, 3)
        assert at is not None
        assert abs((datetime.now(UTC) - at).total_seconds()) < 600
        assert await whole_ledger.recorded_at(connection, 40) is None
    await database.close()
