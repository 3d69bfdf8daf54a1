"""What it costs that a mechanism is only near to the Gaussian steps that it is charged as.

Let each step of a mechanism M, whatever was seen before, have outputs within a total variation of d
of those of a step of N, and let N give every output a probability within e^±k of what a step of G
gives it. For all steps together, let K and D be the sums of all k and d: factors of conditional
probabilities multiply, and total variations add up, in adaptive composition too. If G is
(e, x)-private, then for neighbours M, M' and every set S of outputs

    P[M in S] <= P[N in S] + D <= e^K P[G in S] + D <= e^K (e^e P[G' in S] + x) + D
              <= e^K (e^e e^K P[N' in S] + x) + D <= e^(e + 2 K) (P[M' in S] + D) + e^K x + D,

so that M is (e + 2 K, e^K x + D (1 + e^(e + 2 K)))-private. Where factors hold only within a set
B of outputs of M, on both sides, and B lacks a probability of b: P[M in S] <= P[M in S and B] + b,
and the rest is as above for S and B. So b is added to delta, once. Draws are mixtures, which keep
the factors, and so does everything that is computed from the outputs. Without any of these it is
G's own figure.
"""

# Why: docs/adr/0039-pooled-noise-is-accounted-for.md

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from privacy.events import GaussianSteps

# Shares of delta that are tried for the distances, the least first.
_SHARES: Final = (1e-9, 1e-6, 1e-4, 1e-2, 0.1, 0.5)
_LARGEST: Final = 700.0  # e^epsilon is not a float beyond


class Nearness(NamedTuple):
    """How near all steps together are: K in nats, a total variation, and what lies beyond."""

    factor: float
    distance: float
    beyond: float = 0.0


_NOTHING: Final = Nearness(0.0, 0.0)


def nearness(charged: Iterable[GaussianSteps]) -> Nearness:
    """Of all these steps together."""
    known = list(charged)
    return Nearness(
        math.fsum(part.steps * part.factor for part in known),
        math.fsum(part.steps * part.distance for part in known),
        math.fsum(part.steps * part.beyond for part in known),
    )


def stretched(gaussian: Callable[[float], float], delta: float, near: Nearness) -> float:
    """Epsilon at `delta` of what is `near` to steps whose epsilon at any delta `gaussian` knows.

    Direction of the error: upwards; infinite where the distance leaves nothing of `delta`.
    """
    if near == _NOTHING:
        return gaussian(delta)
    for share in _SHARES:
        left = (delta * (1 - share) - near.beyond) * math.exp(-near.factor)
        if left <= 0:
            break
        epsilon = gaussian(left) + 2 * near.factor
        if _reserved_for(epsilon, near) <= share * delta:
            return epsilon
    return math.inf


def stretched_deltas(
    epsilons: NDArray[np.float64], deltas: NDArray[np.float64], near: Nearness
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The pairs (epsilon, delta) of what is `near` to something with these pairs."""
    if near == _NOTHING:
        return epsilons, deltas
    more = epsilons + 2 * near.factor
    reserve = near.distance * (1 + np.exp(np.minimum(more, _LARGEST)))
    return more, np.exp(near.factor) * deltas + reserve + near.beyond


def _reserved_for(epsilon: float, near: Nearness) -> float:
    return near.distance * (1 + math.exp(epsilon)) if epsilon < _LARGEST else math.inf
