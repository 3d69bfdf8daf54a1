"""Correlation of effects: a caption should do what the phrase that the base knows for it does.

The effect of a text is what it changes in a prediction. In the difference, what z_t shows cancels,
and both sides see the same z_t: the target has no noise of its own, and one row's gradient agrees
with another's more than denoising's do. It has no scale, so no larger effects can win it.
"""

# Why: docs/adr/0049-correlation-of-effects.md

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.adapters import Unet
from model.losses.passes import base_predicted
from model.losses.rows import Rows
from model.losses.terms import effect_correlation, hinge
from privacy.errors import ModelError
from privacy.study.stage_two import CaptionEffects


@dataclass(frozen=True, slots=True)
class BaseEffect:
    """What the base says of a batch: with no words, and what a row's phrase adds to it."""

    empty: Tensor  # eps_base(z_t, t, "") [n, c, h, w]
    effect: Tensor  # d* = eps_base(z_t, t, c*) - eps_base(z_t, t, "")
    likeness: Tensor  # [n]: r of caption and phrase, 0 where the term is off


@dataclass(frozen=True, slots=True)
class EffectTerm:
    """l [n] = r relu(m - rho(d, d*)), row by row.

    `phrases` [P, length, width] and `empty` [1, length, width]: the public phrases and the caption
    without words, embedded, on the UNet's device.
    """

    constants: CaptionEffects
    phrases: Tensor = field(repr=False)
    empty: Tensor = field(repr=False)

    def of_base(self, unet: Unet, noised: Tensor, rows: Rows) -> BaseEffect:
        """Two passes of all rows without gradient; raises `ModelError` without `rows.likeness`."""
        chosen, likeness = self.references(rows)
        nothing = base_predicted(unet, noised, rows, self.empty.expand(len(noised), -1, -1))
        known = base_predicted(unet, noised, rows, self.phrases[chosen])
        return BaseEffect(nothing, known - nothing, likeness)

    def loss(self, said: Tensor, base: BaseEffect) -> Tensor:
        """l [n] of what the adapted model said under the rows' own captions."""
        return base.likeness * self.missed(said - base.empty, base.effect)

    def missed(self, own: Tensor, known: Tensor) -> Tensor:
        """relu(m - rho) [n] of d and d*: what the hinge asks for."""
        return hinge(effect_correlation(own, known), self.constants.margin)

    def references(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Which phrase is c* for each row, int64 [n], and r [n], 0 where r is not above `least`.

        One of the `nearest` phrases, turned by the row's own t: no row depends on another.
        """
        if rows.likeness is None or rows.likeness.shape[1] != len(self.phrases):
            raise ModelError(
                "The rows do not say how alike their captions are to the study's phrases.",
                "Encode the tiles for this loss.",
            )
        r, phrases = nearest_phrases(rows.likeness, self.constants.nearest)
        turn = (rows.timesteps % self.constants.nearest)[:, None]
        own = r.gather(1, turn)[:, 0]
        own = torch.where(own > self.constants.least, own, torch.zeros_like(own))
        return phrases.gather(1, turn)[:, 0], own


def nearest_phrases(likeness: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest r of each row [n, count], and which phrases they are of.

    Of two that are equally alike, the one that is listed first.
    """
    r, phrases = likeness.float().sort(dim=1, descending=True, stable=True)
    return r[:, :count], phrases[:, :count]
