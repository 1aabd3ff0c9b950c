"""What was changed in the database is not handed out as the log that was signed."""

import asyncio
from collections.abc import Callable

import pytest

from app.ledger.checkpoint import Checkpoint
from app.ledger.merkle import Frontier
from app.ledger.tiles import tiles_of
from app.operations.export import Contradiction, export_log
from app.storage.database import SERVICE, Database
from tests.faults.test_tampering import (
    ALLOWED,
    DENIED,
    LOG,
    Attacked,
    Entries,
    edited,
    ledger,
    renumbered,
    untouched,
)

__all__ = ["ledger", "untouched"]


@pytest.fixture
def signed(ledger: Attacked) -> Attacked:
    """The ledger with a checkpoint of all of it on record."""
    leaves = ledger.sql("SELECT leaf_hash FROM ledger_entry ORDER BY index")
    tree, _ = Frontier().extended(row["leaf_hash"] for row in leaves)
    note = Checkpoint(LOG, tree.size, tree.root).signed([ledger.untouched.key])
    ledger.sql(f"INSERT INTO ledger_checkpoint (size, note) VALUES ({tree.size}, '{note}')")
    return ledger


def exported(ledger: Attacked, before: Checkpoint | None = None) -> dict[str, bytes]:
    """The files, by path."""
    files: dict[str, bytes] = {}

    async def go() -> None:
        address = ledger.untouched.server.dsn(ledger.name, SERVICE)
        database = Database(address, throwaway=True, audits=True)
        try:
            await export_log(database, before, files.__setitem__, lambda _, __: None, quorum=0)
        finally:
            await database.close()

    asyncio.run(go())
    return files


def test_an_untouched_ledger_is_exported_whole(signed: Attacked) -> None:
    """Every tile and every bundle of its size, and nothing else."""
    size = signed.untouched.size
    tiles = set(tiles_of(size))
    bundles = {f"tile/{tile.bundle_path}" for tile in tiles if tile.level == 0}
    assert exported(signed).keys() == {f"tile/{tile.path}" for tile in tiles} | bundles


@pytest.mark.parametrize("tree", [False, True])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (edited(12, ALLOWED, DENIED), "signed over other entries"),
        (lambda entries: [*entries[:9], *entries[10:]], "entries are missing"),
        (lambda entries: renumbered([*entries[:9], *entries[10:]]), "entries are missing"),
        (lambda entries: renumbered([entries[1], entries[0], *entries[2:]]), "other entries"),
    ],
)
def test_a_changed_one_is_not(
    signed: Attacked, change: Callable[[Entries], Entries], why: str, *, tree: bool
) -> None:
    """However well the rest is made to fit."""
    signed.rewrite(change, tree=tree)
    with pytest.raises(Contradiction, match=why):
        exported(signed)


def test_it_extends_what_was_exported_before(signed: Attacked) -> None:
    """A checkpoint that stands in the folder counts as one that was kept elsewhere."""
    kept = signed.untouched.kept.text.split("\n")
    before = Checkpoint(kept[0], int(kept[1]), bytes(32))
    with pytest.raises(Contradiction, match="does not extend"):
        exported(signed, before)
