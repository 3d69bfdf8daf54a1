"""Keys that only move on, against the library's HKDF."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from privacy.errors import SecAggError
from privacy.secagg.sealed import epochs
from privacy.secagg.sealed.epochs import EpochKeys, expanded, open_group, pair_root, seal_group

KEY = bytes(range(32))
DOMAIN = b"craftsfl sealed steps 1 "


def u64(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def test_expansion_is_that_of_rfc_5869():
    info = DOMAIN + b"mask" + u64(b"ab", b"")
    assert expanded(KEY, b"mask", b"ab", b"") == HKDFExpand(hashes.SHA256(), 32, info).derive(KEY)


def test_a_pairs_root_is_hkdf_with_a_constant_salt():
    salt = b"craftsfl sealed steps 1 session secrets"
    parts = (b"s" * 32, b"k" * 32, b"\0\3", b"\0\7", b"a" * 32, b"b" * 32)
    info = DOMAIN + b"pair" + u64(*parts)
    expected = HKDF(hashes.SHA256(), 32, salt, info).derive(KEY)
    ends = (3, b"a" * 32), (7, b"b" * 32)
    assert pair_root(KEY, b"s" * 32, b"k" * 32, *ends) == expected
    assert pair_root(KEY, b"s" * 32, b"k" * 32, *reversed(ends)) == expected


def test_no_two_lists_of_parts_have_one_expansion():
    made = {
        expanded(KEY, b"mask", *parts)
        for parts in ((b"ab",), (b"a", b"b"), (b"ab", b""), (), (b"",))
    }
    assert len(made) == 5


def test_a_long_way_is_many_short_ones_and_there_is_no_way_back():
    start = EpochKeys(0, {2: KEY, 5: bytes(32)}, b"n" * 32)
    step = start
    for _ in range(7):
        step = step.at(step.epoch + 1)
    assert start.at(7) == step
    assert step.pairs[2] == expanded(start.at(6).pairs[2], b"next")
    assert step.noise == expanded(start.at(6).noise, b"next")
    assert step.at(7) == step
    with pytest.raises(SecAggError):
        step.at(6)


def test_everything_hangs_on_the_label():
    for made in (epochs.mask_seed, epochs.check_of):
        assert made(KEY, b"l" * 32) != made(KEY, b"m" * 32)
    assert len(epochs.check_of(KEY, b"l" * 32)) == 8
    seeds = {
        epochs.noise_seed_of(KEY, label * 32, centres * 32)
        for label in (b"l", b"m")
        for centres in (b"c", b"d")
    }
    assert len(seeds) == 4


def test_a_box_opens_for_its_pair_and_dealer_only():
    box = seal_group(KEY, 5, b"g" * 32)
    assert len(box) == 48
    assert open_group(KEY, 5, box) == b"g" * 32
    for key, dealer, data in ((bytes(32), 5, box), (KEY, 6, box), (KEY, 5, bytes(48))):
        with pytest.raises(SecAggError):
            open_group(key, dealer, data)
