"""A server optimiser of one's own, simulated: `python own_strategy.py FOLDER`, which keeps it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import craftsfl.api.simulation as sim


class ServerMomentum:
    """FedAvgM (Hsu et al. 2019, arXiv 1909.06335): the mean update, with momentum. [P]"""

    def __init__(self, parameters: int) -> None:
        self._velocity = np.zeros(parameters)

    def aggregate(self, current: np.ndarray, mean: np.ndarray) -> np.ndarray:
        self._velocity = 0.9 * self._velocity + mean
        return (current + self._velocity).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        return {"velocity": self._velocity}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._velocity = state["velocity"]


if __name__ == "__main__":
    study, folder = sim.sample_study("local", rounds=3), Path(sys.argv[1])
    for strategy in (None, ServerMomentum):
        config = sim.SimulationConfig(
            study=study, folder=folder, arm="noise-off", held_out=18, strategy=strategy
        )
        found = sim.simulate(config)
        gain = found.gain
        print(f"{found.own or 'fedavg'}: {gain.mean:+.3%} ({gain.low:+.3%}, {gain.high:+.3%})")
