"""FedAvg (McMahan et al. 2017, Algorithm 1), written on updates, with a server learning rate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from privacy.errors import FederationError
from privacy.wire.codec import Vector
from strategies.base import Mean, check_mean


class FedAvg:
    """x_{t+1} = x_t + eta sum_i w_i Delta_i; eta = 1 is the weighted mean of the local models."""

    def __init__(self, learning_rate: float = 1.0) -> None:
        self._learning_rate = learning_rate

    def aggregate(self, current: Vector, mean: Mean) -> Vector:
        """See `Strategy.aggregate`."""
        check_mean(current, mean)
        # float32 + float64 is added in float64, and rounded once.
        following: Vector = (current + self._learning_rate * mean).astype(np.float32)
        return following

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Empty: a round does not depend on earlier ones."""
        return {}

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Accepts only the empty state."""
        if state:
            raise FederationError(
                "The stored state is another strategy's.", "Resume with the study that began it."
            )
