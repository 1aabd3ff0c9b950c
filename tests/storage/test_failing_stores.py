"""Each store that a checkpoint goes through fails, before it has done what it was to do or after.

The ledger, the signer's file, the published checkpoints, the witness and its published line: each
fails while the tree grows over the end of a tile, again at the same size and after a restart, and
then at another size. After every step the whole ledger holds, all checkpoints that anybody saw are of
one history, and nothing that was recorded is missing or there twice.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.canonical import canonical_json
from app.errors import Unavailable
from app.integrations.witness import Witness
from app.ledger.checkpoint import read_checkpoint
from app.ledger.entry import Kind
from app.ledger.note import Note, SignatureType, SigningKey, read_note
from app.operations import sign_checkpoints
from app.operations.audit import Sweep, Trusted
from app.operations.sign_checkpoints import Signer
from app.storage import checkpoints
from app.storage.database import Database
from app.storage.ledger import Draft, IdempotencyKey, ModelRow
from app.storage.signer_files import LastWord, LedgerKeys
from app.storage.store import Store
from tests.faults.recorded import LOG, of_checkpoints, read_ledger, violations
from tests.http.test_witnesses import SmallWitness, listening

KEY = SigningKey(LOG, SignatureType.LOG, Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32))
BELOW_A_TILE = 254
OVER_ITS_END = 3

HOLDS_A_LOCK = (
    "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() "
    "AND relation = to_regclass($1) AND mode = 'RowExclusiveLock')"
)


@dataclass
class Fault:
    """Which store fails, if any does now, and whether it has done it by then; how often it did."""

    store: str
    applied: bool
    is_on: bool = False
    times: int = 0

    def strikes(self, store: str) -> bool:
        """Whether *store* fails this time."""
        now = self.is_on and store == self.store
        self.times += now
        return now


TABLES = {
    "ledger": "ledger_entry",
    "publication": "ledger_checkpoint",
    "cosignature": "ledger_cosignature",
}
"""By the store that fails at its COMMIT, a table that it has written to."""


def cut_at_commit(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose the connection with which a transaction of that store commits: just before, or just after."""
    execute = asyncpg.Connection.execute

    async def execute_or_fail(self: Any, query: str, *args: Any, **options: Any) -> Any:
        table = TABLES.get(fault.store)
        if table is None or query.rstrip(";") != "COMMIT" or not fault.is_on:
            return await execute(self, query, *args, **options)
        if not (await self.fetchval(HOLDS_A_LOCK, table) and fault.strikes(fault.store)):
            return await execute(self, query, *args, **options)
        if fault.applied:
            await execute(self, query, *args, **options)
        self.terminate()
        raise asyncpg.ConnectionDoesNotExistError(
            "connection was closed in the middle of operation"
        )

    monkeypatch.setattr(asyncpg.Connection, "execute", execute_or_fail)


class FailingFile(LastWord):
    """The signer's file, on a disk that fails."""

    def __init__(self, path: Path, fault: Fault) -> None:
        super().__init__(path)
        self._fault = fault

    def keep(self, note: Note) -> None:
        fails = self._fault.strikes("file")
        if not fails or self._fault.applied:
            super().keep(note)
        if fails:
            raise OSError(5, "Input/output error")


class FailingWitness(SmallWitness):
    """A witness whose answer does not come: it has not cosigned, or has and cannot say so."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(KEY.verifier))
        self._fault = fault

    def add_checkpoint(self, body: bytes) -> tuple[int, bytes]:
        fails = self._fault.strikes("witness")
        if fails and not self._fault.applied:
            return 502, b""
        answer = super().add_checkpoint(body)
        return (502, b"") if fails else answer


@dataclass
class Site:
    """One ledger, and all that is kept of it anywhere."""

    address: Any
    file: FailingFile
    witness: FailingWitness
    asked: Witness
    seen: set[str] = field(default_factory=set)
    """Every checkpoint that was kept or published at the end of some step."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        store = Store(Database(self.address.service, throwaway=True), log=LOG)
        await store.open(datetime.now(UTC))
        try:
            yield store
        finally:
            await store.close()

    async def record(self, models: Sequence[str]) -> str:
        """What becomes of them, all in one request with a key of its own: `recorded`, or why not."""
        digest = sha256("".join(models).encode()).digest()
        drafts = [
            Draft(Kind.MODEL, model, ModelRow(model, "a lab"), _document(model)) for model in models
        ]
        async with self.opened() as store:
            try:
                await store.ledger.append(
                    drafts,
                    actor="key_a",
                    rests_on={},
                    touches=(),
                    key=IdempotencyKey("key_a", digest, digest),
                )
            except Unavailable as unavailable:
                return unavailable.reason
        return "recorded"

    async def restart(self) -> None:
        """One life of the service: a turn as it starts, with which the witness is asked, and a turn as
        it stops.
        """
        async with self.opened() as store:
            signer = Signer(store, self.file, LedgerKeys((KEY,)), witnesses=[self.asked])
            await signer.start()
            asking = [task for task in asyncio.all_tasks() if task.get_name().startswith("ask ")]
            await asyncio.gather(*asking)
            await signer.close()

    async def verify(self) -> int:
        """Hold everything against everything else; the size of the published checkpoint."""
        async with self.opened() as store, store.reading() as connection:
            published = await checkpoints.latest(connection)
        kept = self.file.read()
        self.seen |= {f"{note.text}\n" for note in (kept, published and published.note) if note}
        ledger = await asyncio.to_thread(read_ledger, self.address.superuser)
        assert violations(ledger, []) == []
        notes = {*ledger.checkpoints, *([str(kept)] if kept else [])}
        assert of_checkpoints(ledger, notes, KEY.private_key.public_key()) == []
        assert of_checkpoints(ledger, [f"{text}\n" for text in self.seen]) == []
        # What is shown was kept before, and what is kept is of what is there.
        sizes = published.size if published else -1, read_checkpoint(kept.text).size if kept else -1
        assert sizes[0] <= sizes[1] <= ledger.size
        there = Counter(entry.subject for entry in ledger.entries)
        assert set(there.values()) == {1}, "something is recorded twice"
        trusted = Trusted((KEY.verifier,), tuple(read_note(note.encode()) for note in notes))
        database = Database(self.address.service, throwaway=True)
        report = await Sweep(database, trusted=trusted).go_on()
        await database.close()
        assert (report.findings, report.verified) == ((), ledger.size)
        return sizes[0]


def _document(model: str) -> Callable[[Any], bytes]:
    return lambda _: canonical_json({"developer": "a lab", "model": model})


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    store, applied = request.param
    return Fault(store, applied)


@pytest.fixture
async def site(
    fresh: Any, fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    monkeypatch.setattr(sign_checkpoints, "INTERVAL_SECONDS", 60.0)
    cut_at_commit(fault, monkeypatch)
    with listening(FailingWitness(fault)) as small:
        assert isinstance(small, FailingWitness)
        yield Site(
            fresh,
            FailingFile(tmp_path / "last", fault),
            small,
            Witness(small.key.verifier, small.url),
        )


def each(*stores: str) -> list[Any]:
    ways = {False: "not-applied", True: "applied"}
    return [
        pytest.param((store, applied), id=f"{store}-{way}")
        for store in stores
        for applied, way in ways.items()
    ]


def models(first: int, many: int) -> list[str]:
    return [f"m{number}@1" for number in range(first, first + many)]


@pytest.mark.parametrize(
    "fault", each("file", "publication", "witness", "cosignature"), indirect=True
)
async def test_a_store_of_checkpoints_that_fails_forks_nothing(site: Site, fault: Fault) -> None:
    """Each restart takes two turns, so it fails twice at each size before and after one."""
    await site.record(models(0, BELOW_A_TILE))
    await site.restart()
    assert await site.verify() == BELOW_A_TILE

    size = BELOW_A_TILE
    fault.is_on = True
    for more in (OVER_ITS_END, 0, 1):
        if more:
            assert await site.record(models(size, more)) == "recorded", "it waited for a checkpoint"
        size += more
        before = fault.times
        await site.restart()
        published = await site.verify()
        hidden = fault.store in ("file", "publication") and not fault.applied
        assert fault.times > before or published == size, "nothing failed"
        assert not hidden or published == BELOW_A_TILE
    assert fault.times >= 2

    fault.is_on = False
    for more in (0, 1):
        if more:
            assert await site.record(models(size, more)) == "recorded"
        size += more
        await site.restart()
        assert await site.verify() == size
        assert site.witness.size == size, "the witness is left behind"


@pytest.mark.parametrize("fault", each("ledger"), indirect=True)
async def test_a_commit_that_fails_is_settled_by_asking_again(site: Site, fault: Fault) -> None:
    """It is in the tree once or not at all, and checkpoints are of what is."""
    await site.record(models(0, BELOW_A_TILE))
    await site.restart()
    size = await site.verify()
    over, another = models(size, OVER_ITS_END), models(size + OVER_ITS_END, 1)

    fault.is_on = True
    assert await site.record(over) == "outcome-unknown"
    there = OVER_ITS_END if fault.applied else 0
    for asked, more in ((over, 0), (another, 1 if fault.applied else 0)):
        await site.record(asked)
        there += more
        await site.restart()
        assert await site.verify() == size + there
    assert fault.times >= 2

    fault.is_on = False
    for asked in (over, another):
        assert await site.record(asked) == "recorded"
    await site.restart()
    assert await site.verify() == size + OVER_ITS_END + 1
