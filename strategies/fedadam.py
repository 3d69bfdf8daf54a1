"""FedAdam (Reddi et al. 2021, "Adaptive Federated Optimization", Algorithm 2, FedAdam's lines)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import FederationError
from privacy.wire.codec import Vector
from strategies.base import Mean, check_mean


@dataclass(frozen=True, slots=True)
class Moments:
    """beta_1, beta_2 and the degree of adaptivity tau of Algorithm 2."""

    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3


class FedAdam:
    """Adam on the pseudo-gradient, without bias correction.

    Delta_t = beta1 Delta_{t-1} + (1 - beta1) sum_i w_i Delta_t^i
    v_t     = beta2 v_{t-1} + (1 - beta2) Delta_t^2
    x_{t+1} = x_t + eta Delta_t / (sqrt(v_t) + tau)

    Starts from Delta_{-1} = 0 and v_{-1} = tau^2, the least that Algorithm 2 allows. The paper's
    listing averages the sites evenly; here w_i is the site's share of the declared patients.
    """

    def __init__(
        self, parameters: int, learning_rate: float, moments: Moments | None = None
    ) -> None:
        self._eta = learning_rate
        self._moments = moments or Moments()
        # Both in float64: a moment is a sum of many small terms, and the next one must not be lost.
        self._delta = np.zeros(parameters, dtype=np.float64)
        self._v = np.full(parameters, self._moments.tau**2, dtype=np.float64)

    def aggregate(self, current: Vector, mean: Mean) -> Vector:
        """See `Strategy.aggregate`."""
        # Both checks come before any change: a refused input must leave the state as it was.
        self._check_size(current.shape)
        beta1, beta2, tau = self._moments.beta1, self._moments.beta2, self._moments.tau
        check_mean(current, mean)
        self._delta = beta1 * self._delta + (1 - beta1) * mean
        # Of the smoothed Delta_t, as in Algorithm 2; Adam itself squares the raw gradient.
        self._v = beta2 * self._v + (1 - beta2) * self._delta**2
        # tau bounds the step of a coordinate that hardly ever changes, where v is next to nothing.
        following: Vector = (current + self._eta * self._delta / (np.sqrt(self._v) + tau)).astype(
            np.float32
        )
        return following

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Delta_t and v_t, each [P]."""
        return {"delta": self._delta.copy(), "v": self._v.copy()}

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Continue from a stored Delta_t and v_t."""
        if state.keys() != {"delta", "v"}:
            raise FederationError(
                "The stored state is another strategy's.", "Resume with the study that began it."
            )
        for values in state.values():
            self._check_size(values.shape)
        self._delta = state["delta"].astype(np.float64)
        self._v = state["v"].astype(np.float64)

    def _check_size(self, shape: tuple[int, ...]) -> None:
        if shape != self._delta.shape:
            raise FederationError(
                f"The adapter has shape {list(shape)}, the strategy's state "
                f"{list(self._delta.shape)}.",
                "Resume with the study that began the run.",
            )
