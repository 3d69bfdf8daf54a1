"""FedAdam (Reddi et al. 2021, "Adaptive Federated Optimization", Algorithm 2, FedAdam's lines)."""

# Why: docs/adr/0041-every-site-works-out-the-adapter.md

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import FederationError
from privacy.wire.codec import Vector
from strategies.base import Mean, check_mean
from strategies.exact import power


@dataclass(frozen=True, slots=True)
class Moments:
    """beta_1, beta_2 and the degree of adaptivity tau of Algorithm 2."""

    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3


class FedAdam:
    """Adam on the pseudo-gradient, corrected for the start of both moments.

    Delta_t = beta1 Delta_{t-1} + (1 - beta1) sum_i w_i Delta_t^i
    v_t     = beta2 v_{t-1} + (1 - beta2) Delta'_t^2  where  Delta'_t = Delta_t / (1 - beta1^t)
    x_{t+1} = x_t + eta Delta'_t / (sqrt(v'_t) + tau)   where  v'_t = v_t / (1 - beta2^t)

    Starts from Delta_0 = 0 and v_0 = 0. The paper's listing has no corrections (Kingma and Ba 2015,
    Algorithm 1, has), starts from v = tau^2 and averages the sites evenly; here w_i is the site's
    share of the declared patients. v takes the corrected Delta: of the plain one, which is small at
    first, the corrected v would be too small, and the first steps 1 / (1 - beta1) times too long.

    A run that began before there were corrections has a state without their number of rounds. It
    goes on without them, from its v_0 = tau^2: no run changes its arithmetic on the way.
    """

    def __init__(
        self, parameters: int, learning_rate: float, moments: Moments | None = None
    ) -> None:
        self._eta = learning_rate
        self._moments = moments or Moments()
        # Both in float64: a moment is a sum of many small terms, and the next one must not be lost.
        self._delta = np.zeros(parameters, dtype=np.float64)
        self._v = np.zeros(parameters, dtype=np.float64)
        self._rounds: int | None = 0  # None: nothing is corrected

    def aggregate(self, current: Vector, mean: Mean) -> Vector:
        """See `Strategy.aggregate`."""
        # Both checks come before any change: a refused input must leave the state as it was.
        self._check_size(current.shape)
        beta1, beta2, tau = self._moments.beta1, self._moments.beta2, self._moments.tau
        check_mean(current, mean)
        first, second = self._corrections()
        self._delta = beta1 * self._delta + (1 - beta1) * mean
        delta = self._delta / first
        # Of the smoothed Delta_t, as in Algorithm 2; Adam itself squares the raw gradient.
        self._v = beta2 * self._v + (1 - beta2) * delta**2
        # tau bounds the step of a coordinate that hardly ever changes, where v is next to nothing.
        step = self._eta * delta / (np.sqrt(self._v / second) + tau)
        following: Vector = (current + step).astype(np.float32)
        return following

    def _corrections(self) -> tuple[float, float]:
        """1 - beta1^t and 1 - beta2^t of the round that begins; 1 where nothing is corrected."""
        if self._rounds is None:
            return 1.0, 1.0
        self._rounds += 1
        first, second = (power(b, self._rounds) for b in (self._moments.beta1, self._moments.beta2))
        return 1 - first, 1 - second

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Delta_t and v_t, each [P], and t, [1], unless nothing is corrected."""
        state = {"delta": self._delta.copy(), "v": self._v.copy()}
        if self._rounds is not None:
            state["rounds"] = np.array([self._rounds], dtype=np.float64)
        return state

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Continue from a stored state, corrected or from before there were corrections."""
        if state.keys() - {"rounds"} != {"delta", "v"}:
            raise _foreign()
        for name in ("delta", "v"):
            self._check_size(state[name].shape)
        rounds = _whole(state["rounds"]) if "rounds" in state else None
        self._delta = state["delta"].astype(np.float64)
        self._v = state["v"].astype(np.float64)
        self._rounds = rounds

    def _check_size(self, shape: tuple[int, ...]) -> None:
        if shape != self._delta.shape:
            raise FederationError(
                f"The adapter has shape {list(shape)}, the strategy's state "
                f"{list(self._delta.shape)}.",
                "Resume with the study that began the run.",
            )


def _whole(rounds: NDArray[np.float64]) -> int:
    """A stored number of rounds."""
    if rounds.shape != (1,) or not 0 <= rounds[0] < 2**32 or rounds[0] != int(rounds[0]):
        raise _foreign()
    return int(rounds[0])


def _foreign() -> FederationError:
    return FederationError(
        "The stored state is another strategy's.", "Resume with the study that began it."
    )
