"""The public constants of a step of DP-SGD, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from privacy.errors import AccountingError

CONTRIBUTION_BITS: Final = 30
"""What a patient adds to a sum is a vector of integers, in units of C 2^-30: none of its numbers is
above 2^30, and neither is its L2 norm, exactly."""


@dataclass(frozen=True)
class Release:
    """The public constants of a step. Raises `AccountingError` unless all are finite, positive.

    `noise_multiplier` may be 0: then nothing is private, which only the policy can allow.
    """

    clipping_norm: float  # C
    noise_multiplier: float  # sigma: the noise has standard deviation sigma C
    denominator: float  # q N, from the declared N: neither the true nor the drawn count

    def __post_init__(self) -> None:
        for name in ("clipping_norm", "noise_multiplier", "denominator"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (value == 0 and name != "noise_multiplier"):
                raise AccountingError(f"{name} is {value!r}; it must be positive and finite.")


def noise_to_clip(release: Release, parameters: int) -> float:
    """sigma sqrt(P) / (q N): the noise's norm over the largest possible signal's.

    Far above 1, a step is noise: no learning is to be expected within a few of them.
    """
    return release.noise_multiplier * math.sqrt(parameters) / release.denominator
