"""How fast the whole ledger is verified, beside hashing the same bytes once.

    .venv/bin/python benchmarks/verify.py [--entries 200000] [--bytes 3000] [--rounds 3]
        [--processes 2] [--data-dir DIR]

A ledger of so many entries is put into an embedded Postgres past the writer, of the mix that a busy
service has: nine in ten are determinations of at most so many bytes, made of a recorded one, and the
others are gates and assessments. Then it is verified as `aslgate ledger verify` does it, the start of
its processes included, in turns with the reference: SHA-256 over entries and documents, in one
thread, out of memory, by processor time. Only the ratio means anything elsewhere. With --data-dir the
ledger stays there, and is filled only once.
"""

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import statistics
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
import psutil
from pydantic import TypeAdapter

from app.assessment.assessment import Assessment
from app.canonical import canonical_json, digest
from app.decoding import decode_json
from app.ledger.entry import Kind, entry_bytes
from app.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash
from app.operations.audit import Sweep
from app.parsing import parse
from app.storage import tree
from app.storage.database import DATABASE, OWNER, SERVICE, Database, migrate, prepare_roles
from app.storage.embedded import EmbeddedPostgres, PostgresAddress
from app.vocabulary import JSON, write_instant

ROOT: Final = Path(__file__).parents[1]
RECORDED: Final = ROOT / "tests" / "records" / "semantics-3-opus-4"
LOG: Final = "localhost/aslgate"
ACTOR: Final = "key_0123456789abcdef"
BEGUN: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
BATCH: Final = 64
"""How many entries are recorded at one instant."""
AT_ONCE: Final = 8192

Rows = dict[str, list[tuple[Any, ...]]]


# --- The ledger --------------------------------------------------------------------------------


class Written:
    """Rows of one entry after the other, as the service would have written them."""

    def __init__(self, size: int) -> None:
        self._chance = random.Random(1)
        said = orjson.loads((RECORDED / "determination.json").read_bytes())
        lists = (said[name] for name in ("thresholds", "obligations", "standards", "reasons"))
        for longest in (*lists, said["provenance"]["evidence"]):
            while longest and len(orjson.dumps(said)) > size:
                longest.pop()
        self._determination = said
        evidence: Any = decode_json((RECORDED / "evidence.json").read_bytes())
        assessment = parse(TypeAdapter(Assessment), evidence["assessments"][0], JSON)
        self._assessment = assessment.model_dump(mode="json")
        self._policy = (RECORDED / "policy.json").read_bytes()

    def rows(self, first: int, end: int) -> Rows:
        """Everything that is written for those indexes, but for the tree."""
        rows: Rows = {"ledger_entry": [], "idempotency": []}
        for index in range(first, end):
            at = BEGUN + timedelta(milliseconds=10 * (index // BATCH), microseconds=index // BATCH)
            kind, subject, document, table, row = self._one(index, at)
            entry = entry_bytes(
                log=LOG,
                index=index,
                kind=kind,
                subject=subject,
                document=document,
                actor=ACTOR,
                at=at,
            )
            hashed = hashlib.sha256(document).digest()
            rows["ledger_entry"].append(
                (
                    index,
                    kind.value,
                    subject,
                    ACTOR,
                    at,
                    entry,
                    leaf_hash(entry),
                    document,
                    hashed,
                )
            )
            rows.setdefault(table, []).append((index, *row))
            if index % 8 == 0:
                named = hashlib.sha256(str(index).encode()).digest()
                rows["idempotency"].append((ACTOR, named, named, index, 1))
        return rows

    def _one(self, index: int, at: datetime) -> tuple[Kind, str, bytes, str, tuple[Any, ...]]:
        """Kind, subject and document of an entry, and the row by which it is found."""
        if index == 0:
            said = orjson.loads(self._policy)
            name = digest(self._policy)
            effective = datetime.fromisoformat(said["effective"])
            filed = (said["policy"], said["version"], name, effective)
            return Kind.POLICY_VERSION, name, self._policy, "policy_version", filed
        model, word = f"model-{index % 997}@1", f"{self._chance.getrandbits(128):032x}"
        until = at + timedelta(days=30)
        if index % 20 == 7:
            id = f"asm_{word}"
            document = canonical_json({**self._assessment, "id": id, "model": model})
            when = datetime.fromisoformat(self._assessment["conducted_at"])
            return Kind.ASSESSMENT, id, document, "evidence", (id, "assessment", model, None, when)
        if index % 20 == 13:
            id = f"gat_{word}"
            said = {
                "action": "deploy",
                "actor": ACTOR,
                "allowed": False,
                "at": write_instant(at),
                "decision": "deny",
                "determinations": [f"det_{word}"],
                "id": id,
                "known_at": index,
                "model": model,
                "valid_until": write_instant(until),
            }
            of_gate = (id, model, "deploy", "deny", at, until)
            return Kind.GATE, id, canonical_json(said), "gate", of_gate
        id = f"det_{word}"
        said = self._determination
        said |= {"id": id, "model": model, "valid_until": write_instant(until)}
        said["provenance"] |= {"at": write_instant(at), "known_at": index, "actor": ACTOR}
        policy = said["provenance"]["policy"]
        row = (
            id,
            model,
            said["action"],
            policy["name"],
            policy["version"],
            policy["digest"],
            said["decision"],
            said["level"],
            at,
            until,
            False,
        )
        document = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
        return Kind.DETERMINATION, id, document, "determination", row


async def fill(address: PostgresAddress, entries: int, size: int) -> None:
    """Put the entries in, the rows by which they are found, and the tree over them."""
    written = Written(size)
    connection = await asyncpg.connect(str(address))
    frontier = Frontier()
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            "INSERT INTO ledger_head VALUES (true, $1, 0, $2, '', $3)", LOG, BEGUN, EMPTY_ROOT
        )
        last_at = BEGUN
        for first in range(0, entries, AT_ONCE):
            end = min(first + AT_ONCE, entries)
            rows = written.rows(first, end)
            frontier, completed = frontier.extended(row[6] for row in rows["ledger_entry"])
            rows["ledger_tile"] = await tree.grown_tiles(connection, first, end, completed)
            for table, those in rows.items():
                await connection.copy_records_to_table(table, records=those)
            last_at = rows["ledger_entry"][-1][4]
        await connection.execute(
            "UPDATE ledger_head SET size = $1, last_at = $2, frontier = $3, root = $4",
            entries,
            last_at,
            bytes(frontier),
            frontier.root,
        )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def filled(server: EmbeddedPostgres, entries: int, size: int) -> PostgresAddress:
    """The service's address of such a ledger; filled where it is not there yet."""
    prepare_roles(server.dsn())
    migrate(server.dsn(DATABASE, OWNER), service_role=SERVICE)
    there = asyncio.run(_size(server.dsn(DATABASE)))
    if there == 0:
        begun = time.perf_counter()
        asyncio.run(fill(server.dsn(DATABASE), entries, size))
        print(f"filled {entries:,} entries in {time.perf_counter() - begun:.0f} s", flush=True)
    elif there != entries:
        raise SystemExit(f"there is a ledger of {there} entries already")
    return server.dsn(DATABASE, SERVICE)


async def _size(address: PostgresAddress) -> int:
    connection = await asyncpg.connect(str(address))
    try:
        return int(await connection.fetchval("SELECT count(*) FROM ledger_entry"))
    finally:
        await connection.close()


# --- The two beside each other -----------------------------------------------------------------


async def hashed(address: PostgresAddress, most: int) -> tuple[float, int, int]:
    """The processor seconds of hashing the first *most* entries and documents, how many there are,
    and of how many bytes: read in pages, and only the hashing counts.
    """
    connection = await asyncpg.connect(str(address))
    seconds, entries, size = 0.0, 0, 0
    asked = "SELECT entry, document FROM ledger_entry WHERE index >= $1 AND index < $2"
    try:
        for first in range(0, most, AT_ONCE):
            rows = await connection.fetch(asked, first, min(most, first + AT_ONCE))
            begun = time.process_time()
            for entry, document in rows:
                hashlib.sha256(entry).digest()
                hashlib.sha256(document).digest()
            seconds += time.process_time() - begun
            entries += len(rows)
            size += sum(len(entry) + len(document) for entry, document in rows)
    finally:
        await connection.close()
    return seconds, entries, size


def processor_seconds() -> float:
    """What this process and the server's have used in all, with those that have ended."""
    own = psutil.Process()
    spent = 0.0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            spent += sum(process.cpu_times()[:4])
    return spent


async def swept(address: PostgresAddress, processes: int) -> tuple[float, int]:
    """The seconds of one verification, and how many entries it found sound."""
    database = Database(address, audits=True)
    begun = time.perf_counter()
    try:
        report = await Sweep(database, processes=processes).go_on()
    finally:
        await database.close()
    if not report.is_clean:
        raise SystemExit(f"the ledger is not sound: {report.first}")
    return time.perf_counter() - begun, report.verified


def main() -> None:
    """Print a line a round, and the best and the median of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--bytes", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--data-dir", type=Path)
    given = parser.parse_args()
    folder = given.data_dir or Path(tempfile.mkdtemp(prefix="aslgate-verify-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    try:
        with EmbeddedPostgres(folder) as server:
            address = filled(server, given.entries, given.bytes)
            rates, ratios = [], []
            for _ in range(given.rounds):
                seconds, entries, size = asyncio.run(hashed(address, min(given.entries, 40_000)))
                reference = entries / seconds
                used = processor_seconds()
                took, verified = asyncio.run(swept(address, given.processes))
                each = (processor_seconds() - used) / verified * 1e6
                rates.append(verified / took)
                ratios.append(verified / took / reference)
                print(
                    f"{verified:,} entries of {size / entries:,.0f} bytes: {rates[-1]:,.0f} a second "
                    f"by {given.processes} processes, {each:.1f} us of a core for each, the "
                    f"database's included; SHA-256 alone, in one thread: {reference:,.0f}; "
                    f"ratio {ratios[-1]:.2f}",
                    flush=True,
                )
            print(
                f"best {max(rates):,.0f} a second, ratio {max(ratios):.2f}; "
                f"median {statistics.median(rates):,.0f}, ratio {statistics.median(ratios):.2f}"
            )
    finally:
        if given.data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
