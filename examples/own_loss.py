"""A loss of one's own, simulated without noise: `python own_loss.py FOLDER`, which keeps it."""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor

import craftsfl.api.simulation as sim


def noisy_half(unet: object, rows: sim.Rows, schedule: sim.NoiseSchedule) -> Tensor:
    """Denoising where half or more of z_t is noise; row i depends on row i alone. [rows]"""
    mostly_noise = schedule.alphas_cumprod[rows.timesteps] < 0.5
    return sim.denoising(unet, rows, schedule) * mostly_noise


def main(folder: Path) -> None:
    """Print what each loss takes away of the base's denoising loss on held-out patients."""
    study = sim.sample_study(rounds=3)
    for loss in (None, noisy_half):
        config = sim.SimulationConfig(
            study=study, folder=folder, arm="noise-off", held_out=18, loss=loss
        )
        found = sim.simulate(config)
        gain = found.gain
        print(f"{found.own or 'denoising'}: {gain.mean:+.3%} ({gain.low:+.3%}, {gain.high:+.3%})")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except sim.CraftsflError as error:
        sys.exit(f"{error.message} {error.hint}")
