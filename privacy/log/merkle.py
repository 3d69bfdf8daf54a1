"""Merkle trees as in RFC 9162, section 2.1 (RFC 6962's hashes), and what can be proven of them.

    leaf = SHA-256(0x00 | entry)      node = SHA-256(0x01 | left | right)      no leaf: SHA-256("")

A tree of n leaves has at its left the largest complete tree of fewer than n leaves, 2^k. Only
hashes of complete subtrees are ever kept: (level, place) is that of the leaves from place 2^level
on, 2^level of them, and never changes. All else is worked out from O(log n) of these.

Guarantees, each with a test: proofs are those of the RFCs, byte for byte; a proof of another leaf,
place, size or root is refused, and so is one with a hash too many or too few.
"""

# Why: docs/adr/0059-a-log-that-every-site-witnesses.md

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from privacy.errors import LogError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

Nodes: TypeAlias = Callable[[int, int], bytes]  # (level, place) -> hash of a complete subtree

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry, 32 bytes."""
    return hashlib.sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees, 32 bytes."""
    return hashlib.sha256(_NODE + left + right).digest()


def root_over(leaves: Iterable[bytes]) -> bytes:
    """The root over these leaf hashes, in order; keeps O(log n) of them in memory."""
    edge: list[tuple[int, bytes]] = []  # (level, hash) of complete subtrees, the largest first
    for leaf in leaves:
        edge.append((0, leaf))
        while len(edge) > 1 and edge[-1][0] == edge[-2][0]:
            (level, left), (_, right) = edge[-2:]
            edge[-2:] = [(level + 1, node_hash(left, right))]
    if not edge:
        return EMPTY_ROOT
    root = edge[-1][1]
    for _, left in reversed(edge[:-1]):
        root = node_hash(left, root)
    return root


def grown(size: int, leaves: Iterable[bytes], nodes: Nodes) -> Iterator[tuple[int, int, bytes]]:
    """The complete subtrees, (level, place, hash), that `leaves` add to a tree of `size` leaves.

    `nodes` is asked for older ones only.
    """
    made: dict[tuple[int, int], bytes] = {}
    for place, leaf in enumerate(leaves, size):
        level, found = 0, leaf
        while True:
            made[level, place] = found
            yield level, place, found
            if place % 2 == 0:
                break
            before = made.pop((level, place - 1), None) or nodes(level, place - 1)
            found, place, level = node_hash(before, found), place // 2, level + 1


def tree_root(size: int, nodes: Nodes) -> bytes:
    """The root of the tree's first `size` leaves."""
    return _range(0, size, nodes) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, nodes: Nodes) -> tuple[bytes, ...]:
    """PATH(index, D[size]) of RFC 9162, 2.1.3.1: what proves leaf `index` of `size`."""
    if not 0 <= index < size:
        raise LogError(f"There is no leaf {index} in a tree of {size}.")
    found: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            found.append(_range(middle, end, nodes))
            end = middle
        else:
            found.append(_range(start, middle, nodes))
            start = middle
    return tuple(reversed(found))


def consistency_proof(old: int, new: int, nodes: Nodes) -> tuple[bytes, ...]:
    """PROOF(old, D[new]) of RFC 9162, 2.1.4.1: what proves that `old` leaves are the first."""
    if not 0 < old <= new:
        raise LogError(f"No proof leads from {old} leaves to {new}.")
    found: list[bytes] = []
    start, end, whole = 0, new, True
    while old != end - start:
        middle = _split(end - start)
        if old <= middle:
            found.append(_range(start + middle, end, nodes))
            end = start + middle
        else:
            found.append(_range(start, start + middle, nodes))
            start, old, whole = start + middle, old - middle, False
    if not whole:
        found.append(_range(start, end, nodes))
    return tuple(reversed(found))


def check_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Raise `LogError` unless `leaf` (a leaf's hash) is number `index` of `size` under `root`.

    RFC 9162, 2.1.3.2.
    """
    if not 0 <= index < size:
        raise _unproven("it is for a leaf that the tree does not have")
    place, last, found = index, size - 1, leaf
    for one in proof:
        if last == 0:
            raise _unproven("it has too many hashes")
        if place % 2 or place == last:
            found = node_hash(one, found)
            while place % 2 == 0 and place:
                place, last = place // 2, last // 2
        else:
            found = node_hash(found, one)
        place, last = place // 2, last // 2
    if last:
        raise _unproven("it has too few hashes")
    if found != root:
        raise _unproven("it leads to another root")


def check_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise `LogError` unless the tree of `old` leaves is the beginning of the one of `new`.

    RFC 9162, 2.1.4.2.
    """
    if not 0 < old <= new:
        raise _unproven(f"a tree of {new} leaves does not continue one of {old}")
    if old == new:
        if proof or old_root != new_root:
            raise _unproven("two trees of one size are not the same")
        return
    hashes = list(proof)
    place, last = old - 1, new - 1
    while place % 2:
        place, last = place // 2, last // 2
    if place == 0:  # the old tree is complete, and begins its own proof
        hashes.insert(0, old_root)
    if not hashes:
        raise _unproven("it has too few hashes")
    first = second = hashes[0]
    for one in hashes[1:]:
        if last == 0:
            raise _unproven("it has too many hashes")
        if place % 2 or place == last:
            first, second = node_hash(one, first), node_hash(one, second)
            while place % 2 == 0 and place:
                place, last = place // 2, last // 2
        else:
            second = node_hash(second, one)
        place, last = place // 2, last // 2
    if last:
        raise _unproven("it has too few hashes")
    if first != old_root or second != new_root:
        raise _unproven("it leads to other roots")


def _range(start: int, end: int, nodes: Nodes) -> bytes:
    """The root over the leaves from `start` to before `end`; a place where trees begin."""
    parts: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append(nodes(level, start >> level))
        start += 1 << level
    root = parts.pop()
    while parts:
        root = node_hash(parts.pop(), root)
    return root


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _unproven(why: str) -> LogError:
    return LogError(
        f"A proof of the log does not hold: {why}.",
        "Trust nothing that rests on it; compare checkpoints with the other sites.",
    )
