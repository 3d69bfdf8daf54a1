"""Fields hold the sum of every cohort that is allowed; how often they do not is bounded."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from privacy.errors import AccountingError
from privacy.mechanisms.pooled.fields import field_bits, wrap_chance
from privacy.mechanisms.pooled.hadamard import padded_size, turned
from privacy.mechanisms.pooled.terms import PooledTerms

CLIP = Fraction(8 * 3, 4)  # n = 10, n_c = 1, sigma = 4
SHARE = (10, 8 << 16)


def terms(sites: int, smallest: int, parameters: int, patients: int) -> PooledTerms:
    return PooledTerms(
        sites=sites,
        smallest_cohort=smallest,
        noise_colluders=1,
        noise_multiplier=4.24,
        clipping_norm=0.002,
        parameters=parameters,
        steps=50,
        spare_attempts=5,
        patients=patients,
    )


@pytest.mark.parametrize(
    ("sites", "smallest", "parameters", "patients", "bits"),
    [
        *((3, 3, 1_536, 480, 9), (12, 8, 400_000, 2_400, 9), (3, 3, 400_000, 1_500, 8)),
        (12, 11, 20_000, 1_700, 10),
    ],
)
def test_every_cohort_fits_and_a_bit_less_would_not_do(sites, smallest, parameters, patients, bits):
    study = terms(sites, smallest, parameters, patients)
    clip = Fraction(study.centre_scale, 1 << study.centre_bits)
    shares = [(k, study.deviation(k)) for k in range(smallest, sites + 1)]
    assert field_bits(parameters, patients, clip, shares) == bits
    chances = [wrap_chance(bits, parameters, patients, clip, share) for share in shares]
    assert max(chances) < 2e-4
    less = [wrap_chance(bits - 1, parameters, patients, clip, share) for share in shares]
    assert max(less) > 2e-4 / 2  # bits are whole, and a logarithm is rounded up a little


def test_the_smallest_cohort_may_need_the_widest_fields():
    """Its shares are larger: k s(k)^2 is V k / (k - n_c), most where k is least."""
    study = terms(12, 3, 1_000_000, 120)
    clip = Fraction(study.centre_scale, 1 << study.centre_bits)
    shares = {k: (k, study.deviation(k)) for k in (3, 12)}
    bits = [field_bits(1_000_000, 120, clip, [shares[k]]) for k in (12, 3)]
    both = field_bits(1_000_000, 120, clip, shares.values())
    assert bits[0] <= bits[1] == both


def test_the_chance_is_a_bound_for_parallel_gradients_and_the_noise_together():
    """Measured with fields that are too narrow, so that something is to be seen."""
    parameters, patients = 512, 40
    direction = np.random.default_rng(5).standard_normal(parameters)
    direction *= patients * float(CLIP) / np.linalg.norm(direction)
    random = np.random.default_rng(6)
    scaled = (direction * 2**20).astype(np.int64)
    wrapped, tries, bits = 0, 400, 8
    for number in range(tries):
        signal = turned(scaled, number.to_bytes(32, "big")) / 2**20 / math.sqrt(512)
        noise = random.normal(0, 8 * math.sqrt(10), padded_size(parameters))
        wrapped += bool((abs(signal + noise) >= 2 ** (bits - 1)).any())
    bound = wrap_chance(bits, parameters, patients, CLIP, SHARE)
    assert 0 < wrapped / tries < bound
    assert wrap_chance(32, parameters, patients, CLIP, SHARE) == 0
    assert wrap_chance(2, parameters, patients, CLIP, SHARE) == 1


def test_a_sum_beyond_32_bits_is_refused():
    with pytest.raises(AccountingError, match="up to 32 bits"):
        field_bits(1, 10**9, Fraction(4096), [SHARE])
