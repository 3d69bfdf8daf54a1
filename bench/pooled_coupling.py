"""Continuous noise beside the integers that sites have opened: the same luck, another law.

A sum of k shares, opened, has as its noise e = sum(z_i) - sum(y_i), on the integers shifted by
-sum(y_i), with P(e) proportional to exp(-e^2 / 2 k s^2) (`privacy.discrete_gaussian`; that a sum of
discrete Gaussians is one itself holds to exp(-(2 pi s)^2 / 4), nothing for s = 8: Canonne, Kamath
and Steinke 2020, arXiv 2004.00010, section 4). With F its distribution function and u uniform,

    G = Phi^{-1}(F(e - 1) + u P(e)) sqrt(k) s

is exactly normal, whatever the centres, and of all such G the nearest to e (monotone coupling:
Villani 2009, "Optimal Transport", Theorem 5.10). So two runs, one with e and one with G, each have
the noise that is theirs, and differ by what the grid does, not by luck.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from model.arrays import Doubles
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.units import DEVIATION_BITS

_REACH: Final = 9  # standard deviations of the window beyond which nothing is drawn


def coupled_noise(
    fields: NDArray[np.int64],
    centres: NDArray[np.int64],
    grid: PooledGrid,
    members: int,
    random: np.random.Generator,
) -> Doubles:
    """G [padded], in grid units, beside the opened `fields` [padded] of `members` sites.

    `centres` [padded] is the sum of theirs, in units of 2^-`grid.centre_bits`.
    """
    deviation = math.sqrt(members) * grid.deviation / 2**DEVIATION_BITS
    whole, fraction = np.divmod(centres, 1 << grid.centre_bits)
    shift = fraction / 2**grid.centre_bits  # of the centre above an integer, in [0, 1)
    reach = math.ceil(_REACH * deviation)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(((offsets - shift[:, None]) / deviation) ** 2) / 2)
    weights /= weights.sum(axis=1, keepdims=True)
    place = (fields - whole + reach)[:, None]
    own = np.take_along_axis(weights, place, axis=1)[:, 0]
    below = np.take_along_axis(weights.cumsum(axis=1), place, axis=1)[:, 0] - own
    return np.asarray(deviation * ndtri(below + random.random(own.size) * own))
