"""Somebody has the service's own role in the database: they can add, and nothing else.

What they add is made with care: an entry in its place, its row, the tree and the head as the
service would have written them. An answer that is forged so is found out, for it does not follow
from what it says that it rests on. Evidence under another's name is not: it is on record for good,
each answer that rests on it names it, and whoever is named can say that it was not them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from app.canonical import canonical_json
from app.determination.record import SEMANTICS
from app.ledger.merkle import Frontier
from app.ledger.verification import StoredEntry
from app.operations import determine
from app.operations.audit import Report, Sweep
from app.storage.database import OWNER, SERVICE, Database, migrate, prepare_roles
from app.storage.embedded import EmbeddedPostgres
from app.vocabulary import read_instant, write_instant
from tests.faults.test_tampering import run, sealed
from tests.http.conftest import BOOTSTRAP_KEY, Service, running
from tests.http.small import decide, found, in_force, policy, post, register

EMPTY = "aslgate_before_forgery"


@pytest.fixture(scope="module")
def server(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """The tests' server, with an empty database on it to be copied."""
    prepare_roles(postgres.dsn())
    run(postgres, "postgres", f"CREATE DATABASE {EMPTY} OWNER {OWNER}")
    migrate(postgres.dsn(EMPTY, OWNER), service_role=SERVICE)
    return postgres


@asynccontextmanager
async def recorded(server: EmbeddedPostgres) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """A service with a model version on record that may not be deployed, and a client of it."""
    async with running(server, EMPTY) as service, service.client(BOOTSTRAP_KEY) as client:
        await in_force(service, client, policy())
        await register(client, "m@1")
        await post(client, "assessments", found("m@1", "not-ruled-out"))
        yield service, client


async def add(
    service: Service, kind: str, id: str, actor: str, **words: Any
) -> tuple[StoredEntry, Any]:
    """Add a record like the last one of its kind, with these words over it; and leave its row in
    the table of its kind to the caller, on the connection that is given back within a transaction.
    """
    connection = await asyncpg.connect(str(service.server.dsn(service.name, SERVICE)))
    await connection.execute("BEGIN")
    head = await connection.fetchrow("SELECT * FROM ledger_head FOR UPDATE")
    columns = StoredEntry.__slots__
    row = await connection.fetchrow(
        f"SELECT {', '.join(columns)} FROM ledger_entry WHERE kind = $1 "
        "ORDER BY index DESC LIMIT 1",
        kind,
    )
    like = StoredEntry(*row)
    at: datetime = await connection.fetchval("SELECT clock_timestamp()")
    said = orjson.loads(like.document) | {"id": id} | words
    if kind == "determination":
        said["provenance"] |= {"known_at": head["size"]}
    document = canonical_json(said)
    entry = sealed(
        replace(like, index=head["size"], subject=id, actor=actor, at=at, document=document)
    )
    await connection.execute(
        f"INSERT INTO ledger_entry ({', '.join(columns)}) "
        f"VALUES ({', '.join(f'${i}' for i in range(1, len(columns) + 1))})",
        *(getattr(entry, column) for column in columns),
    )
    tree, _ = Frontier.from_bytes(head["size"], head["frontier"]).extended([entry.leaf_hash])
    await connection.execute(
        "UPDATE ledger_head SET size = $1, frontier = $2, root = $3, last_at = $4",
        tree.size,
        bytes(tree),
        tree.root,
        at,
    )
    return entry, connection


async def audit(service: Service) -> Report:
    database = Database(service.server.dsn(service.name, SERVICE), throwaway=True, audits=True)
    try:
        return await Sweep(database, replays=True).go_on()
    finally:
        await database.close()


async def test_a_forged_answer_does_not_follow_from_its_evidence(server: EmbeddedPostgres) -> None:
    async with recorded(server) as (service, client):
        assert (await decide(client, "m@1"))["decision"] == "deny"
        assert (await audit(service)).is_clean
        forged, connection = await add(
            service, "determination", "det_forged", "key_a", decision="allow", reasons=[]
        )
        await connection.execute(
            "INSERT INTO determination SELECT $1, $2, model, action, policy, policy_version, "
            "policy_digest, 'allow', level, at, valid_until, as_known FROM determination LIMIT 1",
            forged.index,
            forged.subject,
        )
        await connection.execute("COMMIT")
        await connection.close()

        # The service cannot tell at once, and goes on.
        assert (await decide(client, "m@1"))["decision"] == "deny"
        first = (await audit(service)).first
        assert first is not None
        assert first.index == forged.index
        assert "/decision" in first.what


async def test_answers_of_no_known_engine_are_found(server: EmbeddedPostgres) -> None:
    """Their words are not taken for those of any engine, and the sweep goes on to its end."""
    async with recorded(server) as (service, client):
        made = await decide(client, "m@1")
        forged_at = set[int | None]()
        for semantics in (999, 0, "3", None):
            engine = {"version": "0.1.0", "semantics": semantics}
            forged, connection = await add(
                service,
                "determination",
                f"det_{semantics}",
                made["provenance"]["actor"],
                provenance=made["provenance"] | {"engine": engine},
            )
            await add_row(connection, forged, made["provenance"]["at"])
            forged_at.add(forged.index)

        report = await audit(service)
        unknown = "it cannot be recomputed: it was decided under "
        assert {one.index for one in report.findings if unknown in one.what} == forged_at
        assert {one.index for one in report.findings} == forged_at
        assert report.replayed == 5


async def test_an_answer_that_speaks_for_later_than_its_recording_is_found(
    server: EmbeddedPostgres,
) -> None:
    """It follows from its evidence, and would pass for one of a time when nobody had asked yet."""
    async with recorded(server) as (service, client):
        await decide(client, "m@1")
        made = await decide(client, "m@1")

        async def add_later(days: int, since: str) -> tuple[int, str]:
            at = write_instant(read_instant(made["provenance"]["at"]) + timedelta(days, 30))
            forged, connection = await add(
                service,
                "determination",
                f"det_{days}",
                made["provenance"]["actor"],
                provenance=made["provenance"] | {"at": at},
                changed=made["changed"] | {"since": since},
            )
            await add_row(connection, forged, at)
            return forged.index, at

        # Clocks differ by so much.
        await add_later(0, made["id"])
        assert (await audit(service)).is_clean
        index, at = await add_later(30, "det_0")
        (finding,) = (await audit(service)).findings
        assert finding.index == index
        assert finding.what.startswith(f"it speaks for {at}, after it was recorded at ")


async def add_row(connection: Any, forged: StoredEntry, at: str) -> None:
    """The row by which a determination like the last one is found; and be done."""
    await connection.execute(
        "INSERT INTO determination SELECT $1, $2, model, action, policy, policy_version, "
        "policy_digest, decision, level, $3, valid_until, as_known FROM determination LIMIT 1",
        forged.index,
        forged.subject,
        read_instant(at),
    )
    await connection.execute("COMMIT")
    await connection.close()


async def test_an_older_engine_is_found_where_it_answers_after_a_newer_one(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer follows under the semantics that it names: nothing else would be seen of it."""
    async with recorded(server) as (service, client):
        newer = await decide(client, "m@1")
        monkeypatch.setattr(determine, "SEMANTICS", SEMANTICS - 1)
        monkeypatch.setattr(determine.decide_on, "__defaults__", (SEMANTICS - 1,))
        older = await decide(client, "m@1")
        gate = await post(client, "gate", {"model": "m@1", "action": "deploy"})

        findings = (await audit(service)).findings
        answers = (older, *gate["answers"], gate)
        assert [one.index for one in findings] == [one["ledger"]["index"] for one in answers]
        before = f"entry {newer['ledger']['index']} before it under {SEMANTICS}"
        assert all(before in one.what for one in findings)


async def test_forged_evidence_is_on_record_under_the_name_it_bears(
    server: EmbeddedPostgres,
) -> None:
    async with recorded(server) as (service, client):
        finding = orjson.loads(canonical_json(found("m@1")))["findings"]
        forged, connection = await add(
            service, "assessment", "asm_forged", "key_of_somebody", findings=finding
        )
        await connection.execute(
            "INSERT INTO evidence SELECT $1, $2, kind, model, policy, speaks_for "
            "FROM evidence LIMIT 1",
            forged.index,
            forged.subject,
        )
        await connection.execute(
            "UPDATE stream SET version = $1 WHERE name = 'model:m@1'", forged.index + 1
        )
        await connection.execute("COMMIT")
        await connection.close()

        answer = await decide(client, "m@1")
        assert "asm_forged" in {piece["id"] for piece in answer["provenance"]["evidence"]}
        assert b'"key_of_somebody"' in await service.entry(forged.index)
        assert (await audit(service)).is_clean, "nobody but who is named could tell"
