"""The tags: linear over packed vectors, and refuting what is not the sum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.mechanisms.pooled.packing import pack_signed, unpack_signed
from privacy.secagg.sealed import mac
from privacy.secagg.sealed.epochs import expanded
from privacy.secagg.sealed.mac import mac_key, proves, tags_of
from privacy.secagg.sealed.residues import residues_in, signed
from privacy.secagg.stream import CHUNK_LANES
from privacy.wire.sealed import OpenedSum
from tests.privacy.secagg.oracle import words
from tests.privacy.secagg.sealed.world import added

KEY = b"k" * 32
SITES = 3


def shares(bits: int, count: int, seed: int = 0) -> list[np.ndarray]:
    """Numbers of three sites whose sums just fit into a field."""
    most = ((1 << (bits - 1)) - 1) // SITES
    rng = np.random.default_rng(seed)
    return [rng.integers(-most, most, count, endpoint=True) for _ in range(SITES)]


def tagged(lanes: np.ndarray, bits: int, *, constant: bool = True) -> np.ndarray:
    """Of the numbers that the lanes stand for."""
    return tags_of(signed(residues_in(lanes, bits), bits), KEY, constant=constant)


def opened(lanes: np.ndarray, tags: np.ndarray) -> OpenedSum:
    lanes = np.concatenate((lanes, np.zeros(1, np.uint64), tags))
    return OpenedSum(1, 1, 1, bytes(32), (1, 2, 3), lanes)


@pytest.mark.parametrize("bits", range(3, 33))
def test_the_tags_of_the_sum_are_the_sum_of_the_tags(bits):
    numbers = shares(bits, 71)
    lanes = [pack_signed(one, bits) for one in numbers]
    tags = [tagged(one, bits, constant=not place) for place, one in enumerate(lanes)]
    total = added(lanes, bits)
    assert np.array_equal(unpack_signed(total, 71, bits), sum(numbers))
    assert proves(opened(total, np.sum(tags, axis=0, dtype=np.uint64)), bits, KEY)


def test_the_tags_are_those_of_the_specification():
    """Recomputed with Python's integers and AES-CTR."""
    bits, numbers = 11, [5, -7, 1023, -1024, 0, 3, -1, 2, 9, 10, -11]
    lanes = pack_signed(np.array(numbers), bits)
    for tag in (0, 1):
        beta = int.from_bytes(expanded(KEY, b"beta", bytes([tag]))[:8], "little")
        alphas = words(expanded(KEY, b"alpha", bytes([tag])), len(numbers))
        total = beta + sum(alpha * number for alpha, number in zip(alphas, numbers, strict=True))
        assert int(tagged(lanes, bits, constant=True)[tag]) == total % 2**64


def test_numbers_beyond_one_chunk_count_too():
    bits = 12
    lanes = np.zeros(bits * (CHUNK_LANES // 64 + 1), np.uint64)
    whole = tagged(lanes, bits, constant=True)
    lanes[-1] += np.uint64(1 << 63)  # the last number's highest bit
    assert not np.array_equal(tagged(lanes, bits, constant=True), whole)


@given(st.integers(0, 30), st.integers(1, 2**63), st.sampled_from([9, 10, 12, 15]))
def test_no_lane_can_be_changed(place, change, bits):
    total = pack_signed(np.sum(shares(bits, 130), axis=0), bits)
    tags = tagged(total, bits, constant=True)
    assert proves(opened(total, tags), bits, KEY)
    at = slice(place % len(total), place % len(total) + 1)
    total[at] += np.uint64(change)
    assert not proves(opened(total, tags), bits, KEY)


def test_a_number_that_differs_by_a_power_of_two_differs_in_the_tags():
    """The worst case of the bound: multiples of 2^(b-1) keep 65 - b secret bits of a tag."""
    bits, numbers = 12, np.zeros(20, np.int64)
    zero = tagged(pack_signed(numbers, bits), bits, constant=True)
    numbers[4] = -(1 << (bits - 1))
    tags = tagged(pack_signed(numbers, bits), bits, constant=True)
    low = np.uint64((1 << (bits - 1)) - 1)
    assert np.array_equal(tags & low, zero & low)
    assert (tags != zero).all()


def test_a_sum_that_left_its_field_is_refused():
    """Once in 5,000 steps by the choice of b: the attempt is then lost, and nothing else."""
    bits = 10
    lanes = [pack_signed(np.array([300, 1, 2]), bits) for _ in range(SITES)]
    tags = [tagged(one, bits, constant=not place) for place, one in enumerate(lanes)]
    total, proof = added(lanes, bits), np.sum(tags, axis=0, dtype=np.uint64)
    assert not proves(opened(total, proof), bits, KEY)


def test_a_site_beyond_its_field_shows_in_no_tag_and_costs_no_attempt():
    """A sum in which everything fits verifies, whatever its summands: the tags are of integers."""
    bits, near, far = 10, [300, 1, 2], [4000, 1, 2]
    tags = [tags_of(np.array(one), KEY, constant=True) for one in (near, far)]
    rest = [tags_of(np.array(one), KEY, constant=False) for one in ([-200, 0, 0], [-3900, 0, 0])]
    assert np.array_equal(tags[0] + rest[0], tags[1] + rest[1])
    assert proves(opened(pack_signed(np.array([100, 1, 2]), bits), tags[1] + rest[1]), bits, KEY)


def test_a_key_is_for_one_attempt_of_one_cohort():
    keys = {
        mac_key(b"g" * 32, label, when, cohort)
        for label in (bytes(32), b"l" * 32)
        for when in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2))
        for cohort in ((1, 2, 3), (1, 2))
    }
    assert len(keys) == 16
    first, second = (mac._constants(key) for key in sorted(keys)[:2])
    assert not np.array_equal(first, second)
