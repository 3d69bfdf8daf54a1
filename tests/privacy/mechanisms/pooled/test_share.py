"""A site's share: exact centres of bounded sensitivity, and a sum that opens to the same bits."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import AccountingError
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.hadamard import padded_size, turned
from privacy.mechanisms.pooled.packing import pack_signed, unpack_signed
from privacy.mechanisms.pooled.share import centres_of, noised, opened
from privacy.mechanisms.pooled.terms import PooledTerms
from privacy.secagg.sealed.residues import no_residues, packed_residues, reduced, residues_in

SEED = bytes(range(32))
C = 1 << 30


def terms(**other: float) -> PooledTerms:
    values = {
        "sites": 3,
        "smallest_cohort": 3,
        "noise_colluders": 1,
        "noise_multiplier": 4.0,
        "clipping_norm": 0.002,
        "parameters": 1500,
        "steps": 40,
        "spare_attempts": 3,
        "patients": 480,
    }
    return PooledTerms(**(values | other))


def grid(parameters: int = 1500, bits: int = 20, centre_bits: int = 16) -> PooledGrid:
    made = PooledGrid.of(terms(parameters=parameters), 3, SEED)
    scale = made.centre_scale << centre_bits >> made.centre_bits
    return PooledGrid(parameters, scale, centre_bits, made.deviation, bits, SEED)


def sums(parameters: int, norm: float, seed: int = 0) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(parameters)
    return np.trunc(vector * (norm * C / np.linalg.norm(vector))).astype(np.int64)


def test_the_grid_of_a_study():
    study = terms()
    made = PooledGrid.of(study, 3, SEED)
    assert (made.parameters, made.padded) == (1500, padded_size(1500))
    assert made.centre_scale == study.centre_scale and made.centre_bits == study.centre_bits
    assert made.deviation == study.deviation(3) and made.bits == study.bits
    # c = s sqrt(n - n_c) / sigma, and the share is s = 8 where all take part.
    assert made.centre_scale / 2**16 == pytest.approx(8 * math.sqrt(2) / 4, rel=1e-4)
    assert made.deviation / 2**16 == pytest.approx(8, rel=1e-4)


@pytest.mark.parametrize("centre_bits", [16, 24])
@pytest.mark.parametrize("parameters", [1, 2, 5, 100, 1500, 4097, 30_000])
def test_the_scale_is_the_largest_that_does_not_exceed_the_sensitivity(parameters, centre_bits):
    made = grid(parameters, centre_bits=centre_bits)
    factor, shift = made.scale
    assert 1 << 25 <= factor < 1 << 26 and shift >= 27

    def over(factor: int) -> bool:
        """Whether factor / 2^shift sqrt(padded) 2^30 exceeds the centre scale, in squares."""
        squared = Fraction(factor, 1 << shift) ** 2 * made.padded * C**2
        return squared > made.centre_scale**2

    assert not over(factor) and over(factor + 1)


@pytest.mark.parametrize("centre_bits", [16, 24])
@given(parameters=st.integers(1, 400), seed=st.integers(0, 2**32), size=st.integers(0, 45))
@settings(max_examples=60, deadline=None)
def test_centres_are_the_exact_product_rounded_once(centre_bits, parameters, seed, size):
    made = grid(parameters, centre_bits=centre_bits)
    bound = 1 << size
    total = np.random.default_rng(seed).integers(-bound, bound + 1, parameters)
    factor, shift = made.scale
    exact = [
        math.floor(Fraction(int(one) * factor, 1 << shift) + Fraction(1, 2))
        for one in turned(total, SEED)
    ]
    assert centres_of(total, made).tolist() == exact


@pytest.mark.parametrize("centre_bits", [16, 24])
@pytest.mark.parametrize("kind", ["spread", "one", "alternating", "few"])
def test_a_patient_moves_the_centres_by_no_more_than_the_accountant_assumes(kind, centre_bits):
    """centre_scale, and a unit for every number that is drawn (`lemma._sensitivity`)."""
    parameters = 1500
    made = grid(parameters, centre_bits=centre_bits)
    patient = {
        "spread": sums(parameters, 1.0, 1),
        "one": np.eye(1, parameters, 7, dtype=np.int64)[0] * C,
        "alternating": np.trunc((-1.0) ** np.arange(parameters) * C / math.sqrt(parameters)),
        "few": np.where(np.arange(parameters) < 4, C // 2, 0),
    }[kind].astype(np.int64)
    assert sum(int(one) ** 2 for one in patient) <= C**2
    for number in range(5):
        others = sums(parameters, 159.0, 10 + number)
        moved = centres_of(others + patient, made) - centres_of(others, made)
        squared = sum(int(one) ** 2 for one in moved)
        assert math.sqrt(squared) <= made.centre_scale + math.sqrt(made.padded)
        # And no less than a hair: rounding the scale down costs next to nothing.
        assert math.sqrt(squared) >= made.centre_scale * (1 - 1e-6) - math.sqrt(made.padded)


def test_the_largest_sum_that_is_allowed_does_not_wrap_around():
    parameters = 3072
    made = grid(parameters)
    patients = int(2**32 / math.sqrt(made.padded)) - 1
    # All patients alike, and such that one number of the rotated sum gets everything.
    aligned = np.sign(turned(np.eye(1, parameters, 0, dtype=np.int64)[0], SEED))
    assert (abs(aligned) == 1).all()
    row = np.array(
        [turned(np.eye(1, parameters, j, dtype=np.int64)[0], SEED)[5] for j in range(64)]
    )
    total = np.zeros(parameters, np.int64)
    total[:64] = row * (patients * C // 8)
    largest = int(centres_of(total, made).max())
    factor, shift = made.scale
    assert largest == math.floor(Fraction(64 * (patients * C // 8) * factor, 1 << shift) + 0.5)


@pytest.mark.parametrize("parameters", [1, 3, 1500, 20_000])
def test_a_cohort_opens_to_its_sum_and_the_noise_of_all_shares(parameters):
    study = terms(parameters=parameters)
    made = PooledGrid.of(study, 3, SEED)
    totals = [sums(parameters, 100.0, number) for number in range(3)]
    repeats = min(800, max(1, 8000 // parameters))  # many draws of few numbers, or one of many
    errors = []
    for repeat in range(repeats):
        words = no_residues(made.lanes, made.bits)
        for number, total in enumerate(totals):
            seed = hashlib.sha256(bytes([number]) + repeat.to_bytes(4, "big")).digest()
            share = noised(centres_of(total, made), made, seed)
            words += residues_in(pack_signed(share, made.bits), made.bits)
        lanes = packed_residues(reduced(words, made.bits), made.bits)
        found = opened(unpack_signed(lanes, made.padded, made.bits), made)
        errors.append(found - sum(totals) / C)
    noise = np.concatenate(errors)
    expected = study.noise_multiplier * math.sqrt(3 / 2)  # three shares, of which two are sigma
    count = len(noise)
    assert found.dtype == np.float64 and found.shape == (parameters,)
    assert abs(noise.std() / expected - 1) < 4 / math.sqrt(2 * count)
    assert abs(noise.mean()) < 4 * expected / math.sqrt(count)


@pytest.mark.parametrize("centre_bits", [16, 24])
def test_without_noise_the_sum_comes_back(centre_bits):
    made = grid(1500, centre_bits=centre_bits)
    total = sums(1500, 300.0)
    centres = centres_of(total, made)
    # Whole grid units alone are sent: here the nearest ones, in place of a draw.
    found = opened(centres + (1 << centre_bits - 1) >> centre_bits, made)
    unit = 2**centre_bits / made.centre_scale
    assert abs(found - total / C).max() < 2 * unit


def test_a_share_is_a_function_of_its_seed():
    made = grid()
    centres = centres_of(sums(1500, 10.0), made)
    first = noised(centres, made, SEED)
    assert (noised(centres, made, SEED) == first).all()
    assert (noised(centres, made, SEED[::-1]) != first).mean() > 0.9


def digests() -> list[str]:
    """Known answers: of centres, a share, its lanes and what they open to."""
    answers = []
    for parameters, centre_bits in ((1500, 16), (5000, 24)):
        made = grid(parameters, centre_bits=centre_bits)
        centres = centres_of(sums_in_integers(parameters), made)
        share = noised(centres, made, SEED)
        found = opened(3 * share + 1, made)
        for part in (centres, share, pack_signed(share, made.bits), found):
            answers.append(hashlib.sha256(part.astype(part.dtype.newbyteorder("<"))).hexdigest())
    return answers


def sums_in_integers(parameters: int) -> np.ndarray:
    return (np.arange(parameters, dtype=np.int64) * 2_654_435_761 % 2**31 - 2**30) // 7


KNOWN = [
    "2a2032f5a4fc8f02de5344da345e7a36723fc152a0091bf9798228b49822e22e",
    "09aed40af078870dc50c95685e1b761f266248acbf61c1fa7f6d3463e657120a",
    "927e2dd457089b7b7e623b7678793ac565e22fe2d108a5a1ca8444cc3bed0726",
    "10b5e91db3d368665c466ccfefbd7bf51e9ffe5ece7004f50fddc3a5cfef050d",
    "de33245e94f3b05511b5aa0c38f74991d0691a51a58cd52397e58a4a563e0b0c",
    "02083e6c2e61103e8531be843dc520cf4239391a9558413559cdd6209989c601",
    "cb3ffd0a4042fb9025a6ec2af25bdbfc47e64896d8d553b15df5dce77373635e",
    "287c8d99b9d56447681d2261e171e317fc5555e7daa1c4effcddcf11f172ec50",
]


def test_known_answers():
    assert digests() == KNOWN


@pytest.mark.parametrize("features", ["", "AVX512F AVX512CD AVX512_SKX AVX2 FMA3"])
def test_the_same_bits_on_a_processor_without_its_newer_instructions(features):
    program = "from tests.privacy.mechanisms.pooled.test_share import digests; print(digests())"
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": features, "PYTHONWARNINGS": "ignore"}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == str(KNOWN)


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": 0},
        {"parameters": -1},
        {"centre_scale": 0},
        {"centre_scale": 1 << 29},
        {"centre_scale": 1.5},
        {"centre_bits": 8},
        {"deviation": 100},
        {"bits": 1},
        {"bits": 33},
        {"seed": b"short"},
    ],
)
def test_what_makes_no_grid_is_refused(change):
    made = grid()
    values = {name: getattr(made, name) for name in PooledGrid.__slots__}
    with pytest.raises(AccountingError):
        PooledGrid(**(values | change))


@pytest.mark.parametrize("wrong", [np.zeros(7, np.int64), np.zeros(1500), np.zeros((1, 1500))])
def test_other_shapes_and_types_are_refused(wrong):
    made = grid()
    for work in (centres_of, lambda x, g: noised(x, g, SEED), opened):
        with pytest.raises(AccountingError, match="the grid has"):
            work(wrong, made)


def test_no_sum_is_refused_for_what_it_holds():
    """Failures depend on public things only: extreme sums give a share like all others."""
    made = grid()
    for value in (0, 2**62, -(2**62), 2**63 - 1, -(2**63)):
        share = noised(centres_of(np.full(1500, value, np.int64), made), made, SEED)
        assert share.shape == (made.padded,)
