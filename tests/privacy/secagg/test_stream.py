"""The mask stream: published vectors, an independent oracle, chunk edges, and sums."""

from __future__ import annotations

import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import SecAggError
from privacy.secagg import stream
from privacy.secagg.stream import CHUNK_LANES, STREAM_CHUNK_BYTES, Keystream, apply_masks

SEED = bytes(range(32))


def oracle(seed: bytes, chunk: int, count: int) -> bytes:
    """The stream from single AES blocks, counters written out."""
    blocks = -(-count // 16)
    counters = b"".join(
        chunk.to_bytes(12, "big") + (2 + k).to_bytes(4, "big") for k in range(blocks)
    )
    encryptor = Cipher(algorithms.AES256(seed), modes.ECB()).encryptor()
    return encryptor.update(counters)[:count]


def words(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<u8")


def test_aes_256_in_counter_mode_as_in_nist_sp_800_38a():
    """F.5.5 CTR-AES256.Encrypt: the mode that the stream is defined by."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    text = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
    sealed = "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    assert Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor().update(text).hex() == (
        sealed
    )
    # and from single blocks, the way the oracle works
    block = Cipher(algorithms.AES256(key), modes.ECB()).encryptor().update(counter)
    assert bytes(a ^ b for a, b in zip(block, text, strict=False)).hex() == sealed[:32]


def test_the_zero_seed_starts_as_in_the_gcm_specification():
    """McGrew and Viega, The Galois/Counter Mode of Operation, test case 14."""
    assert Keystream(bytes(32)).lanes(0, 2).tobytes().hex() == "cea7403d4d606b6e074ec5d3baf39d18"


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (0, "0ebcb5deb52c83bd08a8a935182c9199"),
        (1, "15d6bffc44f4301e0e2e5139eca63af7"),
        (2**64, "4436cdaa0c5af4a85f3c6590a9bd3580"),
    ],
)
def test_known_answers(chunk, expected):
    """First block of a chunk of the seed 000102..1f: AES(seed, chunk as 12 bytes | 00000002)."""
    assert Keystream(SEED).lanes(chunk, 2).tobytes().hex() == expected


@pytest.mark.parametrize("chunk", [0, 1, 255, 2**40])
@pytest.mark.parametrize("lanes", [0, 1, 2, 3, CHUNK_LANES - 1, CHUNK_LANES])
def test_the_stream_is_counter_mode(chunk, lanes):
    assert Keystream(SEED).lanes(chunk, lanes).tobytes() == oracle(SEED, chunk, 8 * lanes)


@pytest.mark.parametrize("count", [0, 8, 24, STREAM_CHUNK_BYTES])
def test_both_ways_to_make_it_give_the_same_bytes(count):
    made = []
    for fill in (stream._fill_by_gcm, stream._fill_by_ctr):
        room = bytearray(count + 16)
        fill(SEED, stream.AESGCM(SEED), 5, memoryview(room))
        made.append(bytes(room[:count]))
    assert made[0] == made[1] == oracle(SEED, 5, count)


def test_chunks_can_be_made_in_any_order():
    forwards, backwards = Keystream(SEED), Keystream(SEED)
    first = [forwards.lanes(k, 9).tobytes() for k in range(4)]
    assert [backwards.lanes(k, 9).tobytes() for k in reversed(range(4))] == first[::-1]
    assert len(set(first)) == 4


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_seeds_of_another_length_are_refused(length):
    with pytest.raises(SecAggError, match="seed"):
        Keystream(bytes(length))


@pytest.mark.parametrize(
    "length", [0, 1, CHUNK_LANES - 1, CHUNK_LANES, CHUNK_LANES + 1, 2 * CHUNK_LANES + 3]
)
def test_masks_are_whole_streams_with_their_signs(length):
    plus, minus = os.urandom(32), os.urandom(32)
    start = words(os.urandom(8 * length)).copy()
    lanes = start.copy()
    apply_masks(lanes, [(plus, 1), (minus, -1)])
    for chunk, at in enumerate(range(0, length, CHUNK_LANES)):
        part = slice(at, min(at + CHUNK_LANES, length))
        count = 8 * (part.stop - part.start)
        expected = start[part] + words(oracle(plus, chunk, count))
        expected -= words(oracle(minus, chunk, count))
        np.testing.assert_array_equal(lanes[part], expected)


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 2 * CHUNK_LANES), st.data())
def test_opposite_signs_cancel_exactly(peers, length, data):
    seeds = [(os.urandom(32), data.draw(st.sampled_from([1, -1]))) for _ in range(peers)]
    lanes = np.arange(length, dtype=np.uint64)
    apply_masks(lanes, seeds)
    apply_masks(lanes, [(seed, -sign) for seed, sign in reversed(seeds)])
    np.testing.assert_array_equal(lanes, np.arange(length, dtype=np.uint64))


def test_the_stream_can_be_replaced_by_a_table():
    class Table:
        def __init__(self, seed):
            self._word = np.uint64(seed[0])

        def lanes(self, chunk, count):
            return np.full(count, self._word + np.uint64(100 * chunk))

    lanes = np.zeros(CHUNK_LANES + 1, np.uint64)
    apply_masks(lanes, [(b"\x07", 1), (b"\x02", -1), (b"\x01", 1)], Table)
    assert (lanes[:CHUNK_LANES] == 6).all()
    assert lanes[CHUNK_LANES] == 106


@pytest.mark.parametrize(
    "lanes",
    [
        np.zeros(4, np.int64),
        np.zeros((2, 2), np.uint64),
        np.zeros(8, np.uint64)[::2],
        np.zeros(4, np.float64),
    ],
)
def test_other_lanes_are_refused(lanes):
    with pytest.raises(SecAggError, match="64-bit words"):
        apply_masks(lanes, [(SEED, 1)])
    assert not lanes.any()


@pytest.mark.parametrize("bad", [(SEED, 0), (SEED, 2), (bytes(31), 1)])
def test_a_bad_mask_changes_nothing(bad):
    lanes = np.zeros(4, np.uint64)
    with pytest.raises(SecAggError):
        apply_masks(lanes, [(SEED, 1), bad])
    assert not lanes.any()


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("lanes", [0, 1, CHUNK_LANES - 2, CHUNK_LANES, CHUNK_LANES + 1])
def test_shorter_words_and_lanes_behind_them_take_the_stream_in_order(kind, lanes):
    words = np.zeros(lanes * 8 // np.dtype(kind).itemsize, kind)
    behind = np.zeros(3, np.uint64)
    apply_masks(words, [(SEED, 1)], behind=behind)
    whole = np.zeros(lanes + 3, np.uint64)
    apply_masks(whole, [(SEED, 1)])
    assert words.tobytes() + behind.tobytes() == whole.tobytes()
    apply_masks(words, [(SEED, -1)], behind=behind)
    assert not words.any()
    assert not behind.any()


def test_words_that_do_not_fill_their_last_lane_are_refused():
    with pytest.raises(SecAggError):
        apply_masks(np.zeros(3, np.uint16), [(SEED, 1)])
