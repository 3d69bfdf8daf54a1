"""The interface of an aggregation strategy, and the choice of one by the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.errors import ConfigError
from privacy.manifest import Aggregation

Vector = NDArray[np.float32]


class Strategy(Protocol):
    """A server optimiser over adapters: pure post-processing of what the sites released.

    `state` and `restore` carry everything that the next call depends on, so that a run which is
    resumed aggregates as one that never stopped.
    """

    def aggregate(
        self, current: Vector, updates: Mapping[str, Vector], weights: Mapping[str, float]
    ) -> Vector:
        """The next adapter [P] from `current` [P] and each surviving site's update (a delta).

        `weights` may list more sites than `updates`: those that sent one are renormalised.
        Raises `FederationError` and changes no state where the input does not fit.
        """
        ...

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays to be stored with the round."""
        ...

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Continue from `state()`'s result. Raises `FederationError` for any other."""
        ...


def make_strategy(aggregation: Aggregation, parameters: int) -> Strategy:
    """The strategy that the study's `[aggregation]` names, for adapters of `parameters` numbers."""
    from strategies.fedadam import FedAdam, Moments
    from strategies.fedavg import FedAvg

    match aggregation.strategy:
        case "fedavg":
            return FedAvg(aggregation.learning_rate)
        case "fedadam":
            moments = Moments(aggregation.beta1, aggregation.beta2, aggregation.tau)
            return FedAdam(parameters, aggregation.learning_rate, moments)
    raise ConfigError(f"There is no strategy {aggregation.strategy!r}.", "Use fedavg or fedadam.")
