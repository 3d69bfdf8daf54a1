"""A step of "local" at a site: a Poisson draw, and DP-SGD's noisy mean of clipped gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from privacy.dpsgd.assignment import at_most
from privacy.dpsgd.engine import ClippingEngine, PhysicalBatch
from privacy.dpsgd.noise import NoiseSource
from privacy.dpsgd.release import Release
from privacy.dpsgd.sampling import poisson_draw
from privacy.dpsgd.substreams import Substreams
from privacy.mechanisms.local.gradient import private_gradient


@dataclass(frozen=True, slots=True)
class PoissonStep:
    """See `SiteStep`."""

    sampling_rate: float
    capacity: int
    constants: Release

    def draw(self, patients: NDArray[np.int64], streams: Substreams) -> NDArray[np.int64]:
        """See `SiteStep.draw`: each at `sampling_rate`; of too many, some in a secret order."""
        drawn = poisson_draw(patients, self.sampling_rate, streams)
        return at_most(drawn, self.capacity, streams)

    def release(
        self, engine: ClippingEngine, batches: Iterable[PhysicalBatch], noise: NoiseSource
    ) -> Tensor:
        """See `SiteStep.release`."""
        return private_gradient(engine, batches, self.constants, noise)
