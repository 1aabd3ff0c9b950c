"""What is wrong with the ledger, if anything: its entries one after the other, and their tree.

Whoever reads an entry back has its bytes, the bytes of its document, both hashes, and the columns by
which it is found. Of these only the leaf hash is in the tree. So everything else is held against it:
the entry must be what would be written of that document, those columns and that place. `look` does
so for each entry by itself, wherever that is done and in whatever order; `Walk` puts what was seen
together, builds the tree over it anew, and says where it differs from the tree that was kept.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from app.canonical import canonical_json, digest, sha256_hex
from app.ledger.checkpoint import Checkpoint
from app.ledger.entry import Kind, payload_type
from app.ledger.merkle import HASH_BYTES, Frontier, Node, leaf_hash, nodes_of, subtree_hash
from app.ledger.tiles import HEIGHT, WIDTH, Tile
from app.vocabulary import write_instant

MOST_FINDINGS: Final = 1000
"""How many findings are kept; there may be one for every entry."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and the index of the entry that it is about.

    `index` is `None` for what is wrong with the ledger as a whole.
    """

    index: int | None
    what: str


@dataclass(slots=True)
class StoredEntry:
    """A row of the ledger, as it was read back."""

    index: int
    kind: str
    subject: str
    actor: str
    at: datetime
    entry: bytes
    leaf_hash: bytes
    document: bytes
    document_sha256: bytes


@dataclass(slots=True)
class Stretch:
    """What was seen of entries that follow one another, from index `first` on.

    `leaves` are the hashes of the entries as they now are, `roots` those over each 256 of them that
    a tile of the tree holds, by its number; `begun` and `ended`, when the first and the last was
    recorded. `decided`: one after the other, under which semantics it was decided, and at which
    indexes, until it was decided under others.
    """

    first: int
    begun: datetime
    ended: datetime
    leaves: list[bytes] = field(default_factory=list)
    roots: dict[int, bytes] = field(default_factory=dict)
    decided: list[tuple[int, list[int]]] = field(default_factory=list)
    recorded: dict[str, int] = field(default_factory=dict)
    """By actor, the last entry that it recorded."""
    revoked: dict[str, int] = field(default_factory=dict)
    """By key, the entry that revoked it."""
    findings: list[Finding] = field(default_factory=list)


def look(log: str, entries: Iterable[StoredEntry]) -> list[Stretch]:
    """What is seen of entries of that log, in the order of their indexes: a stretch from each gap
    to the next.
    """
    seen: list[Stretch] = []
    here: Stretch | None = None
    index, at = 0, ""
    for one in entries:
        if here is None or one.index != index:
            here = Stretch(one.index, one.at, one.at)
            index, at = one.index, write_instant(one.at)
            seen.append(here)
        elif one.at != here.ended:
            at = write_instant(one.at)
        leaf = leaf_hash(one.entry)
        if not _is_sound(log, one, leaf, at):
            here.findings += (Finding(index, what) for what in _faults(log, one))
        if one.at < here.ended:
            here.findings.append(_backdated(index, one.at, here.ended))
        if one.kind in _DECIDED and (semantics := _semantics(one.document)) is not None:
            if not here.decided or here.decided[-1][0] != semantics:
                here.decided.append((semantics, []))
            here.decided[-1][1].append(index)
        here.recorded[one.actor] = index
        if one.kind == _REVOCATION and (key := _revoked_key(one.document)) is not None:
            here.revoked.setdefault(key, index)
        here.leaves.append(leaf)
        here.ended = one.at
        index += 1
    for stretch in seen:
        stretch.roots = dict(_roots(stretch))
    return seen


@dataclass
class Walk:
    """A walk through the ledger of that name, from its first entry on.

    `index` is the place of the entry that comes next; `findings` holds what was wrong up to there,
    `bad` the indexes with a finding. The walk goes on where the ledger has grown.
    """

    log: str
    index: int = 0
    bad: set[int] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    frontier: Frontier = field(default_factory=Frontier)
    """The tree over the entries so far, as they now are."""
    last_at: datetime | None = None
    agreed: int = 0
    """The size of the last checkpoint that the tree agreed with."""
    disagreed: int | None = None
    """The size of the first that it did not agree with."""
    _is_broken: bool = False
    _semantics: int = 0
    """The newest semantics under which anything was decided so far."""
    _since: int = 0
    """The first entry that was decided under those."""
    _revoked: dict[str, int] = field(default_factory=dict)
    """By key that was revoked, the entry that did so."""
    _rows: defaultdict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """By level, the hashes of the tile that is not full yet."""
    _filled: dict[Tile, tuple[bytes, bytes]] = field(default_factory=dict)
    """The hashes and the root of the tiles that were not compared yet."""

    @property
    def is_whole(self) -> bool:
        """Whether each entry up to here stands in its place, so that there is a tree over them."""
        return not self._is_broken

    def found(self, index: int | None, *what: str) -> None:
        """Note what is wrong with the entry at *index*, or with the whole; once."""
        if index is not None:
            self.bad.add(index)
        for one in (Finding(index, text) for text in what):
            if len(self.findings) < MOST_FINDINGS and one not in self.findings:
                self.findings.append(one)

    def take(self, seen: Iterable[Stretch], signed: Mapping[int, Checkpoint]) -> tuple[Tile, ...]:
        """Go on by what was seen of the next entries, and hold the tree against the checkpoints of
        those sizes. Gives the tiles that they fill; none from the first gap on, for there the tree
        ends.
        """
        filled: list[Tile] = []
        for stretch in seen:
            if stretch.first != self.index:
                self._gap(stretch.first)
            if self.last_at is not None and stretch.begun < self.last_at:
                self.found(*_told(_backdated(stretch.first, stretch.begun, self.last_at)))
            for one in stretch.findings:
                self.found(*_told(one))
            for semantics, indexes in stretch.decided:
                self._look_at_semantics(semantics, indexes)
            self._look_at_keys(stretch)
            self.last_at = stretch.ended
            self.index += len(stretch.leaves)
            filled += self._grown(stretch, signed)
        return tuple(filled)

    def _look_at_semantics(self, semantics: int, indexes: Sequence[int]) -> None:
        """Engines only follow one another, so nobody decides under older semantics than the last:
        who could choose among the engines that there were could choose among their answers.
        """
        if semantics > self._semantics:
            self._semantics, self._since = semantics, indexes[0]
        elif semantics < self._semantics:
            what = f"decided under semantics {semantics}, and entry {self._since} before it under"
            for index in indexes:
                self.found(index, f"{what} {self._semantics}: by an older program, or at choice")

    def _look_at_keys(self, seen: Stretch) -> None:
        """Nobody records anything with a key that is revoked; said of the last such entry that was
        seen at a time.
        """
        self._revoked = seen.revoked | self._revoked
        if not self._revoked:
            return
        for actor, index in seen.recorded.items():
            key = actor.rpartition("/")[2]
            at = self._revoked.get(key)
            if at is not None and index > at:
                self.found(index, f"recorded with `{key}`, which was revoked at entry {at}")

    def _grown(self, seen: Stretch, signed: Mapping[int, Checkpoint]) -> Iterator[Tile]:
        """Extend the tree up to here, and give the tiles that this fills, a level's before those of
        the next.
        """
        if self._is_broken:
            return
        stops = sorted({size for size in signed if seen.first < size < self.index} | {self.index})
        for stop in stops:
            while (size := self.frontier.size) < stop:
                # A tile at a time, so that its root need not be hashed again.
                number, beside = divmod(size, WIDTH)
                end = min(stop, size - beside + WIDTH)
                leaves = seen.leaves[size - seen.first : end - seen.first]
                self._rows[0] += leaves
                if len(leaves) == WIDTH and (root := seen.roots.get(number)) is not None:
                    self.frontier, completed = self.frontier.extended([root], level=HEIGHT)
                else:
                    self.frontier, completed = self.frontier.extended(leaves)
                yield from self._full(completed)
            if stop in signed:
                self.compare_checkpoint(signed[stop])

    def _full(self, completed: Mapping[Node, bytes]) -> Iterator[Tile]:
        """The tiles whose root is among the nodes that were completed."""
        for node, root in completed.items():
            level, beside = divmod(node.level, HEIGHT)
            if level and not beside:
                tile = Tile(level - 1, node.number)
                self._filled[tile] = b"".join(self._rows.pop(tile.level)), root
                self._rows[level].append(root)
                yield tile

    def _gap(self, next_index: int) -> None:
        self._is_broken = True
        many = next_index - self.index
        missing = "it is missing" if many == 1 else f"{many} entries are missing"
        self.found(self.index, f"{missing}: the next one is {next_index}")
        self.index = next_index

    def missing(self, size: int) -> None:
        """There are no more entries, and the head says that there are *size*."""
        if self.index < size:
            self._is_broken = True
            what = f"the head counts {size} entries, and from {self.index} on there are none"
            self.found(self.index, what)

    def compare_tiles(
        self, filled: Iterable[Tile], stored: Mapping[Tile, tuple[bytes, bytes]]
    ) -> None:
        """Hold the stored hashes and roots of the tiles that were filled against the tree over the
        entries as they now are.
        """
        for tile in filled:
            now, now_root = self._filled.pop(tile)
            first, last = _leaves(tile.root)
            hashes, root = stored.get(tile, (b"", b""))
            if not hashes:
                self.found(first, f"tile {tile.path}, of entries {first} to {last}, is missing")
                continue
            if hashes != now:
                for i, node in enumerate(tile.nodes):
                    one = slice(i * HASH_BYTES, (i + 1) * HASH_BYTES)
                    if hashes[one] != now[one]:
                        self._changed(node, f"tile {tile.path} has another hash for")
            if root != now_root:
                self._changed(tile.root, f"tile {tile.path} has another root for")

    def _changed(self, node: Node, what: str) -> None:
        """The tree that was kept has another hash for *node*; said where that is news."""
        first, last = _leaves(node)
        if not self.bad.isdisjoint(range(first, last + 1)):
            return
        if first == last:
            self.found(first, f"{what} it: it was changed after it was recorded, or the tree was")
        else:
            span = f"{first} to {last}: one of them was changed after it was recorded"
            self.found(first, f"{what} entries {span}, or the tree was")

    def compare_checkpoint(self, signed: Checkpoint) -> None:
        """Hold a checkpoint of the present size against the tree; of an empty one, of a larger one
        than there are entries, and after a gap, there is nothing to hold it against.
        """
        if self._is_broken or signed.size != self.frontier.size:
            return
        if signed.root == self.frontier.root:
            self.agreed = signed.size
        elif self.disagreed is None:
            self.disagreed = signed.size
            first, last = self.agreed, signed.size - 1
            known = any(first <= index <= last for index in self.bad)
            self.found(
                None if known else first,
                f"the checkpoint of size {signed.size} was signed over other entries: one of "
                f"{first} to {last} is not what it was",
            )

    def compare_head(self, frontier: Frontier, root: bytes) -> None:
        """Hold the head's frontier and root, at the size of the walk, against the tree."""
        if self._is_broken or frontier.size != self.index:
            return
        nodes = nodes_of(range(frontier.size))
        for node, was, now in zip(nodes, frontier.hashes, self.frontier.hashes, strict=True):
            if was != now:
                self._changed(node, "the head's frontier has another hash for")
        if root != frontier.root:
            self.found(None, "the head's root is not that of its own frontier")


_VERSION: Final = Kind.POLICY_VERSION.value
_REVOCATION: Final = Kind.REVOCATION.value
_DECIDED: Final = frozenset({Kind.DETERMINATION.value, Kind.GATE.value})

_ENGINE: Final = b'"engine":{"semantics":'
"""How the engine begins in a determination or a gate, as it is written. Within a word of somebody's
the quotes would be escaped; and what says the same in other bytes is not what its replay gives."""

_SEMANTICS: Final = re.compile(rb'([0-9]{1,9}),"version":')


def _semantics(document: bytes) -> int | None:
    """Under which semantics an answer says that it was decided; `None`: that is not said.

    Reading the whole document would take twenty times as long as this.
    """
    place = document.find(_ENGINE)
    while place >= 0:
        place += len(_ENGINE)
        if (said := _SEMANTICS.match(document, place)) is not None:
            return int(said[1])
        place = document.find(_ENGINE, place)
    return None


def _revoked_key(document: bytes) -> str | None:
    """Which key a revocation revokes; `None`: it does not say so."""
    try:
        key = orjson.loads(document)["credential"]
    except (ValueError, LookupError, TypeError):
        return None
    return key if isinstance(key, str) else None


def _leaves(node: Node) -> tuple[int, int]:
    """The first and the last entry below a node."""
    return node.number << node.level, ((node.number + 1) << node.level) - 1


def _roots(stretch: Stretch) -> Iterator[tuple[int, bytes]]:
    """The number of each tile that the stretch fills by itself, and the hash over it."""
    first = -(-stretch.first // WIDTH)
    for number in range(first, (stretch.first + len(stretch.leaves)) // WIDTH):
        begin = number * WIDTH - stretch.first
        yield number, subtree_hash(stretch.leaves[begin : begin + WIDTH])


def _told(one: Finding) -> tuple[int | None, str]:
    return one.index, one.what


def _backdated(index: int, at: datetime, before: datetime) -> Finding:
    was = write_instant(before)
    return Finding(
        index, f"recorded at {write_instant(at)}, and the one before it at {was}: backdated"
    )


def _is_sound(log: str, one: StoredEntry, leaf: bytes, at: str) -> bool:
    """The same as no faults, in the least time."""
    hashed = hashlib.sha256(one.document)
    # All of an envelope is text and integers, of which these are the canonical bytes.
    envelope = _envelope(log, one, hashed.hexdigest(), at)
    return (
        leaf == one.leaf_hash
        and hashed.digest() == one.document_sha256
        and orjson.dumps(envelope, option=orjson.OPT_SORT_KEYS) == one.entry
        and (one.kind != _VERSION or one.subject == f"sha256:{hashed.hexdigest()}")
    )


def _faults(log: str, one: StoredEntry) -> Iterator[str]:
    """All that is wrong with a row, for people."""
    if leaf_hash(one.entry) != one.leaf_hash:
        yield "the leaf hash is not that of the entry"
    if hashlib.sha256(one.document).digest() != one.document_sha256:
        yield "the recorded digest is not that of the document"
    if one.kind == _VERSION and one.subject != digest(one.document):
        yield f"the policy version is called `{one.subject}`, and its text is {digest(one.document)}"
    try:
        said = orjson.loads(one.entry)
        yield from _otherwise(log, one, said)
    except (ValueError, KeyError, TypeError, AttributeError):
        yield "the entry is no envelope of ours"


def _otherwise(log: str, one: StoredEntry, said: Mapping[str, Any]) -> Iterator[str]:
    """What the envelope says otherwise than the row."""
    sha256 = sha256_hex(one.document)
    if said["payload"]["sha256"] != sha256:
        yield f"the document is not the one that was hashed, `{said['payload']['sha256']}`"
        return
    if one.kind not in _PAYLOAD_TYPES:
        yield f"there is no kind `{one.kind}`"
        return
    should = _envelope(log, one, sha256, write_instant(one.at))
    differ = [name for name, value in should.items() if said.get(name) != value]
    for name in differ:
        row, hashed = should[name], said.get(name)
        yield f"the row has the {name} `{row}`, and the entry that was hashed `{hashed}`"
    if not differ and canonical_json(should) != one.entry:
        yield "the entry says the same in other bytes, or more than it should"


def _envelope(log: str, one: StoredEntry, sha256: str, at: str) -> dict[str, object]:
    """What the entry of that row should say; `app.ledger.entry` writes it."""
    return {
        "actor": one.actor,
        "at": at,
        "index": one.index,
        "kind": one.kind,
        "log": log,
        "payload": {
            "sha256": sha256,
            "size": len(one.document),
            "type": _PAYLOAD_TYPES.get(one.kind),
        },
        "subject": one.subject,
        "v": 1,
    }


_PAYLOAD_TYPES: Final = {kind.value: payload_type(kind) for kind in Kind}


def first_of(findings: Sequence[Finding]) -> Finding | None:
    """The finding with the smallest index; what is wrong as a whole comes last."""
    return min(findings, key=lambda one: (one.index is None, one.index or 0), default=None)
