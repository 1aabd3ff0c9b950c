"""The tree's hashes and proofs, against published vectors and against another's implementation."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree
from pymerkle import verify_consistency as their_verify_consistency
from pymerkle import verify_inclusion as their_verify_inclusion

from app.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    InvalidProof,
    Node,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    node_hash,
    nodes_of,
    range_hash,
    subtree_hash,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves, the roots of their first one to eight, and the proofs of the reference
# implementation of certificate transparency.
ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {  # by index and size
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {  # by the old size and the new one
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(b"entry %d" % i) for i in range(size)]


class Tree:
    """A tree with all its nodes, and so with every proof."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves
        self.frontier, self.nodes = Frontier().extended(leaves)

    def root(self, size: int) -> bytes:
        return range_hash(range(size), self.nodes)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        return [range_hash(part, self.nodes) for part in inclusion_ranges(index, size)]

    def consistency(self, old: int, new: int) -> list[bytes]:
        return [range_hash(part, self.nodes) for part in consistency_ranges(old, new)]


# What follows is RFC 9162 §2.1.1, §2.1.3.1 and §2.1.4.1 read literally, in none of the code's words.


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d: list[bytes]) -> bytes:
    if not d:
        return hashlib.sha256().digest()
    if len(d) == 1:
        return d[0]
    k = split(len(d))
    return hashlib.sha256(b"\x01" + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: list[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = split(len(d))
    if m < k:
        return [*path(m, d[:k]), mth(d[k:])]
    return [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: list[bytes], b: bool) -> list[bytes]:
    if m == len(d):
        return [] if b else [mth(d)]
    k = split(len(d))
    if m <= k:
        return [*subproof(m, d[:k], b), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


REFERENCE = Tree([leaf_hash(entry) for entry in ENTRIES])
GROWN = Tree(leaves_of(600))

sizes = st.integers(1, 600)


def test_the_roots_are_the_published_ones() -> None:
    for size, root in enumerate(ROOTS):
        assert REFERENCE.root(size).hex() == root
        frontier, _ = Frontier().extended(REFERENCE.leaves[:size])
        assert frontier.root.hex() == root
    assert EMPTY_ROOT.hex() == ROOTS[0]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_the_inclusion_proofs_are_the_published_ones(index: int, size: int) -> None:
    proof = REFERENCE.inclusion(index, size)
    assert [line.hex() for line in proof] == INCLUSION[index, size]
    verify_inclusion(REFERENCE.leaves[index], index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_the_consistency_proofs_are_the_published_ones(old: int, new: int) -> None:
    proof = REFERENCE.consistency(old, new)
    assert [line.hex() for line in proof] == CONSISTENCY[old, new]
    verify_consistency(old, bytes.fromhex(ROOTS[old]), new, bytes.fromhex(ROOTS[new]), proof)


def test_every_root_and_proof_is_the_one_by_definition() -> None:
    for size in range(40):
        leaves = GROWN.leaves[:size]
        assert GROWN.root(size) == mth(leaves)
        for index in range(size):
            assert GROWN.inclusion(index, size) == path(index, leaves)
        for old in range(1, size + 1):
            assert GROWN.consistency(old, size) == subproof(old, leaves, True)


@given(st.lists(st.integers(0, 40), max_size=12))
def test_a_frontier_grows_the_same_in_any_number_of_steps(steps: list[int]) -> None:
    """Whatever the batches were, size and root are those of the leaves; and it can be kept."""
    frontier, nodes = Frontier(), dict[Node, bytes]()
    for step in steps:
        more = GROWN.leaves[frontier.size : frontier.size + step]
        frontier, completed = Frontier.from_bytes(frontier.size, bytes(frontier)).extended(more)
        assert not completed.keys() & nodes.keys(), "a node is completed once"
        nodes |= completed
    assert frontier.root == GROWN.root(frontier.size)
    assert nodes == {
        node: said
        for node, said in GROWN.nodes.items()
        if (node.number + 1) << node.level <= frontier.size
    }


@pytest.mark.parametrize("level", [0, 1, 3])
def test_a_frontier_grows_by_whole_subtrees_as_by_their_leaves(level: int) -> None:
    """And by nothing that could not come next."""
    wide = 1 << level
    frontier, _ = Frontier().extended(GROWN.leaves[: 2 * wide])
    more = GROWN.leaves[2 * wide : 5 * wide]
    by_leaves, of_leaves = frontier.extended(more)
    tops = [subtree_hash(more[i : i + wide]) for i in range(0, len(more), wide)]
    by_nodes, of_nodes = frontier.extended(tops, level=level)

    assert by_nodes == by_leaves
    assert of_nodes == {node: said for node, said in of_leaves.items() if node.level >= level}
    if level:
        beside, _ = frontier.extended(more[:1])
        with pytest.raises(ValueError, match="comes next in a tree"):
            beside.extended(tops, level=level)


def test_an_append_hashes_twice_a_leaf_at_most_on_average_once() -> None:
    inner = [node for node in GROWN.nodes if node.level]
    assert len(inner) < len(GROWN.leaves)


@given(st.integers(0, 2**40))
def test_the_nodes_of_a_tree_are_one_for_each_bit_of_its_size(size: int) -> None:
    nodes = nodes_of(range(size))
    assert [1 << node.level for node in nodes] == [
        1 << bit for bit in reversed(range(41)) if size >> bit & 1
    ]
    ends = [(node.number + 1) << node.level for node in nodes]
    assert [node.number << node.level for node in nodes] == [0, *ends][:-1]


@given(st.data(), st.integers(1, 2**50))
def test_a_proof_needs_few_hashes_however_large_the_tree(data: st.DataObject, size: int) -> None:
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    most = (size - 1).bit_length()
    assert len(inclusion_ranges(index, size)) <= most
    assert len(consistency_ranges(old, size)) <= most + 1
    for part in (*inclusion_ranges(index, size), *consistency_ranges(old, size)):
        assert len(nodes_of(part)) <= most


@given(st.data(), sizes)
def test_inclusion_is_proven_and_another_agrees(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaf, root, proof = GROWN.leaves[index], GROWN.root(size), GROWN.inclusion(index, size)
    verify_inclusion(leaf, index, size, proof, root)

    theirs = ANOTHER.prove_inclusion(index + 1, size)
    their_verify_inclusion(leaf, root, theirs)
    assert set(theirs.path) == {leaf, *proof}


@given(st.data(), sizes)
def test_consistency_is_proven_and_another_agrees(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new))
    proof = GROWN.consistency(old, new)
    verify_consistency(old, GROWN.root(old), new, GROWN.root(new), proof)

    theirs = ANOTHER.prove_consistency(old, new)
    their_verify_consistency(GROWN.root(old), GROWN.root(new), theirs)


def test_any_tree_extends_the_empty_one() -> None:
    for size in range(5):
        verify_consistency(0, EMPTY_ROOT, size, GROWN.root(size), [])
        with pytest.raises(InvalidProof):
            verify_consistency(0, GROWN.root(5), size, GROWN.root(size), [])


# --- What proves nothing -----------------------------------------------------------------------


def damaged(data: st.DataObject, proof: list[bytes]) -> list[bytes]:
    """A proof that differs from *proof*."""
    ways = ["longer", "another in front"]
    if proof:
        ways += ["shorter", "without the first", "a flipped bit", "a short hash"]
    if any(a != b for a, b in pairwise(proof)):
        ways.append("reversed")
    way = data.draw(st.sampled_from(ways))
    other = data.draw(st.sampled_from([bytes(32), GROWN.leaves[0], GROWN.root(600)]))
    if way == "longer":
        return [*proof, other]
    if way == "another in front":
        return [other, *proof]
    if way == "shorter":
        return proof[:-1]
    if way == "without the first":
        return proof[1:]
    if way == "reversed":
        return proof[::-1]
    i = data.draw(st.integers(0, len(proof) - 1))
    line = proof[i]
    if way == "a flipped bit":
        bit = 1 << data.draw(st.integers(0, 255))
        line = (int.from_bytes(line, "big") ^ bit).to_bytes(32, "big")
    else:
        line = line[:-1]
    return [*proof[:i], line, *proof[i + 1 :]]


@given(st.data(), sizes)
def test_a_damaged_inclusion_proof_proves_nothing(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = damaged(data, GROWN.inclusion(index, size))
    with pytest.raises(InvalidProof):
        verify_inclusion(GROWN.leaves[index], index, size, proof, GROWN.root(size))


@given(st.data(), st.integers(2, 600))
def test_a_damaged_consistency_proof_proves_nothing(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new - 1))
    proof = damaged(data, GROWN.consistency(old, new))
    with pytest.raises(InvalidProof):
        verify_consistency(old, GROWN.root(old), new, GROWN.root(new), proof)


@given(st.data(), st.integers(2, 600))
def test_a_proof_speaks_for_one_leaf_at_one_place_of_one_tree(
    data: st.DataObject, size: int
) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = GROWN.inclusion(index, size)
    other = data.draw(st.integers(-1, size + 1).filter(lambda i: i != index))
    with pytest.raises(InvalidProof):
        verify_inclusion(GROWN.leaves[index], other, size, proof, GROWN.root(size))
    with pytest.raises(InvalidProof):
        verify_inclusion(GROWN.leaves[other % size], index, size, proof, GROWN.root(size) * 2)
    if other % size != index:
        with pytest.raises(InvalidProof):
            verify_inclusion(GROWN.leaves[other % size], index, size, proof, GROWN.root(size))
    with pytest.raises(InvalidProof):
        verify_inclusion(GROWN.leaves[index], index, size, proof, GROWN.root(size - 1))


@given(st.data(), st.integers(2, 600))
def test_a_tree_that_was_rewritten_is_consistent_with_nothing_after_that(
    data: st.DataObject, new: int
) -> None:
    """Whichever leaf of the old tree was changed, and whoever makes the proof."""
    old = data.draw(st.integers(1, new - 1))
    changed = data.draw(st.integers(0, old - 1))
    leaves = [*GROWN.leaves]
    leaves[changed] = leaf_hash(b"another past")
    forged = Tree(leaves[:new])
    for proof in (forged.consistency(old, new), GROWN.consistency(old, new)):
        with pytest.raises(InvalidProof):
            verify_consistency(old, GROWN.root(old), new, forged.root(new), proof)


@pytest.mark.parametrize(("size", "said"), [(16, "too short"), (9, "too short"), (4, "too long")])
def test_a_proof_has_the_length_that_its_tree_asks_for(size: int, said: str) -> None:
    """The hashes would lead to the right root: a shorter way names an inner node as a leaf."""
    with pytest.raises(InvalidProof, match=said):
        verify_inclusion(GROWN.leaves[0], 0, size, GROWN.inclusion(0, 8), GROWN.root(8))
    with pytest.raises(InvalidProof, match=said):
        verify_consistency(3, GROWN.root(3), size, GROWN.root(8), GROWN.consistency(3, 8))


def test_a_byte_does_not_move_from_one_hash_to_the_next() -> None:
    """What is hashed are two hashes one after the other; where the first ends is not hashed."""
    leaf, proof = GROWN.leaves[0], GROWN.inclusion(0, 8)
    moved = [leaf[-1:] + proof[0], *proof[1:]]
    with pytest.raises(InvalidProof, match="32 bytes"):
        verify_inclusion(leaf[:-1], 0, 8, moved, GROWN.root(8))
    proof = GROWN.consistency(4, 5)
    assert proof == [GROWN.leaves[4]]
    moved = [GROWN.root(4)[-1:] + proof[0]]
    with pytest.raises(InvalidProof, match="32 bytes"):
        verify_consistency(4, GROWN.root(4)[:-1], 5, GROWN.root(5), moved)


def test_what_cannot_be_is_refused() -> None:
    root = GROWN.root(4)
    with pytest.raises(InvalidProof, match="extend"):
        verify_consistency(5, root, 4, root, [])
    with pytest.raises(InvalidProof, match="too long"):
        verify_consistency(4, root, 4, root, [root])
    with pytest.raises(InvalidProof, match="differ"):
        verify_consistency(4, root, 4, GROWN.root(5), [])
    with pytest.raises(InvalidProof, match="another root"):
        verify_consistency(0, root, 0, root, [])
    with pytest.raises(InvalidProof, match="too short"):
        verify_consistency(3, GROWN.root(3), 4, root, [])
    with pytest.raises(InvalidProof, match="no leaf"):
        verify_inclusion(root, 0, 0, [], EMPTY_ROOT)
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_ranges(4, 4)
    with pytest.raises(ValueError, match="extend"):
        consistency_ranges(5, 4)
    with pytest.raises(ValueError, match="cover"):
        Frontier(3, (root,))
    with pytest.raises(ValueError, match="32 bytes"):
        Frontier(1, (root[:31],))
    with pytest.raises(KeyError):
        range_hash(range(3), {Node(1, 0): root})


def test_a_leaf_is_never_taken_for_an_inner_node() -> None:
    """Without the byte before them, two hashes would be an entry whose hash is their parent's."""
    left, right = GROWN.leaves[:2]
    assert leaf_hash(left + right) != node_hash(left, right)


ANOTHER = InmemoryTree(algorithm="sha256")
"""The same entries in a tree of another's making."""
for _i in range(600):
    ANOTHER.append_entry(b"entry %d" % _i)
