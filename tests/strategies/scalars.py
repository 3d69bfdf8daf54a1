"""An optimiser for a single number, in Python's floats: the oracle for `strategies.descent`."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

from strategies.chain import ChainLink
from strategies.rule import UpdateRule
from strategies.scale import LinkScale


class Scalars:
    """x, m, v, phi and a of `strategies.descent`, for one coordinate that starts at `x`."""

    def __init__(self, rule: UpdateRule, x: float) -> None:
        self.rule, self.x, self.t = rule, x, 0
        self.m = self.v = self.phi = self.a = 0.0
        self.power1 = self.power2 = 1.0

    def step(self, link: ChainLink, scale: LinkScale, factor: float, i: int) -> None:
        """One more link; `scale.open` is taken to divide by C and nothing else."""
        opened = float(link.fields[i]) / (scale.centre_scale / 2**scale.centre_bits)
        self.move(opened * (factor / scale.patients), variance_of(scale))

    def move(self, g: float, variance: float) -> None:
        """One more opened mean. What is next to zero counts as zero."""
        rule, g = self.rule, flushed(g, -300)
        self.t += 1
        self.power1 *= rule.beta1
        self.power2 *= rule.beta2
        self.m = flushed(rule.beta1 * self.m + (1 - rule.beta1) * g, -300)
        direction = self.m
        self.phi = rule.beta2 * self.phi + (1 - rule.beta2) * variance
        if rule.kind == "adam":
            self.v = flushed(rule.beta2 * self.v + (1 - rule.beta2) * (g * g), -600)
            share = self.phi / (1 - self.power2)
            left = max(self.v / (1 - self.power2) - share, rule.floor * share, 2.0**-200)
            direction = self.m / (1 - self.power1) / math.sqrt(left)
        self.x = float32(self.x - rule.learning_rate * direction)
        if rule.averaging is not None:
            weight = (rule.averaging + 1) / (rule.averaging + self.t)
            self.a = flushed(self.a + (self.x - self.a) * weight, -300)

    @property
    def published(self) -> float:
        return self.x if self.rule.averaging is None else float32(self.a)


def factor_of(link: ChainLink, scale: LinkScale) -> float:
    """By how much a link's sum is shortened."""
    limit = scale.limit(link.fields.size)
    norm = sum(z * z for z in link.fields.tolist()) << 32
    return 1.0 if norm <= limit**2 else float(Fraction(limit, math.isqrt(norm) + 1))


def variance_of(scale: LinkScale) -> float:
    """k s^2 / (c N)^2, in rationals until the end."""
    share = Fraction(scale.deviation, 1 << 16)
    centre = Fraction(scale.centre_scale, 1 << scale.centre_bits)
    return float(scale.members * share**2 / (centre * scale.patients) ** 2)


def flushed(x: float, power: int) -> float:
    """0 for what is below 2^power."""
    return 0.0 if abs(x) < 2.0**power else x


def float32(x: float) -> float:
    """The nearest float32, 0 instead of a subnormal one."""
    (rounded,) = struct.unpack("<f", struct.pack("<f", flushed(x, -126)))
    return float(rounded)
