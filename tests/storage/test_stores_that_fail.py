"""Each store fails, before it has done what was asked or after: and no history splits.

The commit of a batch, that before a checkpoint, the signer's file, and the publishing, each across the end of a
tile; twice at the same size, then at another, and all is opened anew after each failure. After
every step the tree is that of the entries, and whatever was signed is of that tree.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from app.errors import Unavailable
from app.ledger.checkpoint import Checkpoint, read_checkpoint, verified_checkpoint
from app.ledger.note import Note, read_note
from app.operations.sign_checkpoints import Signer
from app.storage.checkpoints import Signed
from app.storage.database import DatabaseConnection
from app.storage.signer_files import LastWord
from app.storage.store import Store
from tests.storage.test_ledger import as_superuser
from tests.storage.test_signer import LOG, key, keys, opened, record
from tests.storage.test_tree import see

Fault = Callable[[pytest.MonkeyPatch, bool], None]


def the_commit_of_a_batch(monkeypatch: pytest.MonkeyPatch, applied: bool) -> None:
    execute = asyncpg.Connection.execute

    async def failing(self: Any, query: str, *args: Any, **how: Any) -> Any:
        if query == "COMMIT":
            if applied:
                await execute(self, query, *args, **how)
            raise ConnectionResetError("the connection is gone")
        return await execute(self, query, *args, **how)

    monkeypatch.setattr(asyncpg.Connection, "execute", failing)


def the_signers_file(monkeypatch: pytest.MonkeyPatch, applied: bool) -> None:
    keep = LastWord.keep

    def failing(self: LastWord, note: Note) -> None:
        if applied:
            keep(self, note)
        raise OSError("the disk is gone")

    monkeypatch.setattr(LastWord, "keep", failing)


def the_commit_before_a_checkpoint(monkeypatch: pytest.MonkeyPatch, applied: bool) -> None:
    working = Store.working

    @asynccontextmanager
    async def failing(self: Store) -> AsyncIterator[DatabaseConnection]:
        async with working(self) as connection:
            yield connection
            if not applied:
                raise Unavailable("database", "the connection is gone")
        raise Unavailable("database", "the connection is gone")

    monkeypatch.setattr(Store, "working", failing)


def the_publishing_of_a_checkpoint(monkeypatch: pytest.MonkeyPatch, applied: bool) -> None:
    publish = Signer._publish

    async def failing(self: Signer, signed: Signed) -> None:
        if applied:
            await publish(self, signed)
        raise Unavailable("database", "the connection is gone")

    monkeypatch.setattr(Signer, "_publish", failing)


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "fault",
    [
        the_commit_of_a_batch,
        the_commit_before_a_checkpoint,
        the_signers_file,
        the_publishing_of_a_checkpoint,
    ],
)
async def test_whichever_store_fails_there_is_one_history(
    fresh: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, fault: Fault, applied: bool
) -> None:
    last_word = LastWord(tmp_path / "last")
    signed: set[Checkpoint] = set()

    async def step(*, fails: bool, many: int) -> None:
        """Open all anew, record so many and sign, and see what is there then."""
        async with opened(fresh) as store:
            with monkeypatch.context() as patch:
                if fails:
                    fault(patch, applied)
                    with pytest.raises(Exception, match=r"gone|not known"):  # noqa: PT012
                        await record(store, many) if many else None
                        await Signer(store, last_word, keys(1)).sign()
                        raise AssertionError("nothing failed")
                else:
                    await record(store, many)
                    await Signer(store, last_word, keys(1)).sign()
        whole = await see(fresh)
        rows = await as_superuser(fresh, "SELECT note FROM ledger_checkpoint")
        notes = [read_note(row["note"].encode()) for row in rows]
        if (kept := last_word.read()) is not None:
            notes.append(kept)
        signed.update(verified_checkpoint(note, [key().verifier], origin=LOG) for note in notes)
        for checkpoint in signed:
            assert checkpoint.size <= whole.size
            assert checkpoint.root == whole.root(checkpoint.size)
        if not fails:
            assert kept is not None
            assert read_checkpoint(kept.text).size == max(one.size for one in signed) == whole.size

    await step(fails=False, many=254)
    await step(fails=True, many=3)
    # Where only signing failed there is nothing to be recorded again, and it fails at the same size,
    # unless it had been published all the same.
    published = applied and fault is the_publishing_of_a_checkpoint
    await step(fails=True, many=3 if fault is the_commit_of_a_batch or published else 0)
    await step(fails=True, many=1)
    await step(fails=False, many=1)
    assert len({one.size for one in signed}) == len(signed)
