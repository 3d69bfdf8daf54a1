"""The optimisers of pooled studies: from an opened mean to the next adapter, bit for bit.

g_t is the opened mean gradient in units of C, clipped; each of its coordinates holds noise of the
public variance Phi_t. With t = 1, 2, ...

    m_t   = beta1 m_{t-1} + (1 - beta1) g_t
    v_t   = beta2 v_{t-1} + (1 - beta2) g_t^2
    phi_t = beta2 phi_{t-1} + (1 - beta2) Phi_t

    momentum : x_t = x_{t-1} - rate m_t
    adam     : x_t = x_{t-1} - rate m_t / (1 - beta1^t) / sqrt(max(v' - phi', floor phi'))
               where v' = v_t / (1 - beta2^t), phi' = phi_t / (1 - beta2^t)
    average  : a_t = a_{t-1} + (x_t - a_{t-1}) (eta + 1) / (eta + t)

"adam" is Adam (Kingma and Ba 2015, arXiv 1412.6980, Algorithm 1) with the noise's share taken off
the second moment (Tang et al. 2024, "DP-AdamBC", arXiv 2312.14334, Algorithm 1): v estimates g^2
plus the noise's variance, and with a large Phi the root of their sum is the same for all
coordinates. Phi changes with the cohort, so it is averaged with the same weights as g^2.
"average" is polynomial-decay averaging (Shamir and Zhang 2013, arXiv 1212.1824, section 4): it
weighs x_t about as t^eta and, unlike an average over the last half, need not know where a run ends.

All of it post-processes what was opened, so it costs no privacy. `strategies.exact` says why the
bits are the same everywhere.
"""

# Why: docs/adr/0041-every-site-works-out-the-adapter.md

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from privacy.errors import FederationError
from privacy.wire.codec import Vector
from strategies.exact import Floats64, normal_float32, power, settled, to_float32
from strategies.rule import UpdateRule

# Below these a moment is zero. Their squares and products with 1 - beta are far from subnormal.
_LEAST: Final = 2.0**-300
_LEAST_SQUARE: Final = 2.0**-600
_LARGEST: Final = 2.0**100
# What Adam divides by at least, where there is neither noise nor gradient.
_FLOOR: Final = 2.0**-200
# Elementwise work in parts that fit the cache: temporaries stay small at 10^6 parameters.
_PART: Final = 1 << 15


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """An adapter and what its optimiser remembers, after `steps` steps. The arrays are read-only.

    `first`, `second` and `average` are float64 [P], or [0] where the rule has no use for them.
    `noise` is phi_t.
    """

    rule: UpdateRule
    adapter: Vector  # x_t, float32 [P]
    steps: int
    first: Floats64
    second: Floats64
    noise: float
    average: Floats64

    @classmethod
    def begin(cls, rule: UpdateRule, start: Vector) -> Descent:
        """Before the first step. Raises `FederationError` unless `start` is finite, [P], P > 0."""
        adapter = normal_float32(start)
        first, second, average = (np.zeros(size) for size in moment_sizes(rule, adapter.size))
        return cls(rule, adapter, 0, first, second, 0.0, average)

    def __post_init__(self) -> None:
        for array in (self.adapter, self.first, self.second, self.average):
            array.flags.writeable = False

    @property
    def published(self) -> Vector:
        """What a run that ends here publishes: the average of its iterates, or the last one."""
        if self.rule.averaging is None or not self.steps:
            return self.adapter
        return to_float32(self.average)

    def after(self, mean: Floats64, variance: float) -> Descent:
        """The state after one more step.

        `mean` is g, float64 [P], `variance` is Phi, the variance of the noise in each coordinate
        (0 without noise). Raises `FederationError` where they do not fit, or where the adapter
        would leave float32's range; this state is as it was in any case.
        """
        self._check(mean, variance)
        beta2 = self.rule.beta2
        noise = beta2 * self.noise + (1 - beta2) * variance
        adapter, first = np.empty_like(self.adapter), np.empty_like(self.first)
        second, average = np.empty_like(self.second), np.empty_like(self.average)
        for part in _parts(mean.size):
            g = settled(mean[part], _LEAST)
            first[part] = m = self._first(g, part)
            if self.rule.kind == "adam":
                second[part] = v = self._second(g, part)
                m = self._adam_direction(m, v, noise)
            x = self.adapter[part].astype(np.float64) - self.rule.learning_rate * m
            adapter[part] = rounded = to_float32(x)
            if self.rule.averaging is not None:
                average[part] = self._average(rounded.astype(np.float64), part)
        if not np.isfinite(adapter).all():
            raise FederationError(
                "The adapter has left the range of its numbers.", "Lower aggregation.learning_rate."
            )
        return Descent(self.rule, adapter, self.steps + 1, first, second, noise, average)

    def _first(self, g: Floats64, part: slice) -> Floats64:
        beta1 = self.rule.beta1
        return settled(beta1 * self.first[part] + (1 - beta1) * g, _LEAST)

    def _second(self, g: Floats64, part: slice) -> Floats64:
        beta2 = self.rule.beta2
        return settled(beta2 * self.second[part] + (1 - beta2) * (g * g), _LEAST_SQUARE)

    def _adam_direction(self, m: Floats64, v: Floats64, noise: float) -> Floats64:
        """The corrected m over the root of what is left of the corrected v without the noise."""
        t = self.steps + 1
        first, second = 1 - power(self.rule.beta1, t), 1 - power(self.rule.beta2, t)
        share = noise / second
        least = max(self.rule.floor * share, _FLOOR)
        direction: Floats64 = (m / first) / np.sqrt(np.maximum(v / second - share, least))
        return direction

    def _average(self, x: Floats64, part: slice) -> Floats64:
        eta, before = self.rule.averaging or 0.0, self.average[part]
        weight = (eta + 1) / (eta + self.steps + 1)
        with np.errstate(invalid="ignore"):  # an infinite x is refused by the caller
            return settled(before + (x - before) * weight, _LEAST)

    def _check(self, mean: Floats64, variance: float) -> None:
        if mean.shape != self.adapter.shape or mean.dtype != np.float64:
            raise FederationError(
                f"An opened mean is {mean.dtype} {list(mean.shape)}, the adapter has "
                f"{self.adapter.size} numbers.",
                "Coordinator and sites must use the same study.toml and the same base.",
            )
        # False for NaN as well.
        if not (np.abs(mean) < _LARGEST).all():
            raise FederationError(
                "An opened mean holds numbers that no clipped gradient has.",
                "Start a new attempt.",
            )
        if variance != 0 and not _FLOOR < variance < _LARGEST:
            raise FederationError(
                f"The noise of an opened mean cannot have the variance {variance:g}.",
                "Check the study's [pooled] table.",
            )


def moment_sizes(rule: UpdateRule, parameters: int) -> tuple[int, int, int]:
    """How many numbers `first`, `second` and `average` have under `rule`."""
    second = parameters if rule.kind == "adam" else 0
    average = parameters if rule.averaging is not None else 0
    return parameters, second, average


def _parts(size: int) -> Iterator[slice]:
    for start in range(0, size, _PART):
        yield slice(start, min(start + _PART, size))
