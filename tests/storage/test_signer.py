"""The signer, on databases that were put back, changed, or swapped, and beside others that sign."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.canonical import canonical_json
from app.errors import Unavailable
from app.ledger.checkpoint import (
    Checkpoint,
    KeyStatement,
    read_checkpoint,
    verified_checkpoint,
    vouched_for,
)
from app.ledger.entry import Kind
from app.ledger.merkle import EMPTY_ROOT, verify_consistency
from app.ledger.note import SignatureType, SigningKey, VerifierKey
from app.operations import sign_checkpoints
from app.operations.sign_checkpoints import Signer
from app.storage import checkpoints, tree
from app.storage.checkpoints import KeyOnRecord
from app.storage.database import Database
from app.storage.embedded import EmbeddedPostgres
from app.storage.ledger import Draft, LedgerFault, ModelRow
from app.storage.signer_files import (
    LastWord,
    LedgerKeys,
    UnusableSigner,
    new_ledger_key,
    read_ledger_keys,
)
from app.storage.store import Store
from tests.storage.conftest import run

LOG = "log.example.com/aslgate"
_numbers = itertools.count()


def key(seed: int = 1) -> SigningKey:
    return SigningKey(
        LOG, SignatureType.LOG, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    )


def keys(*seeds: int, retired: tuple[int, ...] = ()) -> LedgerKeys:
    return LedgerKeys(tuple(map(key, seeds)), frozenset(key(one).verifier for one in retired))


@asynccontextmanager
async def opened(address: Any) -> AsyncIterator[Store]:
    store = Store(Database(address.service, throwaway=True), log=LOG)
    await store.open(datetime.now(UTC))
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(fresh: Any) -> AsyncIterator[Store]:
    async with opened(fresh) as store:
        yield store


@pytest.fixture
def last_word(tmp_path: Path) -> LastWord:
    return LastWord(tmp_path / "data" / "last")


@pytest.fixture
def backups(postgres: EmbeddedPostgres, fresh: Any) -> Iterator[Any]:
    """Makes a copy of the database as it is now, to which nobody may be connected."""
    made: list[str] = []

    def backup() -> Any:
        made.append(f"backup_{next(_numbers)}")
        run(postgres, f"CREATE DATABASE {made[-1]} TEMPLATE {fresh.service.database}")
        roles = ("superuser", "owner", "service")
        return replace(
            fresh, **{role: replace(getattr(fresh, role), database=made[-1]) for role in roles}
        )

    yield backup
    for name in made:
        run(postgres, f"DROP DATABASE {name} WITH (FORCE)")


async def record(store: Store, many: int = 1, word: str = "m") -> None:
    """So many entries."""
    drafts = []
    for _ in range(many):
        model = f"{word}{next(_numbers)}@1"
        document = canonical_json({"model": model})
        drafts.append(Draft(Kind.MODEL, model, ModelRow(model, "a lab"), lambda _, d=document: d))  # type: ignore[misc]
    await store.ledger.append(drafts, actor="key_a", rests_on={}, touches=())


async def published(store: Store) -> Checkpoint | None:
    async with store.reading() as connection:
        found = await checkpoints.latest(connection)
    return None if found is None else read_checkpoint(found.note.text)


async def size_published(store: Store) -> int | None:
    found = await published(store)
    return None if found is None else found.size


def size_kept(last_word: LastWord) -> int | None:
    note = last_word.read()
    return None if note is None else read_checkpoint(note.text).size


def remove(last_word: LastWord) -> None:
    Path(str(last_word)).unlink()


def overwrite(last_word: LastWord, content: bytes) -> None:
    Path(str(last_word)).parent.mkdir(exist_ok=True)
    Path(str(last_word)).write_bytes(content)


async def as_superuser(address: Any, *statements: str) -> None:
    connection = await asyncpg.connect(str(address.superuser))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def as_if_no_trigger(table: str, statement: str) -> tuple[str, ...]:
    """What somebody runs who rules over the server."""
    return (
        f"ALTER TABLE {table} DISABLE TRIGGER ALL",
        statement,
        f"ALTER TABLE {table} ENABLE TRIGGER ALL",
    )


async def refused_to_record(store: Store) -> str:
    with pytest.raises(Unavailable) as refused:
        await record(store)
    assert refused.value.reason == "ledger"
    assert await store.trouble() == refused.value.message
    return refused.value.message


# --- Signing ------------------------------------------------------------------------------------


async def test_each_turn_signs_what_was_recorded(store: Store, last_word: LastWord) -> None:
    """It is kept outside, published, and by the log's key; without anything new there is nothing."""
    signer = Signer(store, last_word, keys(1))
    seen = []
    for many in (0, 1, 0, 300):
        if many:
            await record(store, many)
        await signer.sign()
        async with store.reading() as connection:
            found = await checkpoints.latest(connection)
            root = await tree.root_at(connection, store.ledger.size)
        assert found is not None
        said = verified_checkpoint(found.note, [key().verifier], origin=LOG)
        assert last_word.read() == found.note
        assert said == Checkpoint(LOG, store.ledger.size, root)
        seen.append(said.size)
    assert seen == [0, 1, 1, 301]
    assert (await published(store)) != Checkpoint(LOG, 0, EMPTY_ROOT)


async def test_nothing_is_recorded_before_the_first_look(
    fresh: Any, store: Store, last_word: LastWord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_checkpoints, "INTERVAL_SECONDS", 0.05)
    signer = Signer(store, last_word, keys(1))
    connection = await asyncpg.connect(str(fresh.service))
    try:
        async with connection.transaction():
            # Somebody else has this turn, and takes long.
            await connection.execute("SELECT pg_advisory_xact_lock($1)", 0x61736C73)
            await signer.start()
            assert "not yet held against" in await refused_to_record(store)
        await until(lambda: store.ledger.halted is None)
        await record(store)
    finally:
        await connection.close()
        await signer.close()
    assert size_kept(last_word) == 1


async def until(holds: Any, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - it may be true without anybody telling us
            await asyncio.sleep(0.02)


async def test_it_is_kept_before_it_is_published(
    fresh: Any, store: Store, last_word: LastWord
) -> None:
    """Cut off in between, the next turn publishes the same; the other way round could fork."""
    await record(store, 3)
    signer = Signer(store, last_word, keys(1))
    await signer.sign()
    await record(store, 2)
    await as_superuser(fresh, "REVOKE INSERT ON ledger_checkpoint FROM aslgate_service")
    with pytest.raises(Exception, match="permission denied"):
        await signer.sign()
    assert (size_kept(last_word), await size_published(store)) == (5, 3)
    kept = last_word.read()

    await as_superuser(fresh, "GRANT INSERT ON ledger_checkpoint TO aslgate_service")
    await Signer(store, last_word, keys(1)).sign()
    assert await size_published(store) == 5
    assert last_word.read() == kept


async def test_what_cannot_be_kept_is_not_signed(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk stops checkpoints and nothing else: what is recorded is as durable as ever."""
    # The name is as long as a name may be, and what is written first has a longer one.
    async with started(Signer(store, LastWord(tmp_path / ("x" * 250)), keys(1))):
        await record(store)
    assert await published(store) is None
    assert "cannot be written" in caplog.text


# --- Databases that are not what they were ------------------------------------------------------


async def test_a_first_checkpoint_that_cannot_be_published_leaves_no_key_on_record(
    store: Store, last_word: LastWord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key without a checkpoint would look as if its checkpoints had been removed."""

    async def failing(*_: object) -> None:
        raise Unavailable("database", "the connection is gone")

    await record(store)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "add", failing)
        with pytest.raises(Unavailable):
            await Signer(store, last_word, keys(1)).sign()
    assert await on_record(store) == []
    remove(last_word)
    await Signer(store, last_word, keys(1)).sign()
    assert await size_published(store) == 1


async def test_a_database_that_was_put_back_is_not_written_to(
    fresh: Any, backups: Any, last_word: LastWord
) -> None:
    """Yesterday's backup has fewer entries than were signed."""
    async with opened(fresh) as store:
        await record(store, 3)
        await Signer(store, last_word, keys(1)).sign()
    backup = await asyncio.to_thread(backups)
    async with opened(fresh) as store:
        await record(store, 2)
        await Signer(store, last_word, keys(1)).sign()

    async with opened(backup) as store, started(Signer(store, last_word, keys(1))):
        said = await refused_to_record(store)
        assert "5 entries was signed, and the ledger has 3" in said
        assert await size_published(store) == 3
    assert size_kept(last_word) == 5


async def test_a_backup_that_went_on_is_a_fork_and_is_not_signed(
    fresh: Any, backups: Any, last_word: LastWord, tmp_path: Path
) -> None:
    """It has more entries than were signed, and others."""
    async with opened(fresh) as store:
        await record(store, 3)
        await Signer(store, last_word, keys(1)).sign()
    backup = await asyncio.to_thread(backups)
    async with opened(fresh) as store:
        await record(store, 2)
        await Signer(store, last_word, keys(1)).sign()

    async with opened(backup) as store:
        await record(store, 4)
        async with started(Signer(store, last_word, keys(1))):
            assert "does not extend the checkpoint of 5" in await refused_to_record(store)
            assert await size_published(store) == 3


async def test_the_right_database_again_mends_it(
    fresh: Any, backups: Any, last_word: LastWord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to be told: it is looked again at each turn."""
    monkeypatch.setattr(sign_checkpoints, "INTERVAL_SECONDS", 0.05)
    async with opened(fresh) as store:
        await record(store, 3)
        await Signer(store, last_word, keys(1)).sign()
    ahead = last_word.read()
    assert ahead is not None
    async with opened(fresh) as store:
        note = Checkpoint(LOG, 9, bytes(32)).signed([key()])
        last_word.keep(note)
        async with started(Signer(store, last_word, keys(1))):
            await refused_to_record(store)
            last_word.keep(ahead)
            await until(lambda: store.ledger.halted is None)
            await record(store)
            await until(lambda: size_kept(last_word) == 4)


@asynccontextmanager
async def started(signer: Signer) -> AsyncIterator[Signer]:
    await signer.start()
    try:
        yield signer
    finally:
        await signer.close()


async def test_entries_that_were_taken_away_are_missed(
    fresh: Any, store: Store, last_word: LastWord
) -> None:
    """The head goes back with them, frontier, root and all, as the server's ruler can have it."""
    await record(store, 6)
    signer = Signer(store, last_word, keys(1))
    await signer.sign()
    async with store.reading() as connection:
        before = await tree.stored_frontier(connection, 4)
    hashes, root = bytes(before).hex(), before.root.hex()
    head = f"UPDATE ledger_head SET size = 4, frontier = '\\x{hashes}', root = '\\x{root}'"
    await as_superuser(fresh, *as_if_no_trigger("ledger_head", head))
    with pytest.raises(LedgerFault, match="the ledger has 4"):
        await signer.sign()


async def test_a_root_that_is_not_that_of_the_tree_is_not_signed(
    fresh: Any, store: Store, last_word: LastWord
) -> None:
    await record(store, 6)
    signer = Signer(store, last_word, keys(1))
    head = f"UPDATE ledger_head SET root = '\\x{'00' * 32}'"
    await as_superuser(fresh, *as_if_no_trigger("ledger_head", head))
    with pytest.raises(LedgerFault, match="root"):
        await signer.sign()
    assert await published(store) is None


async def test_a_tree_that_was_exchanged_is_not_signed(
    fresh: Any, store: Store, last_word: LastWord
) -> None:
    """Other leaves, and a head that fits them."""
    await record(store, 5)
    signer = Signer(store, last_word, keys(1))
    await signer.sign()
    entry = (
        "UPDATE ledger_entry SET entry = 'another', "
        r"leaf_hash = sha256('\x00'::bytea || 'another') WHERE index = 2"
    )
    await as_superuser(fresh, *as_if_no_trigger("ledger_entry", entry))
    async with store.reading() as connection:
        forged = await tree.stored_frontier(connection, 5)
    hashes, root = bytes(forged).hex(), forged.root.hex()
    head = f"UPDATE ledger_head SET frontier = '\\x{hashes}', root = '\\x{root}'"
    await as_superuser(fresh, *as_if_no_trigger("ledger_head", head))
    with pytest.raises(LedgerFault, match="does not extend"):
        await signer.sign()


async def test_a_lost_last_word_is_begun_again_and_said(
    store: Store, last_word: LastWord, caplog: pytest.LogCaptureFixture
) -> None:
    """What the database itself has published is all that is left then, and it must extend that."""
    await record(store, 3)
    await Signer(store, last_word, keys(1)).sign()
    remove(last_word)
    async with started(Signer(store, last_word, keys(1))):
        await record(store)
    assert size_kept(last_word) == 4
    assert caplog.text.count(f"there is no `{last_word}`") == 1
    assert "3 entries" in caplog.text


async def test_a_lost_last_word_does_not_hide_what_is_published(
    fresh: Any, store: Store, last_word: LastWord
) -> None:
    await record(store, 3)
    await Signer(store, last_word, keys(1)).sign()
    remove(last_word)
    note = str(Checkpoint(LOG, 9, bytes(32)).signed([key()])).replace("'", "''")
    await as_superuser(fresh, f"INSERT INTO ledger_checkpoint VALUES (9, '{note}')")
    with pytest.raises(LedgerFault, match="9 entries was signed"):
        await Signer(store, last_word, keys(1)).sign()


async def test_a_lost_last_word_lets_no_other_s_checkpoint_stand_for_ours(
    fresh: Any, store: Store, last_word: LastWord
) -> None:
    """It fits the ledger, and its key is on record: who rules over the database wrote both."""
    await record(store, 3)
    await Signer(store, last_word, keys(1)).sign()
    await record(store, 1)
    async with store.reading() as connection:
        forged = Checkpoint(LOG, 4, await tree.root_at(connection, 4)).signed([key(7)])
        vouched = KeyStatement(key(7).verifier, True, 4)
    await as_superuser(fresh, f"INSERT INTO ledger_checkpoint VALUES (4, '{forged}')")
    async with store.working() as connection:
        said = KeyOnRecord(vouched, vouched.signed([key(7)]))
        await checkpoints.add_key_statement(connection, 1, said)
    remove(last_word)
    async with started(Signer(store, last_word, keys(1))):
        assert "of 4 entries is not ours" in await refused_to_record(store)
    assert last_word.read() is None


async def test_a_lost_last_word_and_lost_checkpoints_are_too_much(
    fresh: Any, store: Store, last_word: LastWord
) -> None:
    """Where our key is on record, something was signed; without our last word that is all there was
    to hold the ledger against.
    """
    await record(store, 3)
    await Signer(store, last_word, keys(1)).sign()
    removed = as_if_no_trigger("ledger_checkpoint", "DELETE FROM ledger_checkpoint")
    await as_superuser(fresh, *removed)
    await Signer(store, last_word, keys(1)).sign()
    assert await size_published(store) == 3
    await as_superuser(fresh, *removed)
    remove(last_word)
    async with started(Signer(store, last_word, keys(1))):
        assert "they were removed" in await refused_to_record(store)


@pytest.mark.parametrize(("seeds", "retired"), [((1,), ()), ((1, 2), ()), ((2,), (1,))])
async def test_a_lost_last_word_is_begun_again_amid_a_change_of_keys(
    store: Store, last_word: LastWord, seeds: tuple[int, ...], retired: tuple[int, ...]
) -> None:
    """What the old key signed is ours as long as we are given it, or told that it is retired."""
    await record(store, 3)
    await Signer(store, last_word, keys(1)).sign()
    remove(last_word)
    await record(store, 1)
    await Signer(store, last_word, keys(*seeds, retired=retired)).sign()
    assert size_kept(last_word) == 4


async def test_a_last_word_of_something_else_is_refused(store: Store, last_word: LastWord) -> None:
    for content in (b"", b"nonsense", b"text\n\n", b"\xff"):
        overwrite(last_word, content)
        with pytest.raises(UnusableSigner, match="is no checkpoint"):
            await Signer(store, last_word, keys(1)).sign()
    other = SigningKey("other.test", SignatureType.LOG, key().private_key)
    last_word.keep(Checkpoint("other.test", 1, bytes(32)).signed([other]))
    with pytest.raises(UnusableSigner, match=r"of `other\.test`"):
        await Signer(store, last_word, keys(1)).sign()


async def test_a_last_word_of_another_s_is_refused(
    fresh: Any, store: Store, last_word: LastWord
) -> None:
    """An empty checkpoint by a key of theirs, which anything extends, in place of ours; and no
    checkpoints left to hold the ledger against.
    """
    await record(store, 3)
    await Signer(store, last_word, keys(1)).sign()
    overwrite(last_word, str(Checkpoint(LOG, 0, EMPTY_ROOT).signed([key(9)])).encode())
    removed = as_if_no_trigger("ledger_checkpoint", "DELETE FROM ledger_checkpoint")
    await as_superuser(fresh, *removed)
    async with started(Signer(store, last_word, keys(1))):
        assert "is not by a key of ours" in await refused_to_record(store)
    assert (size_kept(last_word), await size_published(store)) == (0, None)


async def test_another_s_checkpoint_does_not_become_our_last_word(
    fresh: Any, store: Store, last_word: LastWord
) -> None:
    """It is of the ledger as it is, and larger than our last word; it is not by us."""
    await record(store, 3)
    await Signer(store, last_word, keys(1)).sign()
    await record(store, 1)
    async with store.reading() as connection:
        forged = Checkpoint(LOG, 4, await tree.root_at(connection, 4)).signed([key(7)])
    await as_superuser(fresh, f"INSERT INTO ledger_checkpoint VALUES (4, '{forged}')")
    async with started(Signer(store, last_word, keys(1))):
        assert "of 4 entries is not ours" in await refused_to_record(store)
    assert size_kept(last_word) == 3


async def test_a_turn_that_never_comes_is_said(
    fresh: Any,
    store: Store,
    last_word: LastWord,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who may connect can hold the lock; as long as nothing is due, nobody misses anything."""
    monkeypatch.setattr(sign_checkpoints, "INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr(sign_checkpoints, "LOST_SECONDS", 0.1)
    await record(store)
    async with started(Signer(store, last_word, keys(1))) as signer:
        connection = await asyncpg.connect(str(fresh.service))
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", 0x61736C73)
            for _ in range(10):
                await signer.sign()
            assert "holds the signer's lock" not in caplog.text
            await record(store)
            await until(lambda: "holds the signer's lock" in caplog.text)
        finally:
            await connection.close()
        await until(lambda: size_kept(last_word) == 2)
    assert caplog.text.count("holds the signer's lock") == 1


# --- Keys ---------------------------------------------------------------------------------------


async def on_record(store: Store) -> list[tuple[VerifierKey, bool, int]]:
    async with store.reading() as connection:
        said = await checkpoints.key_statements(connection)
    return [(one.statement.key, one.statement.signs, one.statement.size) for one in said]


async def test_another_key_is_refused(store: Store, last_word: LastWord) -> None:
    """Whoever exchanges the key file gets no signature, and nothing is recorded under it."""
    await record(store, 2)
    await Signer(store, last_word, keys(1)).sign()
    async with started(Signer(store, last_word, keys(2))):
        assert "none of the signing keys is on record" in await refused_to_record(store)
    assert await on_record(store) == [(key(1).verifier, True, 2)]


async def test_a_key_is_rotated_under_the_readers_eyes(store: Store, last_word: LastWord) -> None:
    """First both sign, then the new one does; each step is signed by a key that was known before."""
    for seeds, retired in (((1,), ()), ((1, 2), ()), ((2,), (1,)), ((2,), ())):
        await record(store)
        await Signer(store, last_word, keys(*seeds, retired=retired)).sign()
    first, second = key(1).verifier, key(2).verifier
    assert await on_record(store) == [(first, True, 1), (second, True, 2), (first, False, 3)]
    async with store.reading() as connection:
        said = await checkpoints.key_statements(connection)
        newest = await checkpoints.latest(connection)
    assert newest is not None
    known = vouched_for({first}, [one.note for one in said])
    assert known == {second}
    assert verified_checkpoint(newest.note, known, origin=LOG).size == 4


async def test_one_key_for_all_replicas_is_changed_one_after_another(
    store: Store, last_word: LastWord
) -> None:
    """While one has both keys already, those that have the first alone go on."""
    for seeds in ((1,), (1, 2), (1,), (1, 2), (2,), (1, 2)):
        await record(store)
        await Signer(store, last_word, keys(*seeds)).sign()
    assert await size_published(store) == 6
    assert len(await on_record(store)) == 2


async def test_a_key_that_has_ended_never_comes_back(store: Store, last_word: LastWord) -> None:
    for seeds, retired in (((1,), ()), ((1, 2), ()), ((2,), (1,))):
        await record(store)
        await Signer(store, last_word, keys(*seeds, retired=retired)).sign()
    with pytest.raises(UnusableSigner, match="has ended"):
        await Signer(store, last_word, keys(1, 2)).sign()


async def test_a_lost_key_is_replaced_by_who_says_so(store: Store, last_word: LastWord) -> None:
    """No key vouches for the new one then: readers of the old one must be told otherwise."""
    await record(store)
    await Signer(store, last_word, keys(1)).sign()
    await record(store)
    await Signer(store, last_word, keys(2, retired=(1,))).sign()
    async with store.reading() as connection:
        said = await checkpoints.key_statements(connection)
    assert [one.statement.signs for one in said] == [True, True, False]
    notes = [one.note for one in said]
    assert vouched_for({key(1).verifier}, notes) == {key(1).verifier}
    assert await size_published(store) == 2


async def test_a_key_that_comes_after_the_last_checkpoint_signs_from_the_next_on(
    store: Store, last_word: LastWord
) -> None:
    await record(store, 3)
    await Signer(store, last_word, keys(1)).sign()
    await Signer(store, last_word, keys(1, 2)).sign()
    assert (await on_record(store))[1] == (key(2).verifier, True, 4)


def test_keys_are_read_from_text() -> None:
    text = f"# ours\n\n{key(1).secret()}  # since 2026\nretired {key(2).verifier}\n"
    read = read_ledger_keys(text, LOG)
    assert [one.secret() for one in read.sign] == [key(1).secret()]
    assert read.retired == {key(2).verifier}
    made = read_ledger_keys(new_ledger_key(LOG).decode(), LOG)
    assert (len(made.sign), made.retired) == (1, frozenset())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no signing key"),
        (f"retired {key(2).verifier}", "no signing key"),
        ("nonsense", "line 1"),
        (f"\n{key().secret()[:-1]}", "line 2"),
        (f"{key().secret()}\nretired x", "line 2"),
        (f"{key().secret()}\nretired {key().verifier}", "both signs and is retired"),
        (replace(key(), name="other.test").secret(), "no key of the log"),
        (replace(key(), type=SignatureType.COSIGNATURE).secret(), "no key of the log"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(text: str, said: str) -> None:
    """And never shown."""
    with pytest.raises(UnusableSigner, match=said) as refused:
        read_ledger_keys(text, LOG)
    assert key().secret()[-40:-1] not in str(refused.value)


# --- Several of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("a", "b"), ("a", "a")])
async def test_two_that_sign_do_not_fork_the_log(
    fresh: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    """Each has its own last word, or both of one machine have one; it extends all that was signed."""
    monkeypatch.setattr(sign_checkpoints, "INTERVAL_SECONDS", 0.01)
    words = [LastWord(tmp_path / name) for name in names]
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(fresh)) for _ in words]
        for store, word in zip(stores, words, strict=True):
            await stack.enter_async_context(started(Signer(store, word, keys(1))))
        await until(lambda: all(store.ledger.halted is None for store in stores))
        for turn in range(40):
            await record(stores[turn % 2], 1 + turn % 3)
            await asyncio.sleep(0.01)
        size = max(store.ledger.size for store in stores)
        await until(lambda: {size_kept(word) for word in words} == {size}, 10)
        assert all(store.ledger.halted is None for store in stores)

    connection = await asyncpg.connect(str(fresh.service))
    rows = await connection.fetch("SELECT note FROM ledger_checkpoint ORDER BY size")
    await connection.close()
    said = [read_checkpoint(row["note"].partition("\n\n")[0] + "\n") for row in rows]
    assert len(said) > 5
    async with opened(fresh) as store, store.reading() as reading:
        for old, new in itertools.pairwise(said):
            proof = await tree.consistency_proof(reading, old.size, new.size)
            verify_consistency(old.size, old.root, new.size, new.root, proof)


async def test_who_has_no_key_holds_the_database_against_what_others_signed(
    fresh: Any, backups: Any, tmp_path: Path
) -> None:
    signing, holding = LastWord(tmp_path / "signing"), LastWord(tmp_path / "holding")
    async with opened(fresh) as store:
        await record(store, 3)
        await Signer(store, holding, LedgerKeys()).sign()
        assert holding.read() is None
        await Signer(store, signing, keys(1)).sign()
    backup = await asyncio.to_thread(backups)
    async with opened(fresh) as store:
        await record(store, 2)
        await Signer(store, signing, keys(1)).sign()
        await Signer(store, holding, LedgerKeys()).sign()
        assert size_kept(holding) == 5
        assert len(await on_record(store)) == 1
    async with opened(backup) as store, started(Signer(store, holding, LedgerKeys())):
        assert "the ledger has 3" in await refused_to_record(store)


async def test_who_has_no_key_keeps_only_what_the_logs_key_has_signed(
    fresh: Any, store: Store, tmp_path: Path
) -> None:
    await record(store, 3)
    await Signer(store, LastWord(tmp_path / "signing"), keys(1)).sign()
    await record(store, 1)
    async with store.reading() as connection:
        root = await tree.root_at(connection, 4)
    note = Checkpoint(LOG, 4, root).signed([key(7)])
    await as_superuser(fresh, f"INSERT INTO ledger_checkpoint VALUES (4, '{note}')")
    with pytest.raises(LedgerFault, match="is not ours"):
        await Signer(store, LastWord(tmp_path / "holding"), LedgerKeys()).sign()
