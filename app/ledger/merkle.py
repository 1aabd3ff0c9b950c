"""The Merkle tree over the ledger's entries (RFC 6962 §2.1, RFC 9162 §2.1): hashes and proofs.

Everything is said in two words. A *node* is the root of a perfect subtree; once its leaves are
there, it never changes, whatever is appended. A *range* of leaves, of those that occur in this
tree, has a hash that is folded from the few nodes that cover it. The whole tree, and each line of
a proof, is such a range: so whoever wants a proof first asks which ranges it consists of, then
fetches their nodes, all at once, and folds.

Pure: where node hashes are kept is storage's.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

HASH_BYTES: Final = 32

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root of a tree without leaves (RFC 9162 §2.1.1)."""


class InvalidProof(Exception):
    """A proof does not show what it is said to show. Its text says why."""


class Node(NamedTuple):
    """The root of the perfect subtree over the leaves `number << level` to just before
    `(number + 1) << level`. A leaf's hash is the node of level 0 with the leaf's index.
    """

    level: int
    number: int


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf: SHA-256 of a zero byte and the entry (RFC 9162 §2.1.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256 of a one byte and its children's (RFC 9162 §2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def subtree_hash(hashes: Sequence[bytes]) -> bytes:
    """The hash of the node over so many neighbouring ones, which must be a power of two."""
    row = hashes
    while len(row) > 1:
        row = [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=True)]
    return row[0]


# --- Growing -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frontier:
    """The nodes that cover a tree of `size` leaves, largest first: one for each bit of its size.

    It is all that must be known of a tree in order to extend it and to tell its root.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"{len(self.hashes)} nodes do not cover {self.size} leaves")
        if any(len(one) != HASH_BYTES for one in self.hashes):
            raise ValueError(f"a hash has {HASH_BYTES} bytes")

    @classmethod
    def from_bytes(cls, size: int, written: bytes) -> "Frontier":
        """Read what `bytes()` of a frontier of that size gave. Raises `ValueError`."""
        step = HASH_BYTES
        return cls(size, tuple(written[i : i + step] for i in range(0, len(written), step)))

    def __bytes__(self) -> bytes:
        return b"".join(self.hashes)

    @property
    def root(self) -> bytes:
        """The tree's root."""
        return _folded(self.hashes)

    def extended(
        self, nodes: Iterable[bytes], *, level: int = 0
    ) -> tuple["Frontier", dict[Node, bytes]]:
        """The frontier after appending the leaves below those nodes of that level, and all nodes that
        this completes, these among them. Two hashes a node are the most that it takes, on average
        one. Raises `ValueError` where no node of that level can come next.
        """
        first, beside = divmod(self.size, 1 << level)
        if beside:
            raise ValueError(f"no node of level {level} comes next in a tree of {self.size} leaves")
        hashes = list(self.hashes)
        completed: dict[Node, bytes] = {}
        number = first
        for number, hashed in enumerate(nodes, first + 1):
            node, top = Node(level, number - 1), hashed
            completed[node] = top
            # Each low bit of the size is a node that waits for its right sibling, as in counting.
            while node.number & 1:
                top = node_hash(hashes.pop(), top)
                node = Node(node.level + 1, node.number >> 1)
                completed[node] = top
            hashes.append(top)
        return Frontier(number << level, tuple(hashes)), completed


# --- Which nodes -------------------------------------------------------------------------------


def nodes_of(leaves: range) -> tuple[Node, ...]:
    """The nodes that cover a range, from left to right; for `range(0, size)`, the frontier's.

    Only ranges that are subtrees of a tree have a hash: all that this module gives are.
    """
    start, stop = leaves.start, leaves.stop
    found = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        number, beside = divmod(start, 1 << level)
        assert beside == 0, "a subtree begins at a multiple of its width"
        found.append(Node(level, number))
        start += 1 << level
    return tuple(found)


def range_hash(leaves: range, hashes: Mapping[Node, bytes]) -> bytes:
    """The hash of a range, from the hashes of its nodes. Raises `KeyError` where one is missing."""
    return _folded([hashes[node] for node in nodes_of(leaves)])


def inclusion_ranges(index: int, size: int) -> tuple[range, ...]:
    """The ranges whose hashes prove that leaf *index* is in the tree of *size* leaves, in the
    order of the proof (RFC 9162 §2.1.3.1). Raises `ValueError` where there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    path = []
    tree = range(size)
    while len(tree) > 1:
        left, right = _halves(tree)
        tree, other = (left, right) if index in left else (right, left)
        path.append(other)
    return tuple(reversed(path))


def consistency_ranges(old: int, new: int) -> tuple[range, ...]:
    """The ranges whose hashes prove that the tree of *new* leaves extends that of *old*, in the
    order of the proof (RFC 9162 §2.1.4.1). None are needed where the sizes are equal, or where
    the old tree is empty. Raises `ValueError` where the new tree is the smaller one.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves cannot extend one of {old}")
    if old in (0, new):
        return ()
    path = []
    tree = range(new)
    while tree.stop != old:
        left, right = _halves(tree)
        tree, other = (left, right) if old <= left.stop else (right, left)
        path.append(other)
    # What is left is the right edge of the old tree. Where that is all of it, its hash is the old
    # root, which the verifier has.
    if tree.start:
        path.append(tree)
    return tuple(reversed(path))


# --- Verifying ---------------------------------------------------------------------------------


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """See that leaf hash *leaf* stands at *index* in the tree of *size* leaves with that *root*,
    as RFC 9162 §2.1.3.2 does it. Raises `InvalidProof`.
    """
    _require_hashes(leaf, root, *proof)
    if not 0 <= index < size:
        raise InvalidProof(f"there is no leaf {index} in a tree of {size}")
    number, last, top = index, size - 1, leaf
    for line in proof:
        if last == 0:
            raise InvalidProof("the inclusion proof is too long")
        if number & 1 or number == last:
            top = node_hash(line, top)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            top = node_hash(top, line)
        number, last = number >> 1, last >> 1
    if last:
        raise InvalidProof("the inclusion proof is too short")
    if top != root:
        raise InvalidProof("the inclusion proof leads to another root")


def verify_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """See that the tree of *new* leaves extends that of *old*, as RFC 9162 §2.1.4.2 does it; the
    empty tree is extended by any. Raises `InvalidProof`.
    """
    _require_hashes(old_root, new_root, *proof)
    if not 0 <= old <= new:
        raise InvalidProof(f"a tree of {new} leaves cannot extend one of {old}")
    if old in (0, new):
        if proof:
            raise InvalidProof("the consistency proof is too long")
        if old_root != (new_root if old == new else EMPTY_ROOT):
            raise InvalidProof("the roots of the old tree differ")
        if new == 0 and new_root != EMPTY_ROOT:
            raise InvalidProof("an empty tree has another root")
        return
    lines = list(proof)
    # An old tree that is perfect is itself the first node; the proof leaves it out.
    if old & (old - 1) == 0:
        lines.insert(0, old_root)
    if not lines:
        raise InvalidProof("the consistency proof is too short")
    number, last = old - 1, new - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    of_old = of_new = lines[0]
    for line in lines[1:]:
        if last == 0:
            raise InvalidProof("the consistency proof is too long")
        if number & 1 or number == last:
            of_old, of_new = node_hash(line, of_old), node_hash(line, of_new)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            of_new = node_hash(of_new, line)
        number, last = number >> 1, last >> 1
    if last:
        raise InvalidProof("the consistency proof is too short")
    if of_old != old_root:
        raise InvalidProof("the consistency proof leads to another old root")
    if of_new != new_root:
        raise InvalidProof("the consistency proof leads to another new root")


# --- Small words -------------------------------------------------------------------------------


def _folded(hashes: Sequence[bytes]) -> bytes:
    """The hash over neighbouring nodes that become smaller to the right."""
    if not hashes:
        return EMPTY_ROOT
    lines: Iterator[bytes] = reversed(hashes)
    folded = next(lines)
    for line in lines:
        folded = node_hash(line, folded)
    return folded


def _halves(tree: range) -> tuple[range, range]:
    """The children of a tree: the left one has the largest power of two of leaves that leaves
    something to the right one.
    """
    middle = tree.start + (1 << ((len(tree) - 1).bit_length() - 1))
    return range(tree.start, middle), range(middle, tree.stop)


def _require_hashes(*hashes: bytes) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise InvalidProof(f"a hash has {HASH_BYTES} bytes")
