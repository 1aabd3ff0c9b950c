"""Reading the ledger from end to end: nothing that finds a record is left out, and memory is kept."""

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from app.canonical import canonical_json
from app.ledger.entry import Kind
from app.storage import tables, whole_ledger
from app.storage.database import Database
from app.storage.ledger import TABLE_OF, Draft, Ledger, ModelRow
from app.storage.whole_ledger import _SHOULD


def test_every_column_by_which_a_record_is_found_is_held_against_its_document() -> None:
    """A new table, or a new column, would otherwise be one that can be bent."""
    assert set(_SHOULD) == {table.name for table in TABLE_OF.values()}
    for name, (_, columns) in _SHOULD.items():
        there = {column.name for column in tables.metadata.tables[name].columns}
        assert set(columns) == there - {"index"}, name


def test_every_kind_has_its_table() -> None:
    kinds = [kind for kinds, _ in _SHOULD.values() for kind in kinds]
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
    first, pages = 0, []
    async with whole_ledger.reading(database) as connection:
        while page := await whole_ledger.entries_from(connection, first, 40):
            pages.append([one.index for one in page])
            first = page[-1].index + 1
    await database.close()

    assert [index for page in pages for index in page] == list(range(40))
    assert [7] in pages or any(page[-1] == 7 for page in pages)
    assert [8] in pages
    assert max(map(len, pages)) < 20


async def test_what_is_no_document_is_named_and_hides_no_other(filled: Any) -> None:
    """Postgres refuses the whole statement for it, so it is looked for."""
    connection = await asyncpg.connect(str(filled.superuser))
    for statement in (
        "ALTER TABLE ledger_entry DISABLE TRIGGER ALL",
        "ALTER TABLE model_version DISABLE TRIGGER ALL",
        "UPDATE ledger_entry SET document = '{', document_sha256 = sha256('{') WHERE index = 11",
        r"UPDATE ledger_entry SET document = '\xff', document_sha256 = sha256('\xff') WHERE index = 30",
        "UPDATE model_version SET developer = 'another' WHERE index = 29",
    ):
        await connection.execute(statement)
    await connection.close()
    database = Database(filled.service, audits=True)
    async with whole_ledger.reading(database) as reading:
        found = await whole_ledger.misfiled(reading, 0, 40)
    await database.close()

    assert [one.index for one in found] == [11, 29, 30]
    assert "says otherwise than its document" in found[1].what


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
