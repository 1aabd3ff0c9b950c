"""The tree in the database is the tree over the entries, whoever appended them and however."""

import asyncio
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import AlreadyRecorded
from app.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    Node,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from app.ledger.tiles import WIDTH, Tile, completed_tiles, entries_in, tiles_of
from app.storage import records, tree
from app.storage.database import SERVICE, Database, migrate
from app.storage.ledger import LedgerFault
from app.storage.tables import ledger_tile
from tests.storage.conftest import upgrade_to
from tests.storage.test_ledger import append, as_superuser, evidence, head_locked, writing

APPENDER = Path(__file__).with_name("appender.py")


class Whole:
    """The tree over all entries, built from scratch."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        self.leaves = list(leaves)
        self.frontier, self.nodes = Frontier().extended(self.leaves)

    @property
    def size(self) -> int:
        return len(self.leaves)

    def root(self, size: int) -> bytes:
        return Frontier().extended(self.leaves[:size])[0].root

    def hashes(self, tile: Tile) -> bytes:
        return b"".join(self.nodes[node] for node in tile.nodes)


async def the_tree_is_that_of_the_entries(connection: AsyncConnection) -> Whole:
    """See that head, tiles and nodes are those of the entries; the tree over these."""
    entries = await records.entries_from(connection, 0, 1_000_000)
    whole = Whole(leaf_hash(entry) for _, entry, _ in entries)
    head = await tree.head(connection)
    assert head is not None
    assert (head.size, head.frontier, head.root) == (
        whole.size,
        whole.frontier,
        whole.frontier.root,
    )
    stored = await connection.execute(select(ledger_tile))
    assert {Tile(row.level, row.number): (row.hashes, row.root) for row in stored} == {
        tile: (whole.hashes(tile), whole.nodes[tile.root])
        for tile in completed_tiles(0, whole.size)
    }
    return whole


async def see(fresh: Any) -> Whole:
    database = Database(fresh.service, throwaway=True)
    try:
        async with database.reading(seconds=30) as connection:
            return await the_tree_is_that_of_the_entries(connection)
    finally:
        await database.close()


# --- Growing -----------------------------------------------------------------------------------


async def test_an_empty_ledger_has_the_root_of_the_empty_tree(fresh: Any) -> None:
    async with writing(fresh):
        pass
    assert (await see(fresh)).frontier.root == EMPTY_ROOT


async def test_a_batch_extends_the_tree_by_all_of_its_entries(fresh: Any) -> None:
    """Across no tile's end, up to one, and across several."""
    async with writing(fresh) as ledger:
        for count in (1, 2, 252, 1, 257, 1000):
            await append(ledger, *(evidence() for _ in range(count)))
            await see(fresh)
    assert (await see(fresh)).size == 1513


async def test_several_ledgers_on_one_database_make_one_tree(fresh: Any) -> None:
    async with writing(fresh) as one, writing(fresh) as other:
        chance = random.Random(1)
        await asyncio.gather(
            *(
                append(ledger, *(evidence() for _ in range(chance.randint(1, 9))))
                for ledger in (one, other)
                for _ in range(120)
            )
        )
    assert (await see(fresh)).size > 900


@pytest.mark.long
async def test_several_processes_make_one_tree(fresh: Any) -> None:
    """One of them is killed while it writes."""
    async with writing(fresh):
        pass
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, APPENDER, str(fresh.service), str(number), cwd=Path.cwd()
        )
        for number in range(4)
    ]
    watching = await asyncpg.connect(str(fresh.service))
    while await watching.fetchval("SELECT size FROM ledger_head") < 100:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await watching.close()
    processes[0].kill()
    codes = [await process.wait() for process in processes]
    assert codes == [-9, 0, 0, 0]
    assert (await see(fresh)).size >= 3 * 400


async def test_a_transaction_that_fails_leaves_neither_leaf_nor_tile(fresh: Any) -> None:
    """It would have completed the first tile, and is refused by the database at its last row."""
    async with writing(fresh) as ledger:
        await append(ledger, evidence("asm_taken"), *(evidence() for _ in range(250)))
        with pytest.raises(AlreadyRecorded):
            await append(ledger, *(evidence() for _ in range(10)), evidence("asm_taken"))
        assert not list(completed_tiles(0, (await see(fresh)).size))

        async with head_locked(fresh):
            waiting = [
                asyncio.create_task(append(ledger, evidence())),
                asyncio.create_task(append(ledger, evidence("asm_taken"))),
                *(asyncio.create_task(append(ledger, evidence())) for _ in range(20)),
            ]
            await asyncio.sleep(0.1)
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [a for a in answers if isinstance(a, Exception)] == [answers[1]]
    assert (await see(fresh)).size == 251 + 21


async def test_nothing_is_built_on_entries_that_were_changed(fresh: Any) -> None:
    """A leaf that is not what the head's frontier was made of is found before it is sealed."""
    async with writing(fresh) as ledger:
        await append(ledger, *(evidence() for _ in range(255)))
        await as_superuser(
            fresh,
            "ALTER TABLE ledger_entry DISABLE TRIGGER never_changed",
            r"""UPDATE ledger_entry SET entry = 'another',
                leaf_hash = sha256('\x00'::bytea || 'another') WHERE index = 7""",
        )
        with pytest.raises(LedgerFault, match="tile 0/000"):
            await append(ledger, evidence())


@pytest.mark.parametrize(
    "taken",
    [
        "INSERT INTO ledger_tile VALUES (0, 0, decode(repeat('00', 8192), 'hex'), sha256('it'))",
        r"""INSERT INTO ledger_entry VALUES (255, 'model', 'm@1', 'key_a', '2026-01-01Z', 'entry',
            sha256('\x00'::bytea || 'entry'), 'document', sha256('document'))""",
    ],
)
async def test_a_place_that_is_taken_is_nobodys_name(fresh: Any, taken: str) -> None:
    """Somebody wrote there who is not the writer; no caller is to think that it was their doing."""
    async with writing(fresh) as ledger:
        await append(ledger, *(evidence() for _ in range(255)))
        await as_superuser(fresh, taken)
        with pytest.raises(LedgerFault, match="refuses a record of ours"):
            await append(ledger, evidence())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("root = sha256('another')", "does not agree with itself"),
        ("root = sha256('another'), frontier = sha256('another')", "had another root"),
    ],
)
async def test_nothing_is_built_on_a_head_that_was_changed(
    fresh: Any, damage: str, said: str
) -> None:
    async with writing(fresh) as ledger:
        await append(ledger, evidence())
        await as_superuser(
            fresh,
            "ALTER TABLE ledger_head DISABLE TRIGGER only_advances",
            f"UPDATE ledger_head SET {damage}",
        )
        with pytest.raises(LedgerFault, match=said):
            await append(ledger, evidence())


async def test_a_service_that_knows_of_no_tree_cannot_leave_it_behind(fresh: Any) -> None:
    """What ran before the tree was there advances the size alone."""
    async with writing(fresh):
        pass
    with pytest.raises(asyncpg.RestrictViolationError):
        await as_superuser(
            fresh, "UPDATE ledger_head SET size = size + 1, frontier = sha256('leaf')"
        )


# --- Reading -----------------------------------------------------------------------------------


async def test_any_size_that_the_ledger_had_can_be_proven(fresh: Any) -> None:
    async with writing(fresh) as ledger:
        for _ in range(3):
            await append(ledger, *(evidence() for _ in range(233)))
    database = Database(fresh.service, throwaway=True)
    chance = random.Random(2)
    async with database.reading(seconds=60) as connection:
        whole = await the_tree_is_that_of_the_entries(connection)
        assert await tree.range_hashes(connection, [range(0)]) == (EMPTY_ROOT,)
        for _ in range(150):
            size = chance.randint(1, whole.size)
            index, old = chance.randrange(size), chance.randint(0, size)
            root, old_root = whole.root(size), whole.root(old)
            asked = [range(size), range(index, index + 1), range(old)]
            hashes = await tree.range_hashes(connection, asked)
            assert hashes == (root, whole.leaves[index], old_root)
            proof = await tree.inclusion_proof(connection, index, size)
            verify_inclusion(whole.leaves[index], index, size, proof, root)
            proof = await tree.consistency_proof(connection, old, size)
            verify_consistency(old, old_root, size, root, proof)
        for beyond in (whole.size + 1, 2**62):
            with pytest.raises(LookupError):
                await tree.range_hashes(connection, [range(beyond)])
            with pytest.raises(LookupError):
                await tree.inclusion_proof(connection, 0, beyond)
    await database.close()


async def test_every_tile_of_every_size_is_there_and_no_other(fresh: Any) -> None:
    async with writing(fresh) as ledger:
        await append(ledger, *(evidence() for _ in range(600)))
    database = Database(fresh.service, throwaway=True)
    async with database.reading(seconds=60) as connection:
        whole = await the_tree_is_that_of_the_entries(connection)
        there = {t for size in (1, 255, 256, 257, 513, 600) for t in tiles_of(size)}
        for tile in there:
            assert await tree.tile_hashes(connection, tile) == whole.hashes(tile)
            if not tile.level:
                found = await tree.bundle(connection, tile)
                assert found is not None
                leaves = [leaf_hash(entry) for entry in entries_in(found)]
                assert leaves == whole.leaves[tile.number * WIDTH :][: tile.width]
        absent = (Tile(0, 2), Tile(0, 2, 89), Tile(0, 3, 1), Tile(1, 0), Tile(1, 0, 3))
        for tile in (*absent, Tile(2, 0, 1), Tile(63, 0, 1), Tile(0, 10**20)):
            assert await tree.tile_hashes(connection, tile) is None
            assert await tree.bundle(connection, tile) is None
    await database.close()


# --- A ledger of before ------------------------------------------------------------------------

FILL = r"""
    INSERT INTO ledger_entry
    SELECT i, 'model', 'm' || i, 'key_a', '2026-01-01Z', entry, sha256('\x00'::bytea || entry), 'd',
        sha256('d')
    FROM generate_series(0, $1 - 1) AS i, convert_to('entry ' || i, 'UTF8') AS entry
"""


async def fill(owner: Any, size: int) -> None:
    """A ledger as it was before it had a tree."""
    connection = await asyncpg.connect(str(owner))
    try:
        await connection.execute(
            "INSERT INTO ledger_head (log, size, last_at) "
            "VALUES ('log.example.com/aslgate', $1, '2026-01-01Z')",
            size,
        )
        await connection.execute(FILL, size)
    finally:
        await connection.close()


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_530])
async def test_the_tree_of_a_ledger_of_before_is_built_and_goes_on(
    empty_database: Any, size: int
) -> None:
    """The largest of them completes a tile of the next level with what is recorded afterwards."""
    await asyncio.to_thread(upgrade_to, empty_database.owner, "0004")
    await fill(empty_database.owner, size)
    await asyncio.to_thread(migrate, empty_database.owner, service_role=SERVICE)

    assert (await see(empty_database)).size == size
    async with writing(empty_database) as ledger:
        await append(ledger, *(evidence() for _ in range(10)))
    whole = await see(empty_database)
    assert whole.size == size + 10
    assert (Node(16, 0) in whole.nodes) == (size == 65_530)
    with pytest.raises(asyncpg.RestrictViolationError):
        await as_superuser(empty_database, "UPDATE ledger_head SET size = size - 1")


async def test_a_ledger_of_before_with_a_gap_gets_no_tree(empty_database: Any) -> None:
    await asyncio.to_thread(upgrade_to, empty_database.owner, "0004")
    await fill(empty_database.owner, 5)
    await as_superuser(
        empty_database,
        "ALTER TABLE ledger_entry DISABLE TRIGGER never_changed",
        "DELETE FROM ledger_entry WHERE index = 3",
    )
    with pytest.raises(RuntimeError, match="says 5 entries, and there are 4"):
        await asyncio.to_thread(migrate, empty_database.owner, service_role=SERVICE)
