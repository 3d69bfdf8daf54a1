"""The strategies that a study may name."""

from __future__ import annotations

from privacy.errors import ConfigError
from privacy.study.manifest import Aggregation
from strategies.base import Strategy
from strategies.fedadam import FedAdam, Moments
from strategies.fedavg import FedAvg


def make_strategy(aggregation: Aggregation, parameters: int) -> Strategy:
    """The strategy that the study's `[aggregation]` names, for adapters of `parameters` numbers."""
    match aggregation.strategy:
        case "fedavg":
            return FedAvg(aggregation.learning_rate)
        case "fedadam":
            moments = Moments(aggregation.beta1, aggregation.beta2, aggregation.tau)
            return FedAdam(parameters, aggregation.learning_rate, moments)
    raise ConfigError(f"There is no strategy {aggregation.strategy!r}.", "Use fedavg or fedadam.")
