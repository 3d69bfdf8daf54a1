"""A loss of one's own, simulated without noise: `python own_loss.py FOLDER`, which keeps it."""

import sys
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from craftsfl.api.simulation import (
    CraftsflError,
    NoiseSchedule,
    Rows,
    SimulationConfig,
    denoising,
    sample_study,
    simulate,
)


def noisy_half(unet: object, rows: Rows, schedule: NoiseSchedule) -> Tensor:
    """Denoising where half or more of z_t is noise; row i depends on row i alone. [rows]"""
    mostly_noise = schedule.alphas_cumprod[rows.timesteps] < 0.5
    return denoising(unet, rows, schedule) * mostly_noise


if __name__ == "__main__":
    folder, study = Path(*sys.argv[1:2] or sys.exit(__doc__)), sample_study()
    usual = SimulationConfig(study=study, folder=folder, arm="noise-off", held_out=24)
    try:
        for config in (usual, replace(usual, loss=noisy_half)):
            print(simulate(config))
    except CraftsflError as error:
        sys.exit(f"{error.message} {error.hint}")
