"""A frozen encoder of one's own in the loss, simulated: `python own_encoder.py FOLDER`."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from craftsfl.api.simulation import CraftsflError, SimulationConfig, sample_study, simulate


@dataclass(frozen=True)
class Palette:
    """Sees the mean colour of each 8 x 8 patch, and nothing else."""

    name: str = "palette"
    digest: str = "sha256:" + 64 * "7"  # names what it computes: another encoder, another digest
    size: int = 64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """Of images [n, 3, 64, 64] in 0..1: [n, 3, 8, 8]."""
        return torch.nn.functional.avg_pool2d(images, 8)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """The mean colour of each image, [n, 3]."""
        return self.tokens(images).mean(dim=(2, 3))


if __name__ == "__main__":
    folder, study = Path(*sys.argv[1:2] or sys.exit(__doc__)), sample_study(with_encoder=True)
    usual = SimulationConfig(study=study, folder=folder, arm="noise-off", held_out=24)
    try:
        for config in (usual, replace(usual, encoder=Palette())):
            print(simulate(config))
    except CraftsflError as error:
        sys.exit(f"{error.message} {error.hint}")
