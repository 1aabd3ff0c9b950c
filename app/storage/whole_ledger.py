"""The ledger read from end to end, in large pages: for whoever verifies it.

Everything is read as it is stored, on a connection of its own that can only read. Nothing is
believed for standing in one place that can be read in another: the rows by which records are found
are held against the documents that they repeat.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from app.errors import Unavailable
from app.ledger.entry import Kind
from app.ledger.merkle import Frontier
from app.ledger.tiles import Tile
from app.ledger.verification import Finding, StoredEntry
from app.storage import tables
from app.storage.database import Database, is_trouble

PAGE_ENTRIES: Final = 4096
PAGE_BYTES: Final = 32 * 1024 * 1024
"""How many bytes of documents a page holds, but for its last one."""


MOST_MISNAMED: Final = 100
"""How many entries are named that another's idempotency key leads to."""


@dataclass(frozen=True, slots=True)
class StoredHead:
    """The ledger's head as it is stored, and how far the other tables go.

    `entries`: the index after the last entry; `streams`, `requests`, `tiles` and `rows`: the size
    that the largest of these needs.
    """

    log: str
    size: int
    frontier: bytes
    root: bytes
    entries: int
    streams: int
    requests: int
    tiles: int
    rows: int
    checkpoint: int | None
    last_at: datetime

    def beyond(self) -> Iterable[Finding]:
        """What there is beyond the ledger's end: something that it once had, and has no more."""
        if self.entries > self.size:
            what = f"there are entries up to {self.entries - 1}, and the head counts {self.size}"
            yield Finding(self.size, what)
        end = max(self.size, self.entries)
        for name, reaches in (
            ("a stream was moved by", self.streams),
            ("a request's idempotency key names", self.requests),
            ("a tile of the tree covers", self.tiles),
            ("a table by which records are found names", self.rows),
            ("a checkpoint was signed over", self.checkpoint or 0),
        ):
            if reaches > end:
                what = f"{name} an entry {reaches - 1}, and the ledger ends at {end}"
                yield Finding(end, f"{what}: entries were removed from its end")

    def read_frontier(self) -> Frontier | None:
        """The head's frontier; `None` where it is none of a tree of that size."""
        try:
            return Frontier.from_bytes(self.size, self.frontier)
        except ValueError:
            return None


@asynccontextmanager
async def reading(database: Database) -> AsyncIterator[Any]:
    """An asyncpg connection of one's own. Raises `Unavailable` where there is none, or it fails."""
    connection = await database.connect()
    try:
        yield connection
        await connection.close()
    except Exception as error:
        if is_trouble(error):
            raise Unavailable("database", "the database went away; ask again") from error
        raise
    finally:
        connection.terminate()


async def stored_head(connection: Any) -> StoredHead | None:
    """The head and how far the other tables go, as of one instant; `None`: nothing was ever
    recorded.
    """
    row = await connection.fetchrow(_HEAD)
    return None if row is None else StoredHead(**row)


async def entries_from(connection: Any, first: int, end: int) -> list[StoredEntry]:
    """The next entries before *end*, from index *first* on; none where there are no more."""
    rows = await connection.fetch(_ENTRIES, first, end, PAGE_ENTRIES, PAGE_BYTES)
    return [StoredEntry(*row) for row in rows]


async def tiles(connection: Any, asked: Iterable[Tile]) -> dict[Tile, tuple[bytes, bytes]]:
    """The stored hashes and root of those tiles that are there."""
    places = [(tile.level, tile.number) for tile in asked]
    if not places:
        return {}
    rows = await connection.fetch(_TILES, *map(list, zip(*places, strict=True)))
    return {Tile(row["level"], row["number"]): (row["hashes"], row["root"]) for row in rows}


async def checkpoint_notes(connection: Any, *, above: int) -> list[tuple[int, str]]:
    """Size and note of every checkpoint on record of more than *above* entries, smallest first."""
    asked = "SELECT size, note FROM ledger_checkpoint WHERE size > $1 ORDER BY size"
    return [(row["size"], row["note"]) for row in await connection.fetch(asked, above)]


async def recorded_at(connection: Any, index: int) -> datetime | None:
    """When the entry with that index was recorded, or the next that there is."""
    asked = "SELECT at FROM ledger_entry WHERE index >= $1 ORDER BY index LIMIT 1"
    at: datetime | None = await connection.fetchval(asked, index)
    return at


async def misnamed(connection: Any) -> list[Finding]:
    """The entries that a caller would be given who repeats a request, and that another recorded."""
    asked = """
        SELECT e.index, i.credential, e.actor FROM idempotency i
        CROSS JOIN LATERAL generate_series(i.index, i.index + i.count - 1) AS named (index)
        JOIN ledger_entry e ON e.index = named.index
        WHERE e.actor <> i.credential ORDER BY e.index LIMIT $1
    """
    rows = await connection.fetch(asked, MOST_MISNAMED)
    return [
        Finding(
            row["index"],
            f"the idempotency key of a request by `{row['credential']}` names it, and "
            f"`{row['actor']}` recorded it",
        )
        for row in rows
    ]


async def misfiled(connection: Any, first: int, end: int) -> list[Finding]:
    """The entries from *first* to before *end* whose row in the table of their kind is missing, or
    says otherwise than their document: so that they would not be found, or found as another's.
    """
    findings: list[Finding] = []
    if first == end:
        return findings
    for table, statement in _MISFILED.items():
        try:
            rows = await connection.fetch(statement, first, end)
        except asyncpg.DataError:
            # A document among them is no JSON, or no instant is where one should be.
            if end - first > 1:
                middle = (first + end) // 2
                return [
                    *await misfiled(connection, first, middle),
                    *await misfiled(connection, middle, end),
                ]
            findings.append(Finding(first, f"its document does not say what `{table}` repeats"))
            continue
        findings += [Finding(row["index"], _WORDS[row["what"]].format(table)) for row in rows]
    return findings


_WORDS: Final = {
    "missing": "its row in `{}` is missing",
    "other": "its row in `{}` says otherwise than its document",
    "stray": "`{}` has a row for it, and it is of another kind, or not there",
}


# --- Statements --------------------------------------------------------------------------------

_BY_KIND: Final = (
    tables.policy_version,
    tables.policy_approval,
    tables.policy_activation,
    tables.model_version,
    tables.evidence,
    tables.withdrawal,
    tables.exception_approval,
    tables.lifting,
    tables.determination,
    tables.gate,
    tables.credential,
    tables.credential_revocation,
)

_HEAD: Final = f"""
    SELECT log, size, frontier, root,
        coalesce((SELECT max(index) + 1 FROM ledger_entry), 0) AS entries,
        coalesce((SELECT max(version) FROM stream), 0) AS streams,
        coalesce((SELECT max(index + count) FROM idempotency), 0) AS requests,
        coalesce((SELECT max((number + 1) << (8 * (level + 1))) FROM ledger_tile), 0) AS tiles,
        greatest(0, {", ".join(f"(SELECT max(index) + 1 FROM {t.name})" for t in _BY_KIND)})
            AS rows,
        (SELECT max(size) FROM ledger_checkpoint) AS checkpoint, last_at
    FROM ledger_head
"""  # noqa: S608 - the tables are ours

# The sum is that of what comes before an entry, so that there is always a first one.
_ENTRIES: Final = """
    SELECT index, kind, subject, actor, at, entry, leaf_hash, document, document_sha256 FROM (
        SELECT *, sum(octet_length(document)) OVER (ORDER BY index) - octet_length(document) AS so_far
        FROM (
            SELECT * FROM ledger_entry WHERE index >= $1 AND index < $2 ORDER BY index LIMIT $3
        ) next
    ) page WHERE so_far < $4 ORDER BY index
"""

_TILES: Final = """
    SELECT t.* FROM unnest($1::smallint[], $2::bigint[]) AS asked (level, number)
    JOIN ledger_tile t USING (level, number)
"""

_EVIDENCE: Final = ("assessment", "safeguard", "sign-off", "exception", "order")


def _said(*path: str) -> str:
    """What a document says at that path, as text."""
    return "s.said #>> '{" + ",".join(path) + "}'"


def _instant(*path: str) -> str:
    return f"({_said(*path)})::timestamptz"


def _principal(*path: str) -> str:
    return f"regexp_replace({_said(*path)}, '/[^/]*$', '')"


def _model_of(id: str) -> str:
    return f"(SELECT model FROM evidence WHERE evidence.id = {id})"  # noqa: S608


_WITHDRAWN: Final = (
    f"coalesce({', '.join(_said(k) for k in ('assessment', 'safeguard', 'sign_off', 'exception'))})"
)

# By table: the kinds whose rows stand in it, and each column as the document says it.
_SHOULD: Final[Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]]] = {
    "policy_version": (
        (Kind.POLICY_VERSION.value,),
        {
            "policy": _said("policy"),
            "version": _said("version"),
            "digest": "e.subject",
            "effective": _instant("effective"),
        },
    ),
    "policy_approval": (
        (Kind.POLICY_APPROVAL.value,),
        {
            "id": _said("id"),
            "policy": _said("policy"),
            "digest": _said("digest"),
            "by": _principal("by"),
            "given_at": _instant("given_at"),
        },
    ),
    "policy_activation": (
        (Kind.POLICY_ACTIVATION.value,),
        {
            "id": _said("id"),
            "policy": _said("policy"),
            "digest": _said("digest"),
            "in_force_from": _instant("in_force_from"),
            "given_at": _instant("given_at"),
        },
    ),
    "model_version": (
        (Kind.MODEL.value,),
        {
            "model": _said("model"),
            "developer": _said("developer"),
            "weights": _said("weights"),
        },
    ),
    "evidence": (
        _EVIDENCE,
        {
            "id": _said("id"),
            "kind": "e.kind",
            "model": _said("model"),
            "policy": f"CASE e.kind WHEN 'assessment' THEN NULL ELSE {_said('policy')} END",
            "speaks_for": "CASE e.kind "
            f"WHEN 'assessment' THEN {_instant('conducted_at')} "
            f"WHEN 'sign-off' THEN {_instant('given_at')} "
            f"WHEN 'order' THEN {_instant('begins_at')} "
            f"ELSE {_instant('valid_from')} END",
        },
    ),
    "withdrawal": (
        (Kind.WITHDRAWAL.value,),
        {"id": _said("id"), "evidence_id": _WITHDRAWN, "model": _model_of(_WITHDRAWN)},
    ),
    "exception_approval": (
        (Kind.EXCEPTION_APPROVAL.value,),
        {
            "id": _said("id"),
            "exception_id": _said("exception"),
            "model": _model_of(_said("exception")),
            "role": _said("role"),
            "by": _principal("by"),
            "given_at": _instant("given_at"),
        },
    ),
    "lifting": (
        (Kind.LIFTING.value,),
        {
            "id": _said("id"),
            "order_id": _said("order"),
            "model": _model_of(_said("order")),
            "lifted_at": _instant("lifted_at"),
        },
    ),
    "determination": (
        (Kind.DETERMINATION.value,),
        {
            "id": _said("id"),
            "model": _said("model"),
            "action": _said("action"),
            "policy": _said("provenance", "policy", "name"),
            "policy_version": _said("provenance", "policy", "version"),
            "policy_digest": _said("provenance", "policy", "digest"),
            "decision": _said("decision"),
            "level": _said("level"),
            "at": _instant("provenance", "at"),
            "valid_until": _instant("valid_until"),
            # One that saw the ledger up to itself may have been asked for so.
            "as_known": f"r.as_known OR ({_said('provenance', 'known_at')})::bigint <> e.index",
        },
    ),
    "gate": (
        (Kind.GATE.value,),
        {
            "id": _said("id"),
            "model": _said("model"),
            "action": _said("action"),
            "decision": _said("decision"),
            "at": _instant("at"),
            "valid_until": _instant("valid_until"),
        },
    ),
    "credential": (
        (Kind.CREDENTIAL.value,),
        {
            "id": _said("id"),
            "principal": _said("principal"),
            "secret_sha256": f"decode({_said('secret_sha256')}, 'hex')",
            "created_at": _instant("created_at"),
            "expires_at": _instant("expires_at"),
        },
    ),
    "credential_revocation": (
        (Kind.REVOCATION.value,),
        {
            "id": _said("id"),
            "credential": _said("credential"),
            "revoked_at": _instant("revoked_at"),
        },
    ),
}


def _misfiled(table: str) -> str:
    # OFFSET 0: or the planner would have the document parsed once for every column. Both sides of a
    # join name the range: or it would take in the whole table for every page.
    kinds, should = _SHOULD[table]
    named = ", ".join(f"'{kind}'" for kind in kinds)
    subject = (
        "model" if table == "model_version" else "digest" if table == "policy_version" else "id"
    )
    return f"""
        SELECT e.index, CASE WHEN r.index IS NULL THEN 'missing' ELSE 'other' END AS what
        FROM ledger_entry e
        CROSS JOIN LATERAL (SELECT convert_from(e.document, 'UTF8')::jsonb AS said OFFSET 0) s
        LEFT JOIN {table} r ON r.index = e.index AND r.index >= $1 AND r.index < $2
        WHERE e.index >= $1 AND e.index < $2 AND e.kind IN ({named}) AND (
            r.index IS NULL
            OR r.{subject} <> e.subject
            OR ROW({", ".join(f'r."{name}"' for name in should)})
                IS DISTINCT FROM ROW({", ".join(should.values())})
        )
        UNION ALL
        SELECT r.index, 'stray' FROM {table} r
        LEFT JOIN ledger_entry e ON e.index = r.index AND e.index >= $1 AND e.index < $2
        WHERE r.index >= $1 AND r.index < $2 AND (e.index IS NULL OR e.kind NOT IN ({named}))
        ORDER BY 1
    """  # noqa: S608 - the names are ours


_MISFILED: Final = {table: _misfiled(table) for table in _SHOULD}
