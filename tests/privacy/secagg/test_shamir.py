"""Shamir's sharing: exact, refuses what is out of range, and independent of the secret below t."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import SecAggError
from privacy.secagg.shamir import PRIME, SHARE_BYTES, check_share, combine, split_secret

SECRET = bytes(range(32))


def counting(start: int = 0):
    """A source whose n-th draw is the n-th number: known coefficients."""
    numbers = itertools.count(start)
    return lambda count: next(numbers).to_bytes(count, "big")


def is_probable_prime(n: int) -> bool:
    """Miller and Rabin with 40 bases."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in range(2, 42):
        x = pow(base, odd, n)
        if x in (1, n - 1):
            continue
        if not any((x := x * x % n) == n - 1 for _ in range(twos - 1)):
            return False
    return True


def test_the_modulus_is_prime_and_above_every_secret():
    assert PRIME > 2**256
    assert is_probable_prime(PRIME)


def test_known_answer():
    # f(x) = 5 x^2 + 6 x + 7 with the highest power drawn first
    shares = split_secret((7).to_bytes(32, "big"), 4, 3, counting(5))
    assert [int.from_bytes(share, "big") for share in shares] == [18, 39, 70, 111]
    assert all(len(share) == SHARE_BYTES for share in shares)


def test_a_known_answer_that_wraps_around_the_modulus():
    largest = b"\xff" * 32
    shares = split_secret(largest, 2, 2, counting(300))
    assert int.from_bytes(shares[0], "big") == (2**256 - 1 + 300) % PRIME == 2
    assert combine({1: shares[0], 2: shares[1]}, 2) == largest


@given(st.binary(min_size=32, max_size=32), st.data())
def test_any_threshold_shares_give_the_secret_back(secret, data):
    n = data.draw(st.integers(1, 12))
    threshold = data.draw(st.integers(1, n))
    shares = split_secret(secret, n, threshold)
    points = data.draw(st.permutations(range(1, n + 1)))[: data.draw(st.integers(threshold, n))]
    assert combine({x: shares[x - 1] for x in points}, threshold) == secret


@pytest.mark.parametrize(("n", "threshold"), [(8, 6), (32, 22), (100, 67)])
def test_the_cohorts_of_the_design(n, threshold):
    secret = os.urandom(32)
    shares = split_secret(secret, n, threshold)
    last = {x: shares[x - 1] for x in range(n - threshold + 1, n + 1)}
    assert combine(last, threshold) == secret


def test_one_share_fewer_fits_every_secret():
    """For t - 1 shares and any secret there is a polynomial: here the one through all of them."""
    shares = split_secret(SECRET, 3, 3)
    known = {1: shares[0], 2: shares[1]}
    seen = {combine({**known, 3: guess.to_bytes(33, "big")}, 3) for guess in range(50)}
    assert len(seen) == 50


def test_two_sharings_of_one_secret_have_no_share_in_common():
    assert not set(split_secret(SECRET, 5, 3)) & set(split_secret(SECRET, 5, 3))


def test_coefficients_from_the_modulus_on_are_drawn_again():
    draws = iter([(PRIME).to_bytes(33, "big"), (PRIME + 5).to_bytes(33, "big"), bytes(33)])
    assert split_secret(SECRET, 2, 2, lambda count: next(draws)) == (b"\0" + SECRET,) * 2


def test_bits_above_the_modulus_are_ignored_in_a_draw():
    assert split_secret(SECRET, 1, 2 - 1, counting()) == (b"\0" + SECRET,)
    high = (0b1111110 << 256) + 1
    shares = split_secret(bytes(32), 1 + 1, 2, lambda count: high.to_bytes(count, "big"))
    assert [int.from_bytes(share, "big") for share in shares] == [1, 2]


@pytest.mark.parametrize(("n", "threshold"), [(3, 4), (3, 0), (0, 0), (3, -1)])
def test_impossible_thresholds_are_refused(n, threshold):
    with pytest.raises(SecAggError, match="threshold"):
        split_secret(SECRET, n, threshold)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_secrets_of_another_length_are_refused(length):
    with pytest.raises(SecAggError, match="bytes"):
        split_secret(bytes(length), 3, 2)


def test_too_few_shares_are_refused():
    shares = split_secret(SECRET, 3, 2)
    with pytest.raises(SecAggError, match="threshold 2"):
        combine({1: shares[0]}, 2)
    with pytest.raises(SecAggError, match="threshold 0"):
        combine({}, 0)


@pytest.mark.parametrize("share", [b"", bytes(32), bytes(34), PRIME.to_bytes(33, "big")])
def test_shares_out_of_range_are_refused(share):
    good = split_secret(SECRET, 2, 2)[0]
    with pytest.raises(SecAggError, match="field"):
        check_share(share)
    with pytest.raises(SecAggError, match="field"):
        combine({1: good, 2: share}, 2)


def test_the_largest_share_is_accepted():
    assert check_share((PRIME - 1).to_bytes(33, "big")) == PRIME - 1


def test_shares_of_no_secret_are_refused():
    above = (PRIME - 1).to_bytes(33, "big")  # threshold 1: the share is the secret, 2^256 + 296
    with pytest.raises(SecAggError, match="belong together"):
        combine({1: above}, 1)


def test_a_position_below_one_is_refused():
    with pytest.raises(SecAggError, match="position"):
        combine({0: bytes(33), 1: bytes(33)}, 2)


def test_the_error_shows_no_share():
    secret_share = b"\x01" + b"\xee" * 32
    with pytest.raises(SecAggError) as caught:
        check_share(secret_share)
    assert "ee" not in str(caught.value).replace("been", "")
