from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import LogError
from privacy.log.merkle import (
    EMPTY_ROOT,
    check_consistency,
    check_inclusion,
    consistency_proof,
    grown,
    inclusion_proof,
    leaf_hash,
    root_over,
    tree_root,
)

# The entries and roots that Certificate Transparency's implementations are tested with.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        *("", "00", "10", "2021", "3031", "40414243"),
        *("5051525354555657", "606162636465666768696a6b6c6d6e6f"),
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
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
INCLUSION = {
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
}
CONSISTENCY = {
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}


class Tree:
    """The complete subtrees of some leaves, as the store keeps them."""

    def __init__(self, leaves: list[bytes], steps: list[int] | None = None) -> None:
        self.held: dict[tuple[int, int], bytes] = {}
        bounds = sorted({0, len(leaves), *(step for step in steps or [] if step < len(leaves))})
        for begin, end in pairwise(bounds):
            for level, place, digest in grown(begin, leaves[begin:end], self.node):
                assert (level, place) not in self.held
                self.held[level, place] = digest

    def node(self, level: int, place: int) -> bytes:
        return self.held[level, place]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 9162, 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """RFC 9162, 2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size: int) -> None:
    tree = Tree(LEAVES)
    assert root_over(LEAVES[:size]).hex() == ROOTS[size]
    assert tree_root(size, tree.node).hex() == ROOTS[size]
    assert bytes.fromhex(ROOTS[0]) == EMPTY_ROOT


def test_known_proofs() -> None:
    tree = Tree(LEAVES)
    for (index, size), proof in INCLUSION.items():
        assert tuple(one.hex() for one in inclusion_proof(index, size, tree.node)) == proof
    for (old, new), proof in CONSISTENCY.items():
        assert tuple(one.hex() for one in consistency_proof(old, new, tree.node)) == proof


@given(st.integers(1, 70), st.lists(st.integers(0, 70), max_size=4), st.data())
def test_proofs_are_those_of_the_naive_tree(
    size: int, steps: list[int], data: st.DataObject
) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(size)]
    tree = Tree(leaves, steps)
    assert root_over(leaves) == tree_root(size, tree.node) == naive_root(leaves)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    path = inclusion_proof(index, size, tree.node)
    assert list(path) == naive_path(index, leaves)
    check_inclusion(leaves[index], index, size, path, naive_root(leaves))
    proof = consistency_proof(old, size, tree.node)
    assert list(proof) == naive_subproof(old, leaves, True)
    check_consistency(old, naive_root(leaves[:old]), size, naive_root(leaves), proof)


def changed(proof: tuple[bytes, ...], data: st.DataObject) -> tuple[bytes, ...]:
    """Another list of hashes than `proof`."""
    ways = [(*proof, bytes(32)), (bytes(32), *proof)]
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        flipped = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        ways += [proof[:-1], proof[1:], (*proof[:at], flipped, *proof[at + 1 :])]
    return data.draw(st.sampled_from(ways))


@given(st.integers(1, 40), st.data())
def test_another_leaf_place_size_root_or_proof_is_refused(size: int, data: st.DataObject) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(size)]
    tree, root = Tree(leaves), naive_root(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, tree.node)
    good = (leaves[index], index, size, proof, root)
    other = data.draw(st.integers(-1, size + 1).filter(lambda place: place != index))
    for bad in (
        (leaf_hash(b"other"), *good[1:]),
        (good[0], other, *good[2:]),
        (*good[:3], changed(proof, data), root),
        (*good[:4], leaf_hash(b"root")),
    ):
        with pytest.raises(LogError):
            check_inclusion(*bad)


@given(st.integers(1, 40), st.data())
def test_a_history_that_was_changed_has_no_proof(size: int, data: st.DataObject) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(size)]
    tree, root = Tree(leaves), naive_root(leaves)
    old = data.draw(st.integers(1, size))
    proof = consistency_proof(old, size, tree.node)
    at = data.draw(st.integers(0, old - 1))
    forked = naive_root([*leaves[:at], leaf_hash(b"other"), *leaves[at + 1 : old]])
    before = naive_root(leaves[:old])
    for bad in (
        (old, forked, size, root, proof),
        (old, before, size, leaf_hash(b"root"), proof),
        (old, before, size, root, changed(proof, data)),
        (size + 1, before, size, root, proof),
        (0, EMPTY_ROOT, size, root, proof),
    ):
        with pytest.raises(LogError):
            check_consistency(*bad)


def test_what_no_tree_can_prove_is_not_tried() -> None:
    tree = Tree(LEAVES)
    for index, size in ((8, 8), (-1, 8), (0, 0)):
        with pytest.raises(LogError):
            inclusion_proof(index, size, tree.node)
    for old, new in ((0, 8), (9, 8)):
        with pytest.raises(LogError):
            consistency_proof(old, new, tree.node)
