"""Only the sum: what the coordinator and its colluders see, byte for byte.

The streams are truly random tables here, one for each pair and label, as in the proof: the masks of
honest pairs are what the adversary does not know.
"""

from itertools import combinations, pairwise
from unittest import mock

import numpy as np
import pytest

from privacy.secagg.sealed import attempt
from tests.privacy.secagg.sealed.world import BITS, SealedWorld, added, numbers_of

Table = dict[tuple[bytes, int], np.ndarray]  # by seed and part
Parts = tuple[np.ndarray, ...]  # words of the numbers, lanes of the proof


class Observed:
    """One step with masks from `table`: all bytes that come, and who had which seed and vector."""

    def __init__(self, sites, vectors, table: Table, silent=(), n_c=0):
        self.table, self.unmasked, self.pairs = table, {}, {}
        world = SealedWorld(sites, n_c=n_c)
        server = world.open()
        world.begin(server)
        world.take_up(server)
        for site, client in world.clients.items():
            peers = [peer for peer in sites if peer != site]
            secrets = client._open._secrets
            for peer, (seed, _) in zip(peers, secrets.seeds, strict=True):
                self.pairs[min(site, peer), max(site, peer)] = ((seed, 0), (seed, 1))
        for site in (one for one in sites if one not in silent):
            with mock.patch.object(attempt, "apply_masks", self._masks(site)):
                world.clients[site].provide(world.clients[site].pending.label, vectors[site])
        world.to_slot()
        self.bytes = {
            site: answer.encode() for site, answer in world.collect(server, silent).items()
        }
        self.sum = None if silent else server.result()

    def _masks(self, site):
        rng = np.random.default_rng(site)

        def apply(words, seeds, behind):
            self.unmasked[site] = words.copy(), behind.copy()
            for seed, sign in seeds:
                for part, row in enumerate((words, behind)):
                    most, key = 2 ** (8 * row.itemsize), (seed, part)
                    if key not in self.table:
                        self.table[key] = rng.integers(0, most, row.size, dtype=row.dtype)
                    (np.add if sign > 0 else np.subtract)(row, self.table[key], out=row)

        return apply


def moved(table: Table, first: Observed, wanted: dict[int, Parts], path) -> Table:
    """Masks with which other vectors look the same: along a path of honest sites, each pair's mask
    takes up what the vectors so far differ by. As likely a table as the first."""
    table = dict(table)
    for part in (0, 1):
        carried = np.zeros_like(wanted[path[0]][part])
        for site, neighbour in pairwise(path):
            carried = carried + first.unmasked[site][part] - wanted[site][part]
            seed = first.pairs[min(site, neighbour), max(site, neighbour)][part]
            # What the lower site adds, the higher one subtracts.
            table[seed] = table[seed] + (carried if site < neighbour else 0 - carried)
    return table


def drawn(world: SealedWorld, seed: int) -> dict[int, np.ndarray]:
    """What the sites have drawn, int64 [n]."""
    return {site: numbers_of(lanes) for site, lanes in world.vectors(seed).items()}


def sum_over(vectors: dict[int, np.ndarray], sites) -> np.ndarray:
    return sum(vectors[site] for site in sites)


SITES = (2, 5, 8, 11, 14)


@pytest.mark.parametrize("far", [0, 1 << (BITS - 1), 1 << 40], ids=lambda far: f"far {far}")
@pytest.mark.parametrize("colluders", [0, 1, 2, 3], ids=lambda n_c: f"n_c {n_c}")
def test_any_inputs_with_the_same_honest_sum_give_the_same_view(colluders, far):
    """Up to n_c = k - 2. The colluders' vectors and all masks that they know stay as they are.

    `far`: also where numbers of one site are beyond the b bits in which the sum still fits. A tag
    of numbers modulo 2^b would tell the colluders, and every other member, whose they were.
    """
    honest = SITES[colluders:]
    world = SealedWorld(SITES)
    vectors = drawn(world, 1)
    first = Observed(SITES, vectors, {}, n_c=colluders)

    others = {**vectors, **{site: drawn(world, 2)[site] for site in honest[:-1]}}
    others[honest[0]][::7] += far
    others[honest[-1]] = sum_over(vectors, honest) - sum_over(others, honest[:-1])
    unmasked = Observed(SITES, others, dict(first.table), n_c=colluders).unmasked
    table = moved(first.table, first, unmasked, honest)
    known = [seeds for pair, seeds in first.pairs.items() if set(pair) & set(SITES[:colluders])]
    assert all(table[seed] is first.table[seed] for seeds in known for seed in seeds)

    second = Observed(SITES, others, table, n_c=colluders)
    assert any(not np.array_equal(vectors[site], others[site]) for site in honest)
    assert second.bytes == first.bytes
    assert second.sum == first.sum


def test_inputs_with_another_honest_sum_do_not():
    world = SealedWorld(SITES)
    vectors = drawn(world, 1)
    first = Observed(SITES, vectors, {})
    others = {**vectors, 5: vectors[5] ^ np.eye(1, len(vectors[5]), dtype=np.int64)[0]}
    for pair in [None, *combinations(SITES, 2)]:
        table = dict(first.table)
        if pair is not None:
            seed = first.pairs[pair][0]
            table[seed] = table[seed] + np.eye(1, len(table[seed]), dtype=np.uint16)[0]
        assert Observed(SITES, others, table).bytes != first.bytes


@pytest.mark.parametrize("missing", [2, 8, 14])
def test_with_one_honest_member_missing_the_others_lanes_are_uniform(missing):
    """Whatever the others' vectors were, even with another sum, there is such a table."""
    world = SealedWorld(SITES)
    vectors, others = drawn(world, 1), drawn(world, 2)
    left = [site for site in SITES if site != missing]
    first = Observed(SITES, vectors, {}, silent=(missing,))
    unmasked = Observed(SITES, others, dict(first.table), silent=(missing,)).unmasked
    table = moved(first.table, first, unmasked, (*left, missing))
    second = Observed(SITES, others, table, silent=(missing,))
    assert any(not np.array_equal(vectors[site], others[site]) for site in left)
    assert not np.array_equal(sum_over(vectors, left), sum_over(others, left))
    assert second.bytes == first.bytes


def test_the_bytes_of_masked_lanes_are_spread_evenly():
    """With the real stream: chi-squared over 256 values, and over the sum of all but one site."""
    world = SealedWorld((2, 5, 8), lanes=12 * 1_600)
    server = world.open()
    world.begin(server)
    world.take_up(server)
    world.provide({site: np.zeros(world.lanes, np.uint64) for site in world.sites})
    world.to_slot()
    sealed = world.collect(server)
    rows = [one.lanes for one in sealed.values()]
    pairs = [added([rows[0], rows[1]], proof=3), added([rows[1], rows[2]], proof=3)]
    for lanes in (*rows, *pairs):
        counts = np.bincount(np.frombuffer(lanes.tobytes(), np.uint8), minlength=256)
        expected = counts.sum() / 256
        chi = float(((counts - expected) ** 2 / expected).sum())
        assert chi < 255 + 6 * np.sqrt(2 * 255)  # six standard deviations
    assert not server.result().packed.any()
