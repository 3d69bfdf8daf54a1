"""A frozen encoder of one's own in the loss, simulated: `python own_encoder.py FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

import craftsfl.api.simulation as sim


@dataclass(frozen=True)
class Palette:
    """Sees the mean colour of each 8 x 8 patch, and nothing else."""

    name: str = "palette"
    digest: str = "sha256:" + 64 * "7"  # names what it computes: another encoder, another digest
    size: int = 64
    device: torch.device = torch.device("cpu")

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 8)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return self.tokens(images).mean(dim=(2, 3))


if __name__ == "__main__":
    study, folder = sim.sample_study(rounds=3, with_encoder=True), Path(sys.argv[1])
    for encoder in (None, Palette()):
        config = sim.SimulationConfig(
            study=study, folder=folder, arm="noise-off", held_out=18, encoder=encoder
        )
        found = sim.simulate(config)
        gain = found.gain
        print(f"{found.own or 'tiny'}: {gain.mean:+.3%} ({gain.low:+.3%}, {gain.high:+.3%})")
