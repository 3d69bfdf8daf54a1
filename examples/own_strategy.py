"""A server optimiser of one's own, simulated: `python own_strategy.py FOLDER`, which keeps it."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from numpy import float32, float64, zeros
from numpy.typing import NDArray

from craftsfl.api.simulation import CraftsflError, SimulationConfig, sample_study, simulate


class ServerMomentum:
    """FedAvgM (Hsu et al. 2019, arXiv 1909.06335): the mean update, with momentum."""

    def __init__(self, parameters: int) -> None:
        self._velocity = zeros(parameters)

    def aggregate(self, current: NDArray[float32], mean: NDArray[float64]) -> NDArray[float32]:
        """The next adapter [P]."""
        self._velocity = 0.9 * self._velocity + mean
        return (current + self._velocity).astype(float32)

    def state(self) -> dict[str, NDArray[float64]]:
        """What a simulation that was killed goes on with."""
        return {"velocity": self._velocity}

    def restore(self, state: Mapping[str, NDArray[float64]]) -> None:
        """Go on with it."""
        self._velocity = state["velocity"]


if __name__ == "__main__":
    folder, study = Path(*sys.argv[1:2] or sys.exit(__doc__)), sample_study("local")
    usual = SimulationConfig(study=study, folder=folder, arm="noise-off", held_out=24)
    try:
        print(*map(simulate, (usual, replace(usual, strategy=ServerMomentum))), sep="\n")
    except CraftsflError as error:
        sys.exit(f"{error.message} {error.hint}")
