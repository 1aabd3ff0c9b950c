"""What the ledger must hold after any fault, read from the database itself and checked here.

Nothing of the service's own code is used to check it: leaf hashes, envelopes, order and the Merkle
tree are worked out again from the bytes.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.storage.embedded import PostgresAddress
from tests.faults.writers import Write

LOG = "localhost/aslgate"
MARKED = {"assessment": "assessor", "safeguard": "stated_by", "sign-off": "reason"}
"""The evidence that clients record, and where each piece carries a mark of its own."""


@dataclass(frozen=True)
class Entry:
    """One row of the ledger."""

    index: int
    kind: str
    subject: str
    actor: str
    at: datetime
    entry: bytes
    leaf_hash: bytes
    document: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.document)


@dataclass(frozen=True)
class Written:
    """Which entries one request recorded: `count` of them, from `index` on."""

    key_sha256: bytes
    index: int
    count: int


@dataclass(frozen=True)
class TreeRead:
    """The Merkle tree as it is kept: its root, and by level and number its full tiles."""

    root: bytes
    tiles: Mapping[tuple[int, int], bytes]


@dataclass(frozen=True)
class LedgerRead:
    """The whole ledger as it stands in the database."""

    size: int
    last_at: datetime
    entries: tuple[Entry, ...]
    written: tuple[Written, ...]
    tree: TreeRead
    checkpoints: tuple[str, ...] = ()
    """The signed notes, as they were published."""


def read_ledger(address: PostgresAddress) -> LedgerRead:
    """Read it as the database's own superuser, past the service."""

    async def read() -> LedgerRead:
        connection = await asyncpg.connect(str(address), timeout=10)
        try:
            async with connection.transaction(isolation="repeatable_read"):
                head = await connection.fetchrow("SELECT size, last_at, root FROM ledger_head")
                entries = await connection.fetch(
                    "SELECT index, kind, subject, actor, at, entry, leaf_hash, document "
                    "FROM ledger_entry ORDER BY index"
                )
                written = await connection.fetch("SELECT key_sha256, index, count FROM idempotency")
                tiles = await connection.fetch("SELECT level, number, hashes FROM ledger_tile")
                notes = await connection.fetch("SELECT note FROM ledger_checkpoint ORDER BY size")
        finally:
            await connection.close()
        return LedgerRead(
            head["size"],
            head["last_at"],
            tuple(Entry(*row.values()) for row in entries),
            tuple(Written(*row.values()) for row in written),
            TreeRead(head["root"], {(level, number): hashes for level, number, hashes in tiles}),
            tuple(row["note"] for row in notes),
        )

    return asyncio.run(read())


def violations(ledger: LedgerRead, writes: Sequence[Write]) -> list[str]:
    """Everything that is wrong with the ledger, given what clients were told; empty: nothing."""
    return [
        *_of_order(ledger),
        *_of_bytes(ledger),
        *_of_tree(ledger),
        *of_checkpoints(ledger, ledger.checkpoints),
        *_of_acknowledged(ledger, writes),
        *_of_requests(ledger, writes),
        *_of_what_determinations_rest_on(ledger),
        *_of_what_is_allowed(ledger),
        *_of_time(writes),
    ]


def _of_order(ledger: LedgerRead) -> list[str]:
    """Indexes run from 0 without a gap, and time never runs back along them."""
    found = []
    entries = ledger.entries
    if [entry.index for entry in entries] != list(range(len(entries))):
        found.append("the indexes have a gap")
    if ledger.size != len(entries):
        found.append(f"the head says {ledger.size}, and there are {len(entries)} entries")
    times = [entry.at for entry in entries]
    if times != sorted(times):
        found.append("time runs back")
    if times and ledger.last_at != times[-1]:
        found.append("the head and the last entry name different times")
    return found


def _of_bytes(ledger: LedgerRead) -> list[str]:
    """Each envelope says what the row says, of the very bytes of its document, and hashes so."""
    found = []
    for entry in ledger.entries:
        envelope = json.loads(entry.entry)
        payload = {
            "sha256": hashlib.sha256(entry.document).hexdigest(),
            "size": len(entry.document),
            "type": f"application/vnd.aslgate.{entry.kind}+json",
        }
        expected = {
            "actor": entry.actor,
            "at": _written(entry.at),
            "index": entry.index,
            "kind": entry.kind,
            "log": LOG,
            "payload": payload,
            "subject": entry.subject,
            "v": 1,
        }
        if envelope != expected:
            found.append(f"{entry.index}: the envelope is {envelope}, not {expected}")
        if entry.leaf_hash != hashlib.sha256(b"\x00" + entry.entry).digest():
            found.append(f"{entry.index}: the leaf hash is not that of the envelope")
    return found


def tree_over(leaves: Sequence[bytes]) -> TreeRead:
    """The tree over these leaf hashes, by its definition (RFC 9162 §2.1.1)."""
    tiles = {}
    level, row = 0, list(leaves)
    while row:
        full = range(len(row) // 256)
        for number in full:
            tiles[level, number] = b"".join(row[number * 256 : number * 256 + 256])
        row = [_root(row[number * 256 : number * 256 + 256]) for number in full]
        level += 1
    return TreeRead(_root(leaves), tiles)


def _root(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    left = 1
    while left * 2 < len(leaves):
        left *= 2
    return hashlib.sha256(b"\x01" + _root(leaves[:left]) + _root(leaves[left:])).digest()


def _of_tree(ledger: LedgerRead) -> list[str]:
    """The root and all full tiles are those of the entries, and no other tile is there."""
    expected = tree_over([hashlib.sha256(b"\x00" + e.entry).digest() for e in ledger.entries])
    found = [] if ledger.tree.root == expected.root else ["the root is not that of the entries"]
    found += [
        f"tile {place} is not that of the entries"
        for place in sorted(ledger.tree.tiles.keys() | expected.tiles.keys())
        if ledger.tree.tiles.get(place) != expected.tiles.get(place)
    ]
    return found


def of_checkpoints(
    ledger: LedgerRead, notes: Iterable[str], key: Ed25519PublicKey | None = None
) -> list[str]:
    """Each is of the first so many entries, and so they all are of one history; with *key*, each is
    signed by it.
    """
    found = []
    leaves = [hashlib.sha256(b"\x00" + entry.entry).digest() for entry in ledger.entries]
    for note in sorted(set(notes)):
        text, _, signatures = note.partition("\n\n")
        origin, size, root = text.split("\n")
        if origin != LOG:
            found.append(f"a checkpoint is of `{origin}`")
        if int(size) > len(leaves):
            found.append(f"LOST: a checkpoint is of {size} entries, and {len(leaves)} are there")
        elif base64.b64decode(root) != _root(leaves[: int(size)]):
            found.append(f"FORKED: a checkpoint of {size} entries is of others than are there")
        if key is not None and not _is_signed(f"{text}\n", signatures, key):
            found.append(f"the checkpoint of {size} entries is not signed by the log's key")
    return found


def _is_signed(text: str, signatures: str, key: Ed25519PublicKey) -> bool:
    """Whether one of these lines (C2SP signed-note) is the key's signature of *text*."""
    public = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    key_id = hashlib.sha256(LOG.encode() + b"\n\x01" + public).digest()[:4]
    for line in signatures.splitlines():
        dash, name, signature = line.split(" ")
        decoded = base64.b64decode(signature)
        if (dash, name, decoded[:4]) == ("—", LOG, key_id):
            with contextlib.suppress(InvalidSignature):
                key.verify(decoded[4:], text.encode())
                return True
    return False


def _of_acknowledged(ledger: LedgerRead, writes: Sequence[Write]) -> list[str]:
    """What was acknowledged is there exactly once, where it was said to be, with the same bytes."""
    found = []
    times_there = Counter(entry.subject for entry in ledger.entries)
    given: Counter[int] = Counter()
    for write in writes:
        if write.answer is None:
            continue
        answer = json.loads(write.answer)
        index = answer["ledger"]["index"]
        if index >= len(ledger.entries):
            found.append(f"LOST: {write.kind} at {index}, acknowledged and not there")
            continue
        entry = ledger.entries[index]
        subject = answer["model"] if write.kind == "model" else answer["id"]
        given[entry.index] += write.kind != "model"
        position = json.dumps(
            {
                "index": entry.index,
                "leaf_hash": entry.leaf_hash.hex(),
                "recorded_at": _written(entry.at),
            },
            separators=(",", ":"),
        ).encode()
        if (entry.kind, entry.subject) != (write.kind, subject):
            found.append(f"LOST: {write.kind} {subject}: at {index} is {entry.subject}")
        elif write.answer != entry.document[:-1] + b',"ledger":' + position + b"}":
            found.append(f"{index}: other bytes than the client got")
        if times_there[subject] != 1:
            found.append(f"TWICE: {subject} is there {times_there[subject]} times")
    found += [f"TWICE: {index} answers {n} requests" for index, n in given.items() if n > 1]
    return found


def _of_requests(ledger: LedgerRead, writes: Sequence[Write]) -> list[str]:
    """Every entry was recorded by one request, and no request recorded twice.

    Requests whose outcome nobody knows are among them: they may be there, once. Keys are made at the
    command line, without one.
    """
    found = []
    owners = Counter(i for w in ledger.written for i in range(w.index, w.index + w.count))
    found += [
        f"{e.index} has {owners[e.index]} owners"
        for e in ledger.entries
        if owners[e.index] != (e.kind != "credential")
    ]
    recorded = {written.key_sha256: written for written in ledger.written}
    if len(recorded) != len(ledger.written):
        found.append("TWICE: an Idempotency-Key has two records")
    sent = {hashlib.sha256(write.key.encode()).digest(): write for write in writes}
    for hashed, written in recorded.items():
        write = sent.get(hashed)
        if write is not None and ledger.entries[written.index].kind != write.kind:
            found.append(f"{written.index} is not the {write.kind} that its key asked for")
    for hashed, write in sent.items():
        its = recorded.get(hashed)
        if write.kind == "model" or not write.is_settled:
            continue
        if its is None:
            found.append(f"LOST: nothing is recorded under the key of a settled {write.kind}")
        elif write.superseded not in (None, ledger.entries[its.index].subject):
            found.append(f"{its.index} is not {write.superseded}")
    # The same thing under two ids would show.
    marks = Counter(e.said[MARKED[e.kind]] for e in ledger.entries if e.kind in MARKED)
    found += [f"TWICE: `{mark}` is recorded {n} times" for mark, n in marks.items() if n > 1]
    return found


def _of_what_determinations_rest_on(ledger: LedgerRead) -> list[str]:
    """A determination saw the whole ledger before it, and rests on all evidence there, and only it."""
    found = []
    models: set[str] = set()
    activated: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    evidence: dict[str, list[dict[str, str]]] = defaultdict(list)
    for entry in ledger.entries:
        digest = f"sha256:{hashlib.sha256(entry.document).hexdigest()}"
        said = entry.said
        if entry.kind == "policy-activation":
            since = datetime.fromisoformat(said["in_force_from"])
            activated[said["policy"]].append((since, said["digest"]))
        elif entry.kind == "model":
            models.add(entry.subject)
        elif entry.kind in MARKED:
            evidence[said["model"]].append({"id": entry.subject, "digest": digest})
        elif entry.kind == "determination":
            provenance = said["provenance"]
            rests_on = sorted(evidence[said["model"]], key=lambda piece: piece["id"])
            if provenance["known_at"] != entry.index:
                found.append(f"{entry.index} says that it saw {provenance['known_at']} entries")
            if sorted(provenance["evidence"], key=lambda piece: piece["id"]) != rests_on:
                found.append(f"{entry.index} does not rest on what stood before it")
            if said["model"] not in models:
                found.append(f"{entry.index} rests on what was not yet there")
            policy, at = provenance["policy"], datetime.fromisoformat(provenance["at"])
            begun = [one for one in activated[policy["name"]] if one[0] <= at]
            if not begun or max(begun)[1] != policy["digest"]:
                found.append(f"{entry.index} goes by a version that was not in force")
    return found


def _of_what_is_allowed(ledger: LedgerRead) -> list[str]:
    """No `allow` without what clients record (tests/faults/writers.py) and RSP 2.2 asks for, or
    against what they found.
    """
    found = []
    known: dict[str, set[str]] = defaultdict(set)
    needs = {
        "ruled-out",
        "asl-2-deployment",
        "asl-2-security",
        "ceo",
        "responsible-scaling-officer",
    }
    for entry in ledger.entries:
        said = entry.said
        if entry.kind == "assessment":
            known[said["model"]].update(one["outcome"] for one in said.get("findings", ()))
        elif entry.kind == "safeguard":
            known[said["model"]].add(said["standard"])
        elif entry.kind == "sign-off":
            known[said["model"]].add(said["role"])
        elif entry.kind == "determination" and said["decision"] != "deny":
            if missing := needs - known[said["model"]]:
                found.append(f"OPEN: {entry.index} allows without {sorted(missing)}")
            if "reached" in known[said["model"]]:
                found.append(f"OPEN: {entry.index} allows what has reached a threshold")
    return found


def _of_time(writes: Sequence[Write]) -> list[str]:
    """What was answered before another was sent stands before it."""
    # A model may be answered from its first registration, so its place says nothing of this one.
    placed = [
        (write, json.loads(write.answer)["ledger"]["index"])
        for write in writes
        if write.answer is not None and write.kind != "model"
    ]
    by_answer = sorted(placed, key=lambda one: one[0].answered_at or 0.0)
    found, highest, next_answer = [], -1, 0
    for write, index in sorted(placed, key=lambda one: one[0].sent_at):
        while (by_answer[next_answer][0].answered_at or 0.0) < write.sent_at:
            highest = max(highest, by_answer[next_answer][1])
            next_answer += 1
        if index < highest:
            found.append(f"{index} was asked for after {highest} was answered")
    return found


def _written(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat() + "Z"
