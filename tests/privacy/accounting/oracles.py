"""Closed forms from the literature, implemented independently to check the accountants."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from privacy.mechanisms.local import PoissonGaussian

NORMAL = NormalDist()
REFERENCE = PoissonGaussian(0.01, 1.0, 1.0, 1000)
CHARGED = 1 / (1 + 1e-6)  # of a noise multiplier of 1: an engine keeps C up to 1e-6
DEMO = PoissonGaussian(0.25, 1.6, 1.0, 5)  # one attempt at a round of a small study


def gaussian_delta(eps: float, mu: float) -> float:
    """Exact delta of a Gaussian mechanism at sensitivity/std = mu (Balle, Wang 2018, Th. 8)."""

    def phi(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    return phi(mu / 2 - eps / mu) - math.exp(eps) * phi(-mu / 2 - eps / mu)


def gaussian_tpr(fpr: float, mu: float) -> float:
    """Best true-positive rate against a Gaussian mechanism (Dong, Roth, Su 2022)."""
    return NORMAL.cdf(NORMAL.inv_cdf(fpr) + mu)


def one_sampled_step_delta(eps: float, q: float, sigma: float) -> float:
    """Exact delta of one step on removal: q N(1, s^2) + (1-q) N(0, s^2) against N(0, s^2).

    The likelihood ratio rises with x, so it passes e^eps at one threshold.
    """
    threshold = sigma**2 * math.log((math.exp(eps) - 1 + q) / q) + 0.5
    tail0 = NORMAL.cdf(-threshold / sigma)
    tail1 = NORMAL.cdf((1 - threshold) / sigma)
    return q * tail1 + (1 - q) * tail0 - math.exp(eps) * tail0


def tilted_delta(eps: float, q: float, sigma: float, steps: int) -> float:
    """Delta of `steps` sampled steps on removal, by exponential tilting: exact far in the tail.

    The loss of a step, midpoint by midpoint on a grid of x, is weighted by e^(t loss), convolved by
    Fourier transform, and unweighted: rounding is then relative to what is left of the tail. The
    grid rounds losses to the nearest: unbiased, so no bound, but close to the truth.
    """
    width = sigma * 2e-4
    x = np.arange(-11 * sigma, 1 + 11 * sigma, width) + width / 2
    out = np.exp(-(x**2) / (2 * sigma**2)) * (width / (sigma * math.sqrt(2 * math.pi)))
    ratio = np.log1p(q * np.expm1((2 * x - 1) / (2 * sigma**2)))
    mass, loss = out * np.exp(ratio), ratio
    cell = max(math.sqrt(float(mass @ loss**2)) / 50, float(np.ptp(loss)) / 2**17)
    index = np.floor(loss / cell).astype(int)
    part = loss / cell - index  # split between two cells: the mean stays the same
    low, count = int(index.min()), int(np.ptp(index)) + 2
    one = np.bincount(index - low, mass * (1 - part), count)
    one += np.bincount(index - low + 1, mass * part, count)
    places = (low + np.arange(count)) * cell
    tilts = np.geomspace(0.1, 300, 60)
    with np.errstate(over="ignore", invalid="ignore"):
        logs = np.array([steps * np.log(np.exp(tilt * places) @ one) for tilt in tilts])
    tilt = float(tilts[np.nanargmin(logs - tilts * eps)])
    log_mgf = math.log(float(np.exp(tilt * places) @ one))
    tilted = one * np.exp(tilt * places - log_mgf)
    mean = steps * float(tilted @ places)
    spread = math.sqrt(steps * float(tilted @ places**2))
    size = 1 << math.ceil(math.log2(count + 40 * spread / cell))
    whole = np.fft.irfft(np.fft.rfft(tilted, size) ** steps, size).clip(min=0)
    losses = low * steps + np.arange(size)
    losses = (losses + size * np.round((mean / cell - losses) / size)) * cell
    above = losses > eps
    weight = np.exp(steps * log_mgf - tilt * losses[above])
    return float(np.sum(whole[above] * weight * -np.expm1(eps - losses[above])))


def naive_renyi(order: int, q: float, sigma: float) -> float:
    """Mironov, Talwar, Zhang 2019, section 3, term by term in plain floats."""
    total = sum(
        math.comb(order, k) * (1 - q) ** (order - k) * q**k * math.exp((k * k - k) / (2 * sigma**2))
        for k in range(order + 1)
    )
    return math.log(total) / (order - 1)
