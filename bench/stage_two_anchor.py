"""The drift suppressor under public captions: beta |eps_theta - eps_base|^2, where drift counts.

Under the row's own caption the suppressor opposes what is to be learned. Under public captions of
stage one it asks that these stay as they were, and leaves the domain's captions free. The caption
turns with the row's own timestep: row i depends on row i alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from client.training import EncodedTiles, LocalTrainer
from model.adapters import Unet, without_adapter
from model.base import Pipeline
from model.losses import Loss, NoiseSchedule, Rows, squared_error
from model.losses.prefix import computed_once
from model.text import encode_captions
from privacy.dpsgd.noise import NoiseSource
from privacy.manifest import Study

_TURN = 7  # neighbouring timesteps meet captions that stand apart in the list


@dataclass(frozen=True)
class Anchored:
    """`loss` and beta |eps_theta(z_t, t, c) - eps_base(z_t, t, c)|^2 for a public caption c."""

    loss: Loss
    weight: float  # beta
    captions: Tensor = field(repr=False)  # embeddings [P, length, width]; 7 is no factor of P

    def __call__(self, unet: Unet, rows: Rows, schedule: NoiseSchedule) -> Tensor:
        """See `Loss`."""
        noised, times = schedule.noised(rows), rows.timesteps
        text = self.captions[(_TURN * times) % len(self.captions)]
        with computed_once(unet):
            with torch.no_grad(), without_adapter(unet):
                base = unet(noised, times, text, return_dict=False)[0]
            adapted = unet(noised, times, text, return_dict=False)[0]
            return self.loss(unet, rows, schedule) + self.weight * squared_error(adapted, base)


class AnchoredTrainer(LocalTrainer):
    """`LocalTrainer` with the term added to its study's loss."""

    def __init__(
        self,
        study: Study,
        site: str,
        pipeline: Pipeline,
        tiles: EncodedTiles,
        *,
        noise: NoiseSource,
        weight: float,
        captions: Sequence[str],
    ) -> None:
        super().__init__(study, site, pipeline, tiles, noise=noise)
        self._loss = Anchored(self._loss, weight, encode_captions(pipeline, captions))
