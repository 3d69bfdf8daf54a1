"""Closed forms from the literature, written here a second time to hold the accountants to."""

from __future__ import annotations

import math
from statistics import NormalDist

from privacy.events import PoissonGaussian

NORMAL = NormalDist()
REFERENCE = PoissonGaussian(0.01, 1.0, 1.0, 1000)
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


def naive_renyi(order: int, q: float, sigma: float) -> float:
    """Mironov, Talwar, Zhang 2019, section 3, term by term in plain floats."""
    total = sum(
        math.comb(order, k) * (1 - q) ** (order - k) * q**k * math.exp((k * k - k) / (2 * sigma**2))
        for k in range(order + 1)
    )
    return math.log(total) / (order - 1)
