"""Keys: the primitives' published vectors, what is derived from them, and what is refused."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import SecAggError
from privacy.secagg import keys
from privacy.secagg.keys import KeyPair

FIELD = 2**255 - 19
TH = bytes([7]) * 32
OD = bytes([8]) * 32
SHARES = bytes(range(66))

# RFC 7748, section 6.1
ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"

# https://cr.yp.to/ecdh.html: all coordinates below 2^255 of points whose order divides 8
LOW_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    FIELD - 1,
    FIELD,
    FIELD + 1,
]


@pytest.fixture
def alice():
    return KeyPair(bytes.fromhex(ALICE))


@pytest.fixture
def bob():
    return KeyPair(bytes.fromhex(BOB))


def test_rfc_7748(alice, bob):
    assert alice.public.hex() == ALICE_PUBLIC
    assert bob.public.hex() == BOB_PUBLIC
    assert alice.exchange(bob.public).hex() == bob.exchange(alice.public).hex() == SHARED


def test_rfc_5869():
    first = keys.derive(b"\x0b" * 22, bytes(range(0x0D)), bytes(range(0xF0, 0xFA)))
    assert first.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    third = keys.derive(b"\x0b" * 22, b"", b"")
    assert third.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


def test_the_private_half_makes_the_same_pair_again_and_is_not_shown(alice):
    fresh = KeyPair.generate()
    assert KeyPair(fresh.private).public == fresh.public
    assert fresh.private != KeyPair.generate().private
    assert ALICE not in repr(alice)
    assert ALICE_PUBLIC in repr(alice)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_of_another_length_are_refused(alice, length):
    with pytest.raises(SecAggError, match="private key"):
        KeyPair(bytes(length))
    with pytest.raises(SecAggError, match="public key"):
        alice.exchange(b"\x09" + bytes(length - 1) if length else b"")


@pytest.mark.parametrize("high_bit", [0, 1 << 255])
@pytest.mark.parametrize("coordinate", LOW_ORDER)
def test_low_order_points_are_refused(alice, coordinate, high_bit):
    point = (coordinate | high_bit).to_bytes(32, "little")
    with pytest.raises(SecAggError, match="large order"):
        keys.check_public(point)
    with pytest.raises(SecAggError, match="large order"):
        alice.exchange(point)


def test_the_library_refuses_what_the_list_would_miss(alice, monkeypatch):
    monkeypatch.setattr(keys, "_LOW_ORDER", frozenset())
    with pytest.raises(SecAggError, match="large order"):
        alice.exchange(LOW_ORDER[2].to_bytes(32, "little"))


def test_other_spellings_of_a_key_are_refused(alice, bob):
    number = int.from_bytes(bob.public, "little")
    keys.check_public(bob.public)
    for spelling in (number | 1 << 255, FIELD + 9):  # X25519 alone would take both
        with pytest.raises(SecAggError, match="canonical"):
            alice.exchange(spelling.to_bytes(32, "little"))
    keys.check_public((9).to_bytes(32, "little"))


def test_digests_tell_lists_of_parts_apart():
    expected = hashlib.sha256()
    for part in (b"craftsfl secure aggregation 1 offer", b"ab", b""):
        expected.update(struct.pack(">Q", len(part)) + part)
    assert keys.digest(b"offer", b"ab", b"") == expected.digest()
    lists = [(b"offer", b"ab"), (b"offer", b"a", b"b"), (b"offer", b"", b"ab"), (b"offerab",)]
    assert len({keys.digest(*parts) for parts in lists}) == len(lists)


def test_both_sites_find_the_same_pair_seed(alice, bob):
    ours = keys.pair_seed(alice, bob.public, TH, 3, 1000)
    assert ours == keys.pair_seed(bob, alice.public, TH, 1000, 3)
    tag = b"craftsfl secure aggregation 1 mask" + bytes.fromhex("000303e8")
    assert ours == keys.derive(bytes.fromhex(SHARED), TH, tag)


def test_seeds_differ_by_transcript_pair_and_use(alice, bob):
    secret = alice.exchange(bob.public)
    seeds = [
        keys.pair_seed(alice, bob.public, TH, 1, 2),
        keys.pair_seed(alice, bob.public, OD, 1, 2),
        keys.pair_seed(alice, bob.public, TH, 1, 3),
        keys.self_seed(secret, TH, 1),
        keys.self_seed(secret, TH, 2),
        keys.self_seed(secret, OD, 1),
        keys.self_seed(bytes(32), TH, 1),
    ]
    assert len(set(seeds)) == len(seeds)
    assert {len(seed) for seed in seeds} == {32}


def test_commitments_bind_secret_site_and_offer():
    values = [
        keys.commitment(bytes(32), 1, OD),
        keys.commitment(b"\1" + bytes(31), 1, OD),
        keys.commitment(bytes(32), 2, OD),
        keys.commitment(bytes(32), 1, TH),
    ]
    assert len(set(values)) == len(values)


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_pair_signs_cancel(i, j):
    if i == j:
        with pytest.raises(SecAggError, match="itself"):
            keys.pair_sign(i, j)
    else:
        assert keys.pair_sign(i, j) + keys.pair_sign(j, i) == 0
        assert keys.pair_sign(i, j) == (1 if j > i else -1)


@pytest.mark.parametrize("site", [-1, 65536])
def test_site_numbers_out_of_range_are_refused(site):
    with pytest.raises(SecAggError, match="site number"):
        keys.self_seed(bytes(32), TH, site)


def test_sealed_shares_are_82_bytes_and_open_at_the_receiver(alice, bob):
    sealed = keys.seal_shares(alice.exchange(bob.public), TH, 1, 2, SHARES)
    assert len(sealed) == 82
    assert keys.open_shares(bob.exchange(alice.public), TH, 1, 2, sealed) == SHARES
    # 66 bytes of ciphertext (two shares of 33), 16 bytes of tag
    assert sealed.hex() == (
        "0fed656e29936fa748d678db68dfab3774a34c97a6216f742dd8d05bc462887705"
        "00681c0f180c5e85bdee9be4a2843696458f3ddf469b05f388fa2cf4d1e7f8449c"
        "8ec177bf5a92b6c6a5a45f972ab80237"
    )


def test_sealed_shares_open_nowhere_else():
    secret = bytes.fromhex(SHARED)
    sealed = keys.seal_shares(secret, TH, 1, 2, SHARES)
    elsewhere = [
        (bytes(32), TH, 1, 2),  # another secret
        (secret, OD, 1, 2),  # another attempt
        (secret, TH, 2, 1),  # sent back to where it came from
        (secret, TH, 1, 3),  # redirected
        (secret, TH, 3, 2),  # from somebody else
    ]
    for arguments in elsewhere:
        with pytest.raises(SecAggError, match="altered"):
            keys.open_shares(*arguments, sealed)


@pytest.mark.parametrize("position", [0, 40, 65, 66, 81])
def test_altered_shares_are_refused(position):
    secret = bytes.fromhex(SHARED)
    sealed = bytearray(keys.seal_shares(secret, TH, 1, 2, SHARES))
    sealed[position] ^= 1
    with pytest.raises(SecAggError, match="from site 1 for site 2 were altered"):
        keys.open_shares(secret, TH, 1, 2, bytes(sealed))


@pytest.mark.parametrize("length", [0, 15, 81, 83])
def test_sealed_shares_of_another_length_are_refused(length):
    with pytest.raises(SecAggError, match="altered"):
        keys.open_shares(bytes(32), TH, 1, 2, bytes(length))
    with pytest.raises(SecAggError, match="pair of shares"):
        keys.seal_shares(bytes(32), TH, 1, 2, bytes(length))
