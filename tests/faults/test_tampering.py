"""Somebody who may do anything to the database changes what is recorded, and an audit names it.

The attacker is the superuser, switches the triggers off, and knows how everything is made: what
hangs together is made to fit again, as far as each test says. What they have not is the key that
signs checkpoints, and the checkpoint that somebody kept.
"""

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from app.canonical import canonical_json, digest
from app.cli import app as commands
from app.errors import Unavailable
from app.ledger.checkpoint import Checkpoint, KeyStatement
from app.ledger.entry import Kind, entry_bytes
from app.ledger.merkle import Frontier, leaf_hash
from app.ledger.note import Note, SignatureType, SigningKey
from app.ledger.tiles import completed_tiles
from app.ledger.verification import StoredEntry
from app.operations import audit, looking
from app.operations.audit import Report, Sweep, Trusted
from app.storage.database import OWNER, SERVICE, Database, migrate, prepare_roles
from app.storage.embedded import EmbeddedPostgres
from tests.http.conftest import BOOTSTRAP_KEY, running
from tests.http.small import decide, found, in_force, policy, post, register

TEMPLATE = "aslgate_untouched"
LOG = "localhost/aslgate"
_numbers = itertools.count()

Entries = list[StoredEntry]


def new_key() -> SigningKey:
    return SigningKey(LOG, SignatureType.LOG, Ed25519PrivateKey.generate())


@dataclass(frozen=True)
class Untouched:
    """A ledger of some four hundred entries, and where what is attacked stands in it."""

    server: EmbeddedPostgres
    policy: int
    assessment: int
    determination: int
    gate: int
    size: int
    kept: Note
    """A checkpoint of 300 entries, which the database does not have."""
    key: SigningKey


async def _record(server: EmbeddedPostgres) -> dict[str, int]:
    """The history: a model is found to be dangerous, which was withdrawn, and asked about often."""
    async with (
        running(server, f"{TEMPLATE}_empty", name=TEMPLATE) as service,
        service.client(BOOTSTRAP_KEY) as client,
    ):
        await in_force(service, client, policy())
        version = (await client.get("/v1/policies/small/versions/1")).json()
        await register(client, "m@1")
        reached = await post(client, "assessments", found("m@1", "reached"))
        first = await decide(client, "m@1")
        gate = await post(client, "gate", {"model": "m@1", "action": "deploy"})
        await post(client, f"assessments/{reached['id']}/withdrawal", {"reason": "r"})
        await post(client, "assessments", found("m@1"))
        question = {"model": "m@1", "action": "deploy", "policy": "small"}
        for _ in range(8):
            await post(client, "determinations/batch", {"determinations": [question] * 50})
        return {
            "policy": version["ledger"]["index"],
            "assessment": reached["ledger"]["index"],
            "determination": first["ledger"]["index"],
            "gate": gate["ledger"]["index"],
            "size": await service.size(),
        }


@pytest.fixture(scope="module")
def untouched(postgres: EmbeddedPostgres) -> Iterator[Untouched]:
    prepare_roles(postgres.dsn())
    run(postgres, "postgres", f"CREATE DATABASE {TEMPLATE}_empty OWNER {OWNER}")
    migrate(postgres.dsn(f"{TEMPLATE}_empty", OWNER), service_role=SERVICE)
    places = asyncio.run(_record(postgres))
    key = new_key()
    leaves = run(postgres, TEMPLATE, "SELECT leaf_hash FROM ledger_entry ORDER BY index LIMIT 300")
    tree, _ = Frontier().extended(row["leaf_hash"] for row in leaves)
    kept = Checkpoint(LOG, 300, tree.root).signed([key])
    yield Untouched(postgres, **places, kept=kept, key=key)
    # Another module has a ledger of these names, too.
    for name in (TEMPLATE, f"{TEMPLATE}_empty"):
        run(postgres, "postgres", f"DROP DATABASE {name} WITH (FORCE)")


def run(server: EmbeddedPostgres, database: str, *statements: str) -> Any:
    async def go() -> Any:
        connection = await asyncpg.connect(str(server.dsn(database)))
        try:
            return [await connection.fetch(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(go())


@dataclass
class Attacked:
    """A copy of the ledger that a superuser has in hand."""

    untouched: Untouched
    name: str

    def sql(self, *statements: str) -> Any:
        """Do it with the triggers and the foreign keys off."""
        return run(
            self.untouched.server, self.name, "SET session_replication_role = replica", *statements
        )

    def rewrite(self, change: Callable[[Entries], Entries], *, tree: bool = False) -> None:
        """Take all entries out, and put in what *change* makes of them; with *tree*, the tiles and
        the head fit them again.
        """
        asyncio.run(self._rewrite(change, tree))

    async def _rewrite(self, change: Callable[[Entries], Entries], tree: bool) -> None:
        connection = await asyncpg.connect(str(self.untouched.server.dsn(self.name)))
        columns = ", ".join(StoredEntry.__slots__)
        rows = await connection.fetch(f"SELECT {columns} FROM ledger_entry ORDER BY index")
        entries = change([StoredEntry(*row) for row in rows])
        async with connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute("DELETE FROM ledger_entry")
            await connection.copy_records_to_table(
                "ledger_entry",
                records=[tuple(getattr(e, c) for c in StoredEntry.__slots__) for e in entries],
                columns=StoredEntry.__slots__,
            )
            if tree:
                await _grow(connection, entries)
        await connection.close()

    def audit(
        self, *, replays: bool = False, kept: bool = False, key: bool = False, processes: int = 1
    ) -> Report:
        """What an auditor finds; with the checkpoint that was kept, or with the key only."""
        trusted = Trusted(
            (self.untouched.key.verifier,) if kept or key else (),
            (self.untouched.kept,) if kept else (),
        )

        async def go() -> Report:
            address = self.untouched.server.dsn(self.name, SERVICE)
            database = Database(address, throwaway=True, audits=True)
            try:
                sweep = Sweep(database, replays=replays, processes=processes, trusted=trusted)
                return await sweep.go_on()
            finally:
                await database.close()

        return asyncio.run(go())

    def first(self, **how: bool) -> tuple[int | None, str]:
        """The first finding."""
        first = self.audit(**how).first
        assert first is not None, "nothing was found"
        return first.index, first.what


async def _grow(connection: Any, entries: Entries) -> None:
    """The tree over those entries, as the service would have written it."""
    tree, nodes = Frontier().extended(entry.leaf_hash for entry in entries)
    await connection.execute("DELETE FROM ledger_tile")
    for tile in completed_tiles(0, len(entries)):
        hashes = b"".join(nodes[node] for node in tile.nodes)
        await connection.execute(
            "INSERT INTO ledger_tile VALUES ($1, $2, $3, $4)",
            tile.level,
            tile.number,
            hashes,
            nodes[tile.root],
        )
    await connection.execute(
        "UPDATE ledger_head SET size = $1, frontier = $2, root = $3, last_at = $4",
        tree.size,
        bytes(tree),
        tree.root,
        entries[-1].at,
    )


@pytest.fixture
def ledger(untouched: Untouched) -> Iterator[Attacked]:
    name = f"tampered_{next(_numbers)}"
    server = untouched.server
    create = f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER {OWNER} STRATEGY file_copy"
    run(server, "postgres", create)
    tables = run(server, name, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    checks = run(
        server,
        name,
        "SELECT conrelid::regclass::text AS t, conname FROM pg_constraint "
        "WHERE contype = 'c' AND connamespace = 'public'::regnamespace",
    )
    run(
        server,
        name,
        *(f"ALTER TABLE {row['tablename']} DISABLE TRIGGER ALL" for row in tables),
        *(f"ALTER TABLE {row['t']} DROP CONSTRAINT {row['conname']}" for row in checks),
    )
    yield Attacked(untouched, name)
    run(server, "postgres", f"DROP DATABASE {name} WITH (FORCE)")


def sealed(entry: StoredEntry) -> StoredEntry:
    """The row with everything that is made of its document and its columns made anew."""
    made = entry_bytes(
        log=LOG,
        index=entry.index,
        kind=Kind(entry.kind),
        subject=entry.subject,
        document=entry.document,
        actor=entry.actor,
        at=entry.at,
    )
    sha256 = bytes.fromhex(digest(entry.document).removeprefix("sha256:"))
    return replace(entry, entry=made, leaf_hash=leaf_hash(made), document_sha256=sha256)


def edited(index: int, old: bytes, new: bytes) -> Callable[[Entries], Entries]:
    """Change the document at *index*, and make its entry fit."""

    def change(entries: Entries) -> Entries:
        one = entries[index]
        assert old in one.document, one.document
        entries[index] = sealed(replace(one, document=one.document.replace(old, new, 1)))
        return entries

    return change


def renumbered(entries: Entries) -> Entries:
    return [sealed(replace(one, index=i)) for i, one in enumerate(entries)]


# --- Nothing was done --------------------------------------------------------------------------


def test_an_untouched_ledger_is_clean(ledger: Attacked) -> None:
    report = ledger.audit(replays=True, kept=True)

    assert report.findings == ()
    assert (report.verified, report.size) == (ledger.untouched.size,) * 2
    assert report.replayed > 400
    assert (report.outside, report.unverified) == (300, None)


def test_several_processes_find_what_one_finds(
    ledger: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In ranges of a hundred, which are no whole tiles, and with a gap over the end of one."""
    monkeypatch.setattr(looking, "RANGE", 100)
    monkeypatch.setattr(audit, "WORTH_ENTRIES", 100)
    assert ledger.audit(processes=3) == ledger.audit()

    ledger.sql(
        "UPDATE ledger_tile SET hashes = 'x' || substr(hashes, 2)",
        "UPDATE ledger_entry SET actor = 'key_x' WHERE index = 150",
        "UPDATE determination SET level = 'another' WHERE index = 220",
        "UPDATE ledger_entry SET at = at - interval '1 d' WHERE index = 300",
        "DELETE FROM ledger_entry WHERE index BETWEEN 395 AND 405",
    )
    alone, together = ledger.audit(), ledger.audit(processes=3)

    assert together == alone
    assert {0, 150, 220, 300, 395} <= {one.index for one in alone.findings}


def test_a_process_that_ends_has_found_nothing_sound(
    ledger: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "WORTH_ENTRIES", 100)
    monkeypatch.setattr(looking, "_PROGRAM", "")
    with pytest.raises(Unavailable, match="has ended before its time"):
        ledger.audit(processes=2)


def test_what_an_audit_cannot_see_alone_it_says(ledger: Attacked) -> None:
    assert ledger.audit().outside == 0


# --- One byte ----------------------------------------------------------------------------------

DENIED = b'"decision":"deny"'
ALLOWED = b'"decision":"allow"'


@pytest.mark.parametrize(
    ("what", "old", "new"),
    [
        ("determination", DENIED, ALLOWED),
        ("assessment", b'"outcome":"reached"', b'"outcome":"ruled-out"'),
        ("gate", b'"allowed":false', b'"allowed":true '),
        ("policy", b'"title":"t"', b'"title":"u"'),
    ],
)
@pytest.mark.parametrize("how", ["document", "digest", "entry", "tree"])
def test_a_changed_document_is_named(
    ledger: Attacked, what: str, old: bytes, new: bytes, how: str
) -> None:
    """Changed alone, with its digest, with its entry and leaf, and with the tree over all."""
    index = getattr(ledger.untouched, what)

    def change(entries: Entries) -> Entries:
        whole = edited(index, old, new)(list(entries))[index]
        one = entries[index]
        if how == "document":
            entries[index] = replace(one, document=whole.document)
        elif how == "digest":
            entries[index] = replace(
                one, document=whole.document, document_sha256=whole.document_sha256
            )
        else:
            entries[index] = whole
        return entries

    ledger.rewrite(change, tree=how == "tree")
    if how != "tree":
        at, why = ledger.first()
        assert at == index
        assert ("changed after it was recorded" if how == "entry" else "document") in why or (
            what == "policy" and "policy version is called" in why
        )
        return
    if what == "policy":
        assert ledger.first() == (index, ledger.first()[1])
    else:
        assert [one for one in ledger.audit().findings if "row in" not in one.what] == []
    at, why = ledger.first(replays=True)
    assert at is not None
    assert index <= at <= ledger.untouched.gate
    assert any("signed over other entries" in one.what for one in ledger.audit(kept=True).findings)


def test_a_policy_version_under_a_new_name_is_missed_where_it_was_put_in_force(
    ledger: Attacked,
) -> None:
    """Its text, its name and all that is made of them fit again; what rests on it does not."""

    index = ledger.untouched.policy

    def change(entries: Entries) -> Entries:
        one = edited(index, b'"title":"t"', b'"title":"u"')(entries)[index]
        entries[index] = sealed(replace(one, subject=digest(one.document)))
        return entries

    ledger.rewrite(change, tree=True)
    ledger.sql(
        "UPDATE policy_version SET digest = "
        f"(SELECT subject FROM ledger_entry WHERE index = {index})"
    )
    assert ledger.audit().is_clean
    at, why = ledger.first(replays=True)
    assert at == ledger.untouched.determination
    assert "is no version recorded before" in why
    assert not ledger.audit(kept=True).is_clean


# --- Removed, moved, put between ---------------------------------------------------------------


def test_the_newest_ten_are_missed(ledger: Attacked) -> None:
    """The head and the tree fit what is left, and so does all that would point beyond it."""
    size = ledger.untouched.size - 10
    ledger.rewrite(lambda entries: entries[:-10], tree=True)
    at, why = ledger.first()
    assert at == size
    assert f"the ledger ends at {size}" in why

    ledger.sql(
        *(f"DELETE FROM {t} WHERE index >= {size}" for t in ("determination", "gate")),
        f"UPDATE stream SET version = least(version, {size})",
    )
    assert ledger.audit(replays=True).is_clean, "nobody could see it without a checkpoint"
    assert ledger.audit(replays=True).outside == 0


def test_what_a_kept_checkpoint_covers_cannot_be_removed(ledger: Attacked) -> None:
    ledger.rewrite(lambda entries: entries[:290], tree=True)
    ledger.sql("DELETE FROM determination WHERE index >= 290")

    assert ledger.audit().is_clean
    at, why = ledger.first(kept=True)
    assert at == 290
    assert "the ledger had 300 entries when it was signed, and now has 290" in why


def test_a_backup_that_was_put_back_and_written_on_is_found(ledger: Attacked) -> None:
    """Everything holds together; it is only another history than the one that was signed."""

    def change(entries: Entries) -> Entries:
        return [*entries[:290], *(sealed(replace(one, actor="key_x")) for one in entries[290:])]

    ledger.rewrite(change, tree=True)
    assert ledger.audit().is_clean
    at, why = ledger.first(kept=True)
    assert "size 300 was signed over other entries: one of 0 to 299 is not what it was" in why
    sign(ledger, ledger.untouched.key, 290)
    at, why = ledger.first(kept=True)
    assert at == 290
    assert "one of 290 to 299 is not what it was" in why


def test_an_adjusted_head_alone_is_found(ledger: Attacked) -> None:
    ledger.sql("UPDATE ledger_head SET size = size - 10")
    at, why = ledger.first()
    assert at == ledger.untouched.size - 10
    assert "the head counts" in why


def test_one_out_of_the_middle_is_missed(ledger: Attacked) -> None:
    ledger.sql("DELETE FROM ledger_entry WHERE index = 100")
    assert ledger.first() == (100, "it is missing: the next one is 101")
    report = ledger.audit()
    assert (report.verified, report.unverified) == (100, 100)


def test_one_out_of_the_middle_is_missed_though_the_others_closed_up(ledger: Attacked) -> None:
    def change(entries: Entries) -> Entries:
        del entries[100]
        return renumbered(entries)

    ledger.rewrite(change)
    assert ledger.first()[0] == 100
    ledger.rewrite(renumbered, tree=True)
    assert ledger.first(replays=True)[0] == 100
    assert ledger.first(kept=True)[0] is not None


def test_two_that_changed_places_are_named(ledger: Attacked) -> None:
    def change(entries: Entries) -> Entries:
        a, b = entries[50], entries[70]
        entries[50], entries[70] = replace(b, index=50), replace(a, index=70)
        return entries

    ledger.rewrite(change)
    at, why = ledger.first()
    assert at == 50
    assert "the row has the index `50`, and the entry that was hashed `70`" in why


def test_two_that_changed_places_and_were_hashed_anew_are_named(ledger: Attacked) -> None:
    def change(entries: Entries) -> Entries:
        entries[50], entries[70] = entries[70], entries[50]
        return renumbered(entries)

    ledger.rewrite(change)
    assert ledger.first()[0] == 50


@pytest.mark.parametrize("tree", [False, True])
def test_a_backdated_one_is_named(ledger: Attacked, tree: bool) -> None:
    """Put at the end with an earlier time; between others, all after it move."""
    size = ledger.untouched.size

    def change(entries: Entries) -> Entries:
        one = entries[-1]
        document = canonical_json(orjson.loads(one.document) | {"id": "det_new"})
        early = replace(one, index=size, subject="det_new", document=document)
        return [*entries, sealed(replace(early, at=one.at - timedelta(days=1)))]

    ledger.rewrite(change, tree=tree)
    if not tree:
        ledger.sql(f"UPDATE ledger_head SET size = {size + 1}")
    whole = ledger.audit()
    assert any(one.index == size and "backdated" in one.what for one in whole.findings)


def test_one_put_between_others_is_named(ledger: Attacked) -> None:
    def change(entries: Entries) -> Entries:
        one = entries[100]
        document = canonical_json(orjson.loads(one.document) | {"id": "det_new"})
        entries.insert(100, replace(one, subject="det_new", document=document))
        return renumbered(entries)

    ledger.rewrite(change)
    assert ledger.first()[0] == 100


# --- Around the ledger -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM withdrawal", "`withdrawal` is missing"),
        ("UPDATE evidence SET model = 'n@1'", "`evidence` says otherwise"),
        ("UPDATE evidence SET speaks_for = speaks_for - interval '1 day'", "`evidence` says"),
        ("UPDATE model_version SET weights = 'w'", "`model_version` says otherwise"),
        ("UPDATE policy_activation SET in_force_from = now()", "`policy_activation` says"),
        ("UPDATE policy_version SET effective = now()", "`policy_version` says"),
        ("UPDATE determination SET decision = 'allow' WHERE index < 9", "`determination` says"),
        ("UPDATE gate SET valid_until = now()", "`gate` says otherwise"),
        ("DELETE FROM gate", "`gate` is missing"),
        ("INSERT INTO withdrawal VALUES (0, 'w', 'e', 'm@1')", "`withdrawal` has a row for it"),
        ("UPDATE ledger_entry SET actor = 'key_x' WHERE index = 3", "has the actor `key_x`"),
        ("UPDATE ledger_tile SET hashes = 'x' || substr(hashes, 2)", "has another hash for it"),
        ("UPDATE ledger_tile SET root = 'x' || substr(root, 2)", "another root"),
        ("DELETE FROM ledger_tile", "of entries 0 to 255, is missing"),
        ("UPDATE ledger_head SET root = sha256('')", "the head's root is not that of"),
        ("UPDATE ledger_head SET frontier = 'x' || substr(frontier, 2)", "frontier has another"),
        ("UPDATE ledger_head SET frontier = 'x'", "the head's frontier is none"),
        ("UPDATE ledger_entry SET entry = '{}' WHERE index = 3", "no envelope of ours"),
        ("UPDATE ledger_entry SET kind = 'x' WHERE index = 3", "there is no kind `x`"),
        ("INSERT INTO ledger_key VALUES (0, 'x', true, 0, 'x')", "log's keys is no statement"),
        ("UPDATE ledger_head SET log = 'another'", "has the log `another`"),
        (
            "INSERT INTO idempotency VALUES ('key_x', sha256('k'), sha256('r'), 3, 2)",
            "the idempotency key of a request by `key_x` names it, and",
        ),
        ("UPDATE ledger_head SET last_at = last_at + interval '1 s'", "the head's time is not"),
    ],
)
def test_what_is_found_by_cannot_be_bent(ledger: Attacked, statement: str, what: str) -> None:
    """The tables by which records are found, the tree and the head: a withdrawal without its row
    would not count, and what counts for another model would allow it.
    """
    ledger.sql(statement)
    found = [one.what for one in ledger.audit().findings]
    assert any(what in one for one in found), found


# --- What is not to be read --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statements", "index", "what"),
    [
        (["UPDATE ledger_entry SET at = 'infinity' WHERE index = 100"], 100, "cannot be read"),
        (["UPDATE ledger_entry SET at = '200000-01-01' WHERE index = 100"], 100, "cannot be read"),
        (["UPDATE ledger_entry SET at = '0044-01-01 BC' WHERE index = 409"], 409, "cannot be read"),
        (
            ["UPDATE determination SET valid_until = '200000-01-01' WHERE index = 100"],
            100,
            "its row in `determination` cannot be read",
        ),
        (["UPDATE ledger_head SET last_at = 'infinity'"], None, "the head's time is not"),
        (["UPDATE ledger_head SET last_at = '200000-01-01'"], None, "the head's time is not"),
        (
            [
                "ALTER TABLE ledger_entry ALTER document DROP NOT NULL",
                "UPDATE ledger_entry SET document = NULL WHERE index = 100",
            ],
            100,
            "its row cannot be read",
        ),
        (
            [
                "ALTER TABLE evidence DROP CONSTRAINT evidence_pkey",
                "ALTER TABLE evidence DROP CONSTRAINT evidence_id_key CASCADE",
                (
                    "INSERT INTO evidence "
                    "SELECT index, id, kind, 'a@1', policy, speaks_for FROM evidence"
                ),
            ],
            None,
            "`withdrawal` says otherwise",
        ),
        (
            [
                (
                    "INSERT INTO ledger_entry SELECT 9223372036854775807, kind, 'det_x', actor, at, "
                    "entry, leaf_hash, document, document_sha256 FROM ledger_entry WHERE index = 100"
                ),
            ],
            None,
            "there are entries up to 9223372036854775807",
        ),
        (
            [
                (
                    "INSERT INTO idempotency "
                    "VALUES ('key_x', sha256('k'), sha256('r'), 9223372036854775807, 2000000000)"
                ),
            ],
            None,
            "a request's idempotency key names",
        ),
        (
            [
                (
                    "INSERT INTO ledger_tile SELECT 60, 9223372036854775807, hashes, root "
                    "FROM ledger_tile LIMIT 1"
                ),
            ],
            None,
            "a tile of the tree covers",
        ),
        (["UPDATE ledger_head SET size = 1::bigint << 60"], None, "the head counts"),
        (
            [
                (
                    "INSERT INTO ledger_entry SELECT 1::bigint << 60, kind, 'far', actor, at, entry, "
                    "leaf_hash, document, document_sha256 FROM ledger_entry WHERE index = 1"
                ),
                "UPDATE ledger_head SET size = (1::bigint << 60) + 1",
            ],
            None,
            "so many are missing",
        ),
        (["DELETE FROM ledger_head"], None, "the ledger has no head"),
        (
            [
                "ALTER TABLE ledger_head DROP CONSTRAINT ledger_head_pkey",
                (
                    "INSERT INTO ledger_head "
                    "SELECT false, log, size, last_at, frontier, root FROM ledger_head"
                ),
            ],
            None,
            "the ledger has 2 heads",
        ),
        (
            [
                (
                    "INSERT INTO evidence SELECT -1, 'asm_forged', kind, model, policy, speaks_for "
                    "FROM evidence LIMIT 1"
                ),
            ],
            None,
            "something stands at index -1, before the first entry",
        ),
    ],
)
def test_what_no_program_of_ours_writes_is_named_and_ends_nothing(
    ledger: Attacked, statements: list[str], index: int | None, what: str
) -> None:
    """Values that no entry can have, and ends that are none: the sweep comes to its end over them,
    and the rest is looked at.
    """
    ledger.sql(*statements)
    found = [one for one in ledger.audit().findings if what in one.what]
    assert found, ledger.audit().findings
    assert index is None or index in {one.index for one in found}


def test_a_head_that_goes_is_missed_by_who_kept_a_checkpoint_and_by_who_goes_on(
    ledger: Attacked,
) -> None:
    """Also where all the entries went with it."""

    async def removed_amid(sweep: Sweep) -> Report:
        assert (await sweep.go_on()).is_clean
        await asyncio.to_thread(ledger.sql, "DELETE FROM ledger_head", "DELETE FROM ledger_entry")
        return await sweep.go_on()

    report = swept_by(ledger, removed_amid)
    assert any("has no head" in one.what for one in report.findings)
    assert not ledger.audit(kept=True).is_clean
    code, _ = prompt(ledger, "ledger", "verify")
    assert code == 0, "an empty database was never begun, as far as it can tell by itself"


def swept_by(ledger: Attacked, use: Callable[[Sweep], Awaitable[Report]]) -> Report:
    """What *use* has of a sweep that knows the key."""

    async def go() -> Report:
        address = ledger.untouched.server.dsn(ledger.name, SERVICE)
        database = Database(address, throwaway=True, audits=True)
        try:
            return await use(Sweep(database, trusted=Trusted((ledger.untouched.key.verifier,))))
        finally:
            await database.close()

    return asyncio.run(go())


def test_bits_that_rotted_on_the_disk_are_named(ledger: Attacked) -> None:
    """A byte of an assessment is changed in the database's file, which the server has not read
    yet. Where the server's checksums refuse the page, all entries on it are named.
    """
    index = ledger.untouched.assessment
    (row,) = ledger.sql(
        "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('ledger_entry') "
        "AS file"
    )
    subject = run(
        ledger.untouched.server,
        TEMPLATE,
        f"SELECT subject FROM ledger_entry WHERE index = {index}",
    )[0]["subject"].encode()
    file = Path(row["file"])
    content = bytearray(file.read_bytes())
    # In the entry, where it is said first of all in the row.
    place = content.index(b'"subject":"' + subject) + len('"subject":"')
    content[place] ^= 1
    file.write_bytes(content)

    report = ledger.audit()
    assert index in {one.index for one in report.findings}
    assert all(one.index is None or abs(one.index - index) < 60 for one in report.findings)
    code, said = prompt(ledger, "ledger", "verify")
    assert (code, f"entry {report.first and report.first.index}: " in said) == (1, True), said


def test_a_directory_of_somebody_s_is_no_program_of_ours(
    ledger: Attacked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever verifies may stand anywhere: an `app` there is not run."""
    ran = tmp_path / "ran"
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text(f"open({str(ran)!r}, 'w')")
    root = str(Path(audit.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", root)
    monkeypatch.setattr(audit, "WORTH_ENTRIES", 100)
    monkeypatch.chdir(tmp_path)
    assert ledger.audit(processes=2).is_clean
    assert not ran.exists()


# --- Signed ------------------------------------------------------------------------------------


def sign(ledger: Attacked, key: SigningKey, *sizes: int) -> None:
    """What the signer leaves behind: its key on record, and checkpoints."""
    rows = ledger.sql("SELECT leaf_hash FROM ledger_entry ORDER BY index")
    notes = {}
    for size in sizes:
        tree, _ = Frontier().extended(row["leaf_hash"] for row in rows[:size])
        notes[size] = str(Checkpoint(LOG, size, tree.root).signed([key]))
    statement = KeyStatement(key.verifier, True, 0)
    ledger.sql(
        "DELETE FROM ledger_key",
        "DELETE FROM ledger_checkpoint",
        f"INSERT INTO ledger_key VALUES (0, '{key.verifier}', true, 0, "
        f"'{statement.signed([key])}')",
        *(f"INSERT INTO ledger_checkpoint VALUES ({s}, '{n}')" for s, n in notes.items()),
    )


def test_a_rewritten_ledger_disagrees_with_its_checkpoints(ledger: Attacked) -> None:
    sign(ledger, ledger.untouched.key, 4, 60, 200, 300)
    assert ledger.audit().agreed == 300
    ledger.rewrite(edited(70, b"deploy", b"DEPLOY"), tree=True)

    report = ledger.audit()
    assert report.agreed == 60
    assert any(
        "size 200 was signed over other entries: one of 60 to 199" in f.what
        for f in report.findings
    )


def test_a_checkpoint_of_just_what_was_seen_is_held_against_it(ledger: Attacked) -> None:
    """It comes after the sweep has come to its size."""
    size, key = ledger.untouched.size, ledger.untouched.key
    forked = Checkpoint(LOG, size, b"\1" * 32).signed([key])

    async def signed_amid(sweep: Sweep) -> Report:
        assert (await sweep.go_on()).is_clean
        await asyncio.to_thread(sign, ledger, key, size)
        report = await sweep.go_on()
        assert (report.findings, report.agreed) == ((), size)
        change = f"UPDATE ledger_checkpoint SET note = '{forked}'"
        await asyncio.to_thread(ledger.sql, change)
        return await sweep.go_on()

    (found,) = swept_by(ledger, signed_amid).findings
    assert f"the checkpoint of size {size} was signed over other entries" in found.what


def test_a_kept_checkpoint_that_disagreed_vouches_for_nothing(ledger: Attacked) -> None:
    """Also where a later one agrees."""
    sign(ledger, ledger.untouched.key, ledger.untouched.size)
    other = Checkpoint(LOG, 300, b"\1" * 32).signed([ledger.untouched.key])
    forged = replace(ledger, untouched=replace(ledger.untouched, kept=other))
    report = forged.audit(kept=True)
    assert not report.is_clean
    assert (report.agreed, report.outside) == (ledger.untouched.size, 0)


def test_a_checkpoint_of_more_than_there_is_is_found(ledger: Attacked) -> None:
    sign(ledger, ledger.untouched.key, ledger.untouched.size)
    ledger.rewrite(lambda entries: entries[:350], tree=True)
    ledger.sql("DELETE FROM determination WHERE index >= 350")

    at, why = ledger.first()
    assert at == 350
    assert "a checkpoint was signed over" in why


def test_a_replaced_key_is_seen_by_who_was_told_of_the_right_one(ledger: Attacked) -> None:
    """All is written anew and signed by another key: that holds together, but for who signed."""
    ledger.rewrite(edited(70, b"deploy", b"DEPLOY"), tree=True)
    ledger.sql("UPDATE determination SET action = 'DEPLOY' WHERE index = 70")
    sign(ledger, new_key(), 60, 300)

    assert ledger.audit().is_clean
    assert any("on record is none" in one.what for one in ledger.audit(key=True).findings)


def test_a_forged_checkpoint_is_none(ledger: Attacked) -> None:
    sign(ledger, ledger.untouched.key, 60)
    ledger.sql(
        "UPDATE ledger_checkpoint SET note = replace(note, E'\\n60\\n', E'\\n61\\n'), size = 61"
    )
    (found,) = ledger.audit().findings
    assert "the checkpoint of size 61 on record is none" in found.what


def test_a_key_that_ended_signs_no_more(ledger: Attacked) -> None:
    """Whoever finds a key that was retired can have nothing of what came later vouched for by it."""
    retired, new = ledger.untouched.key, new_key()
    sign(ledger, retired, 60, 99)
    for number, statement, by in (
        (1, KeyStatement(new.verifier, True, 100), [retired]),
        (2, KeyStatement(retired.verifier, False, 100), [retired, new]),
    ):
        ledger.sql(
            f"INSERT INTO ledger_key VALUES ({number}, '{statement.key}', {statement.signs}, "
            f"{statement.size}, '{statement.signed(by)}')"
        )
    for report in (ledger.audit(), ledger.audit(key=True)):
        assert (report.findings, report.agreed) == ((), 99)

    rows = ledger.sql("SELECT leaf_hash FROM ledger_entry ORDER BY index LIMIT 200")
    tree, _ = Frontier().extended(row["leaf_hash"] for row in rows)
    later = Checkpoint(LOG, 200, tree.root)
    ledger.sql(f"INSERT INTO ledger_checkpoint VALUES (200, '{later.signed([retired])}')")
    for report in (ledger.audit(), ledger.audit(key=True)):
        assert report.agreed == 99
        (found,) = report.findings
        assert "the checkpoint of size 200 on record is none" in found.what
    # The one of size 300 that was kept elsewhere is by that key too.
    kept = [one.what for one in ledger.audit(kept=True).findings]
    assert any("was kept elsewhere says nothing" in one for one in kept)

    ledger.sql(f"UPDATE ledger_checkpoint SET note = '{later.signed([new])}' WHERE size = 200")
    report = ledger.audit()
    assert (report.findings, report.agreed) == ((), 200)


# --- At a prompt -------------------------------------------------------------------------------


def prompt(ledger: Attacked, *words: str) -> tuple[int, str]:
    address = str(ledger.untouched.server.dsn(ledger.name, SERVICE))
    result = CliRunner().invoke(commands, [*words, "--database-url", address])
    return result.exit_code, result.output


def test_verify_and_replay_at_a_prompt(ledger: Attacked, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text(str(ledger.untouched.kept))
    told = ("--checkpoint", str(kept), "--ledger-key", str(ledger.untouched.key.verifier))

    code, said = prompt(ledger, "ledger", "verify")
    assert (code, "not seen without a checkpoint" in said) == (0, True), said
    code, said = prompt(ledger, "ledger", "verify", *told)
    assert (code, "vouches for the first 300 entries" in said) == (0, True), said
    code, said = prompt(ledger, "ledger", "replay", "--all")
    assert code == 0, said
    ledger.rewrite(edited(ledger.untouched.determination, DENIED, ALLOWED), tree=True)
    code, said = prompt(ledger, "ledger", "verify", *told, "--json")
    assert code == 1
    findings = json.loads(said)["findings"]
    assert any("signed over other entries" in one["what"] for one in findings)
    code, said = prompt(ledger, "ledger", "replay", "--all")
    assert (code, "`/decision`" in said) == (1, True), said


@pytest.mark.parametrize(
    "words",
    [
        ("ledger", "replay"),
        ("ledger", "replay", "det_nothing"),
        ("ledger", "replay", "det_nothing", "--all"),
        ("ledger", "verify", "--ledger-key", "nonsense"),
        ("ledger", "verify", "--checkpoint", __file__),
        ("audit", "--once", "--data-dir", "/nowhere"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(ledger: Attacked, words: tuple[str, ...]) -> None:
    assert prompt(ledger, *words)[0] == 2


def test_an_audit_says_in_figures_how_much_is_sound(ledger: Attacked, tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    words = ("audit", "--once", "--metrics-file", str(file))
    code, said = prompt(ledger, *words)
    size = ledger.untouched.size
    assert (code, f"{size} of {size} entries are sound" in said) == (0, True), said
    assert {**figures(file), "last_pass_timestamp_seconds": 0.0} == {
        "verified_ratio": 1.0,
        "entries": float(size),
        "oldest_unverified_timestamp_seconds": 0.0,
        "findings": 0.0,
        "replayed": 403.0,
        "checkpoint_size": 0.0,
        "last_pass_timestamp_seconds": 0.0,
        "failed_total": 0.0,
    }

    index = ledger.untouched.determination
    ledger.rewrite(edited(index, DENIED, ALLOWED), tree=True)
    (row,) = ledger.sql(f"SELECT at FROM ledger_entry WHERE index = {index}")
    code, said = prompt(ledger, *words, "--json")
    assert code == 1
    assert json.loads(said)["first_unverified"] == index
    told = figures(file)
    assert told["findings"] > 0
    assert told["verified_ratio"] < 1
    assert told["oldest_unverified_timestamp_seconds"] == pytest.approx(row["at"].timestamp())


def figures(file: Path) -> dict[str, float]:
    """What the metrics say, without those that say when the counter was made."""
    told = {}
    for family in text_string_to_metric_families(file.read_text()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                told[sample.name.removeprefix("aslgate_audit_")] = sample.value
    return told


def test_an_audit_goes_on_and_says_what_it_finds_when_it_is_done(
    ledger: Attacked, tmp_path: Path
) -> None:
    """It finds what is changed after it had seen it, with the sweep after; SIGTERM ends it."""
    file = tmp_path / "metrics"
    address = str(ledger.untouched.server.dsn(ledger.name, SERVICE))
    words = ["--every", "1", "--metrics-file", str(file), "--database-url", address, "--port", "0"]
    command = [sys.executable, "-m", "app", "audit", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as auditor:
        assert auditor.stdout is not None
        wait_until(lambda: file.exists() and figures(file)["verified_ratio"] == 1)
        ledger.rewrite(edited(ledger.untouched.determination, DENIED, ALLOWED))
        said = auditor.stdout.readline()
        wait_until(lambda: figures(file)["findings"] > 0)
        auditor.send_signal(signal.SIGTERM)
        auditor.communicate(timeout=30)

    assert said.startswith(f"entry {ledger.untouched.determination}: ")
    assert auditor.returncode == 1


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it never was so")


async def test_an_auditor_can_write_nothing(untouched: Untouched) -> None:
    database = Database(untouched.server.dsn(TEMPLATE, OWNER), audits=True)
    connection = await database.connect()
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await connection.execute("INSERT INTO stream VALUES ('x', 1)")
    await connection.close()
    await database.close()
