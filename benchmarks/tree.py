"""What the Merkle tree costs an append, as the ledger grows and beside doing without one.

    .venv/bin/python benchmarks/tree.py [--sizes 1000 10000 100000 1000000] [--batches 128]
        [--writers 64] [--seconds 2] [--rounds 5] [--skip-curve] [--skip-writers]

The curve: ledgers of several sizes, in one durable embedded Postgres, are appended to in turns, 64
entries at a time. Printed are the time of such a batch from request to commit, the processor time of
ours in it that goes into the tree (hashing, and reading what a tile lacks), and the time to make
proofs for random entries and random earlier sizes.

The writers: 64 tasks append one document of 2 kB each over and over, in turns to the ledger as it
is, to the same code without a tree, and as the same rows to a chain, in which each entry holds the
hash of the one before and has a transaction of its own. Only the ratios mean anything: other work
moves all three. Beside the rates stands what an entry costs in processor time, ours and the
database's together.
"""

import argparse
import asyncio
import hashlib
import itertools
import random
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil

from app.ledger.entry import Kind, entry_bytes
from app.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash
from app.storage import ledger as ledger_module
from app.storage import tree
from app.storage.database import OWNER, SERVICE, Database, migrate, prepare_roles
from app.storage.embedded import EmbeddedPostgres, PostgresAddress
from app.storage.ledger import Draft, EvidenceRow, Ledger, Moment

LOG: Final = "localhost/aslgate"
BATCH: Final = 64
NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
FILL: Final = r"""
    INSERT INTO ledger_entry
    SELECT i, 'model', 'm' || i, 'key_a', '2026-01-01Z', entry, sha256('\x00'::bytea || entry),
        entry, sha256(entry)
    FROM generate_series($1::bigint, $2::bigint - 1) AS i,
        convert_to(rpad('entry ' || i, 400), 'UTF8') AS entry
"""

_FILLER: Final = secrets.token_hex(2000)
_numbers = itertools.count()


def build(document: bytes, _: Moment) -> bytes:
    """The document, whatever its place."""
    return document


def drafts(count: int, size: int = 2000) -> list[Draft]:
    """So many assessments of *size* bytes."""
    made = []
    for _ in range(count):
        # What a caller brings is no work of the ledger's, so it is made as cheaply as can be.
        id = f"asm_{next(_numbers):032}"
        document = f'{{"id":"{id}","said":"{_FILLER[:size]}"}}'.encode()
        row = EvidenceRow(id, "assessment", "m@1", None, NOON)
        made.append(Draft(Kind.ASSESSMENT, id, row, partial(build, document)))
    return made


async def as_superuser(address: PostgresAddress, *statements: str) -> None:
    """Run statements on that database."""
    connection = await asyncpg.connect(str(address))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def new_database(server: EmbeddedPostgres, name: str) -> PostgresAddress:
    """A migrated database, empty; its address for the service."""
    await as_superuser(server.dsn(), f"CREATE DATABASE {name} OWNER {OWNER}")
    await asyncio.to_thread(migrate, server.dsn(name, OWNER), service_role=SERVICE)
    return server.dsn(name, SERVICE)


@asynccontextmanager
async def opened(address: PostgresAddress, kind: type[Ledger] = Ledger) -> AsyncIterator[Ledger]:
    """A ledger on that database, started."""
    database = Database(address)
    ledger = kind(database, deadline_seconds=30)
    await ledger.initialise(LOG)
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close()
        await database.close()


# --- The curve ---------------------------------------------------------------------------------


async def fill(address: PostgresAddress, size: int) -> None:
    """Entries and their tree, put in past the writer."""
    connection = await asyncpg.connect(str(address))
    frontier = Frontier()
    try:
        await connection.execute(
            "INSERT INTO ledger_head VALUES (true, $1, 0, '2026-01-01Z', '', $2)", LOG, EMPTY_ROOT
        )
        for first in range(0, size, 50_000):
            last = min(first + 50_000, size)
            await connection.execute(FILL, first, last)
            rows = await connection.fetch(
                "SELECT leaf_hash FROM ledger_entry WHERE index >= $1 AND index < $2 "
                "ORDER BY index",
                first,
                last,
            )
            grown, completed = frontier.extended(row[0] for row in rows)
            tiles = await tree.grown_tiles(connection, first, last, completed)
            await connection.executemany("INSERT INTO ledger_tile VALUES ($1, $2, $3, $4)", tiles)
            frontier = grown
        await connection.execute(
            "UPDATE ledger_head SET size = $1, frontier = $2, root = $3",
            size,
            bytes(frontier),
            frontier.root,
        )
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


class Spent:
    """The seconds of this process that went into the tree, of all that is appended meanwhile.

    Its own time only, so that other work on the machine does not count.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._extended, self._grown = Frontier.extended, tree.grown_tiles

    def __enter__(self) -> "Spent":
        def extended(frontier: Frontier, leaves: Any) -> Any:
            begun = time.process_time()
            grown = self._extended(frontier, leaves)
            self.seconds += time.process_time() - begun
            return grown

        async def grown_tiles(*arguments: Any) -> Any:
            begun = time.process_time()
            rows = await self._grown(*arguments)
            self.seconds += time.process_time() - begun
            return rows

        Frontier.extended = extended  # type: ignore[method-assign, assignment]
        tree.grown_tiles = grown_tiles  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        Frontier.extended = self._extended  # type: ignore[method-assign]
        tree.grown_tiles = self._grown


async def proofs(address: PostgresAddress, count: int) -> tuple[float, float]:
    """The median seconds of an inclusion and of a consistency proof, each in its own snapshot."""
    database = Database(address)
    chance = random.Random(1)
    inclusion, consistency = [], []
    for _ in range(count):
        async with database.reading() as connection:
            head = await tree.head(connection)
            assert head is not None
            size = chance.randint(1, head.size)
            begun = time.perf_counter()
            await tree.inclusion_proof(connection, chance.randrange(size), size)
            inclusion.append(time.perf_counter() - begun)
        async with database.reading() as connection:
            begun = time.perf_counter()
            await tree.consistency_proof(connection, chance.randint(1, size), size)
            consistency.append(time.perf_counter() - begun)
    await database.close()
    return statistics.median(inclusion), statistics.median(consistency)


async def curve(server: EmbeddedPostgres, sizes: list[int], batches: int) -> None:
    """Print a line a size."""
    addresses = {}
    for size in sizes:
        addresses[size] = await new_database(server, f"size_{size}")
        begun = time.perf_counter()
        await fill(server.dsn(f"size_{size}"), size)
        print(f"filled {size:>9,} entries in {time.perf_counter() - begun:.1f} s", flush=True)
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    spent: dict[int, list[float]] = {size: [] for size in sizes}
    async with AsyncExitStack() as stack:
        ledgers = {s: await stack.enter_async_context(opened(addresses[s])) for s in sizes}
        for number in range(batches + 8):
            for size, ledger in ledgers.items():
                batch = drafts(BATCH, 400)
                with Spent() as tree_spent:
                    begun = time.perf_counter()
                    await ledger.append(batch, actor="key_a", rests_on={}, touches=())
                    took = time.perf_counter() - begun
                if number >= 8:  # the first ones warm up
                    taken[size].append(took)
                    spent[size].append(tree_spent.seconds)
    print(f"{batches} batches of {BATCH} each, in turns:")
    for size in sizes:
        batch_ms = [took * 1e3 for took in taken[size]]
        in_tree = sum(spent[size]) / batches / BATCH * 1e6
        worst = max(spent[size]) * 1e3
        inclusion, consistency = await proofs(addresses[size], 200)
        print(
            f"{size:>9,}  batch {statistics.median(batch_ms):6.2f} ms "
            f"(p95 {sorted(batch_ms)[int(len(batch_ms) * 0.95)]:6.2f})   tree {in_tree:5.2f} us an "
            f"entry (worst batch {worst:.2f} ms)   inclusion {inclusion * 1e3:.2f} ms   "
            f"consistency {consistency * 1e3:.2f} ms",
            flush=True,
        )


# --- The writers -------------------------------------------------------------------------------


class Size:
    """As much of a frontier as the writer asks of it."""

    root = EMPTY_ROOT

    def __init__(self, size: int) -> None:
        self.size = size


class PagesWithoutTree(ledger_module._Pages):
    """What a transaction writes, the tree left out."""

    async def insert(self, connection: Any) -> Any:
        """As the original, but for the tree."""
        for table, statement in ledger_module._INSERTS.items():
            if rows := self._rows.get(table):
                done = await connection.execute(statement, *zip(*rows, strict=True))
                ledger_module._assert_done(done, f"INSERT 0 {len(rows)}")
        done = await connection.execute(
            "UPDATE ledger_head SET size = $1, last_at = $2 WHERE size = $3",
            self.size,
            self._at,
            self._frontier.size,
        )
        ledger_module._assert_done(done, "UPDATE 1")
        return Size(self.size)


class LedgerWithoutTree(Ledger):
    """The ledger as it was before it had a tree, on a database whose rules let it."""

    def _checked(self, head: Any, *_: datetime) -> Any:
        return Size(head["size"])


async def drop_tree_rules(server: EmbeddedPostgres, name: str) -> None:
    """Let the head advance without its root."""
    await as_superuser(
        server.dsn(name),
        "ALTER TABLE ledger_head DROP CONSTRAINT the_frontier_has_a_hash_for_each_bit_of_the_size",
        """
        CREATE OR REPLACE FUNCTION refuse_shrinking_head() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN
            IF NEW.log <> OLD.log OR NEW.size <= OLD.size OR NEW.last_at < OLD.last_at THEN
                RAISE EXCEPTION 'the head may only advance';
            END IF;
            RETURN NEW;
        END $$
        """,
    )


Worker = Callable[[float], Awaitable[int]]


def appender(ledger: Ledger) -> Worker:
    """A task that appends a document and waits for it, over and over."""

    async def work(until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            await ledger.append(drafts(1), actor="key_a", rests_on={}, touches=())
            done += 1
        return done

    return work


def chainer(pool: asyncpg.Pool) -> Worker:
    """A task that writes the same rows with a chain: each has a transaction of its own, and its
    entry holds the hash of the one before, which the head keeps where the tree has its root.
    """

    async def work(until: float) -> int:
        done = 0
        async with pool.acquire() as connection:
            while time.perf_counter() < until:
                (draft,) = drafts(1)
                document = draft.build(Moment(0, NOON, None))
                async with connection.transaction():
                    size, last, at = await connection.fetchrow(
                        "SELECT size, root, greatest(last_at, clock_timestamp()) FROM ledger_head "
                        "FOR UPDATE"
                    )
                    entry = last.hex().encode() + entry_bytes(
                        log=LOG,
                        index=size,
                        kind=draft.kind,
                        subject=draft.subject,
                        document=document,
                        actor="key_a",
                        at=at,
                    )
                    link = leaf_hash(entry)
                    await connection.execute(
                        "INSERT INTO ledger_entry VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                        size,
                        draft.kind.value,
                        draft.subject,
                        "key_a",
                        at,
                        entry,
                        link,
                        document,
                        hashlib.sha256(document).digest(),
                    )
                    await connection.execute(
                        "INSERT INTO evidence VALUES ($1, $2, 'assessment', 'm@1', NULL, $3)",
                        size,
                        draft.subject,
                        NOON,
                    )
                    await connection.execute(
                        "UPDATE ledger_head SET size = $1, root = $2, last_at = $3",
                        size + 1,
                        link,
                        at,
                    )
                done += 1
        return done

    return work


def processor_seconds() -> float:
    """What this process and the server's have used in all."""
    own = psutil.Process()
    spent = 0.0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system
    return spent


async def rate(count: int, seconds: float, worker: Worker) -> tuple[float, float]:
    """How many a second so many workers get done, and the processor seconds that each one took."""
    used, begun = processor_seconds(), time.perf_counter()
    done = sum(await asyncio.gather(*(worker(begun + seconds) for _ in range(count))))
    return done / (time.perf_counter() - begun), (processor_seconds() - used) / done


async def writers(server: EmbeddedPostgres, count: int, seconds: float, rounds: int) -> None:
    """Print the rates of each round, and the ratios of their medians."""
    with_tree = await new_database(server, "with_tree")
    without = await new_database(server, "without_tree")
    await drop_tree_rules(server, "without_tree")
    chained = await new_database(server, "chain")
    await drop_tree_rules(server, "chain")
    async with opened(chained):
        pass
    pool = await asyncpg.create_pool(str(chained), min_size=count, max_size=count)
    rates: dict[str, list[float]] = {"tree": [], "no tree": [], "chain": []}
    costs: dict[str, list[float]] = {name: [] for name in rates}
    async with opened(with_tree) as ledger, opened(without, LedgerWithoutTree) as bare:
        workers = {"tree": appender(ledger), "no tree": appender(bare), "chain": chainer(pool)}
        pages = ledger_module._Pages
        for number in range(rounds + 1):
            # Another first one each time: what comes first finds the disk as the last one left it.
            order = sorted(workers, key=lambda name: hash_of(name, number))
            for name in order:
                ledger_module._Pages = (  # type: ignore[misc]
                    PagesWithoutTree if name == "no tree" else pages
                )
                one, cost = await rate(count, seconds, workers[name])
                if number:  # the first round only warms up
                    rates[name].append(one)
                    costs[name].append(cost)
            if number:
                line = "   ".join(f"{name} {found[-1]:7.0f}/s" for name, found in rates.items())
                print(f"round {number}: {line}", flush=True)
        ledger_module._Pages = pages  # type: ignore[misc]
    await pool.close()
    medians = {name: statistics.median(found) for name, found in rates.items()}
    each = "   ".join(f"{n} {statistics.median(c) * 1e6:.0f} us" for n, c in costs.items())
    print(f"processor time an entry (medians): {each}")
    print(
        f"{count} writers: with the tree {medians['tree'] / medians['no tree']:.2f} x without, "
        f"{medians['tree'] / medians['chain']:.1f} x the chain (medians)"
    )


def hash_of(name: str, number: int) -> bytes:
    """An order that is another in each round, and the same in each run."""
    return hashlib.sha256(f"{name} {number}".encode()).digest()


async def main(given: argparse.Namespace) -> None:
    """Run what was not skipped."""
    folder = Path(tempfile.mkdtemp(prefix="asl-bench-"))
    folder.chmod(0o755)
    try:
        with EmbeddedPostgres(folder / "server") as server:
            await asyncio.to_thread(prepare_roles, server.dsn())
            if not given.skip_curve:
                await curve(server, given.sizes, given.batches)
            if not given.skip_writers:
                await writers(server, given.writers, given.seconds, given.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**n for n in (3, 4, 5, 6)])
    parser.add_argument("--batches", type=int, default=128)
    parser.add_argument("--writers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-curve", action="store_true")
    parser.add_argument("--skip-writers", action="store_true")
    asyncio.run(main(parser.parse_args()))
