"""Direct checks of the running mechanism: each looks at the result, not at how it is made.

False alarms: seven standard errors, once in 10^11 runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from privacy.dpsgd import sampling
from privacy.dpsgd.engine import ClippingEngine, PhysicalBatch
from privacy.dpsgd.noise import SystemNoise
from privacy.dpsgd.release import Release
from privacy.dpsgd.substreams import Substreams
from privacy.mechanisms.local import gradient as local
from tests.privacy.dpsgd.worlds import World, mixer

SIZE = 20_000
ERRORS = 7.0  # standard errors


class KnownSum:
    """An engine whose sum is known, so the rest of a release is its noise."""

    size = SIZE
    total = torch.linspace(-3, 3, SIZE, dtype=torch.float64)

    def contributions(
        self, batches: Iterable[PhysicalBatch], clipping_norm: float
    ) -> Iterator[torch.Tensor]:
        yield (self.total * (2.0**30 / clipping_norm)).to(torch.int64)[None]


def noise_alone(clip: float, sigma: float, source: SystemNoise) -> np.ndarray:
    """The noise of one step, in units of the clipping norm."""
    release = Release(clipping_norm=clip, noise_multiplier=sigma, denominator=5.0)
    gradient = local.private_gradient(KnownSum(), [], release, source).double()
    return ((gradient * 5.0 - KnownSum.total) / clip).numpy()


def noise_has_the_promised_variance() -> bool:
    """Residual variance against sigma^2 C^2, for unlike sigma and C."""
    for clip, sigma in ((1.0, 1.0), (0.01, 4.0), (30.0, 0.5)):
        ratio = noise_alone(clip, sigma, SystemNoise()).var() / sigma**2
        if abs(ratio - 1) > ERRORS * math.sqrt(2 / SIZE):
            return False
    return True


def noise_is_fresh() -> bool:
    """No two steps share noise, of one source or of two attempts; nor do parts of one step."""
    first, second = SystemNoise(), SystemNoise()
    steps = [noise_alone(1.0, 1.0, source) for source in (first, first, second, second)]
    halves = [part for noise in steps for part in np.split(noise, 2)]
    correlations = np.corrcoef(halves)[~np.eye(len(halves), dtype=bool)]
    return bool(np.abs(correlations).max() <= ERRORS / math.sqrt(SIZE // 2))


def known_gradients_are_clipped_per_patient(make: Callable[[World], ClippingEngine]) -> bool:
    """Patients of three equal rows each add exactly C, alone and together."""
    world = mixer(range(3), 3)
    same = world.with_loss(lambda module, rows: world.loss(module, torch.zeros_like(rows)))
    clip = 0.25 * float(same.plain_gradient(0).norm())
    engine = make(world)
    for patients in ([0], [1], [2], [0, 1, 2]):
        norm = float(engine.clipped_sum([same.batch(patients)], clip).total.norm())
        if abs(norm / (clip * len(patients)) - 1) > 1e-5:
            return False
    return True


def draws_are_poisson() -> bool:
    """Every patient enters each step on its own: rates, sizes, and no memory of the last step."""
    patients, steps, rate = 20, 4000, 0.25
    source = SystemNoise()
    drawn = np.zeros((steps, patients))
    for row in drawn:
        streams = Substreams.fresh(source)
        row[sampling.poisson_draw(np.arange(patients), rate, streams)] = 1
    sizes = drawn.sum(axis=1)
    over_time = np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]
    together = np.corrcoef(drawn.T)[~np.eye(patients, dtype=bool)]
    return bool(
        np.abs(drawn.mean(axis=0) - rate).max() <= ERRORS * math.sqrt(rate * (1 - rate) / steps)
        and abs(sizes.var() / (patients * rate * (1 - rate)) - 1) <= ERRORS * math.sqrt(2 / steps)
        and abs(over_time) <= ERRORS / math.sqrt(steps * patients)
        and np.abs(together).max() <= ERRORS / math.sqrt(steps)
    )
