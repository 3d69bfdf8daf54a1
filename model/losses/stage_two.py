"""The loss of stage two: denoising, and the terms that regulate it.

l = |eps - eps_theta|^2 + effects + structure + beta |eps_theta - eps_base|^2
    + gamma (-log softmax over the own and K public captions), each term row by row.

All constants are public (`study.stage_two`). docs/stage-two.md says what each costs.
"""

# Why: docs/adr/0013-losses-of-stage-two.md

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

import torch
from torch import Tensor

from model.adapters import Unet
from model.losses.effects import EffectTerm
from model.losses.features import caught, pooled
from model.losses.passes import base_predicted, predicted
from model.losses.prefix import computed_once
from model.losses.rows import NoiseSchedule, Rows
from model.losses.terms import contrast, correlations, hinge, pearson, squared_error
from privacy.errors import ModelError
from privacy.study.stage_two import DriftSuppressor, Grounding, Structure

_ALIKE: Final = 1e-3  # embeddings end in a layer norm: their numbers are about 1


class Loss(Protocol):
    """A per-row loss: (UNet, rows, schedule) to float32 [n], differentiable."""

    def __call__(self, unet: Unet, rows: Rows, schedule: NoiseSchedule) -> Tensor:
        """Losses [n]; row i depends on row i alone."""
        ...


def denoising(unet: Unet, rows: Rows, schedule: NoiseSchedule) -> Tensor:
    """Mean squared error of the prediction, over the elements of each row (Ho et al., eq. 14)."""
    said = predicted(unet, schedule.noised(rows), rows, rows.text)
    return squared_error(said, schedule.target(rows))


@dataclass(frozen=True, slots=True)
class StageTwoLoss:
    """A `Loss`: denoising and the terms that are not None. Every pass has the rows of the batch.

    `captions` and `drift_captions`: embeddings [P, length, width] of the public captions of
    grounding and of the drift suppressor (None: it looks at the rows' own), on the UNet's device.
    `effects` has its own.
    """

    structure: Structure | None = None
    drift: DriftSuppressor | None = None
    grounding: Grounding | None = None
    captions: Tensor | None = field(default=None, repr=False)
    drift_captions: Tensor | None = field(default=None, repr=False)
    effects: EffectTerm | None = None

    def __call__(self, unet: Unet, rows: Rows, schedule: NoiseSchedule) -> Tensor:
        """See `Loss`. Raises `ModelError` if rows lack what a term needs."""
        several = (self.drift, self.grounding, self.effects)
        alone = all(term is None for term in several)  # one pass: nothing to share
        with nullcontext() if alone else computed_once(unet):
            return self._losses(unet, rows, schedule)

    def _losses(self, unet: Unet, rows: Rows, schedule: NoiseSchedule) -> Tensor:
        noised, target = schedule.noised(rows), schedule.target(rows)
        # First, while no activations are kept for the backward pass: the memory peak stays lower.
        base = None if self.drift is None else base_predicted(unet, noised, rows, self._kept(rows))
        known = None if self.effects is None else self.effects.of_base(unet, noised, rows)
        said, regulation = self._own_pass(unet, noised, rows)
        own = squared_error(said, target)
        loss = own
        if self.structure is not None and regulation is not None:
            # w(t): in a row of noise the features say nothing about the image, and must not be
            # taught to.
            loss = loss + self.structure.weight * schedule.signal(rows) * regulation
        if self.effects is not None and known is not None:
            loss = loss + self.effects.constants.weight * self.effects.loss(said, known)
        if self.drift is not None and base is not None:
            drifted = said
            if self.drift_captions is not None:
                drifted = predicted(unet, noised, rows, self._kept(rows))
            loss = loss + self.drift.weight * squared_error(drifted, base)
        if self.grounding is not None:
            found = self._grounded(unet, noised, rows, (own, target))
            loss = loss + self.grounding.weight * found
        return loss

    def _own_pass(self, unet: Unet, noised: Tensor, rows: Rows) -> tuple[Tensor, Tensor | None]:
        """eps_theta under the own captions, and the hinge of the features on the way."""
        if self.structure is None:
            return predicted(unet, noised, rows, rows.text), None
        with caught(unet, self.structure.block) as features:
            said = predicted(unet, noised, rows, rows.text)
        return said, hinge(agreement(features[0], rows), self.structure.margin)

    def _kept(self, rows: Rows) -> Tensor:
        """Texts under which the model should stay at the base: the rows' own, or public ones."""
        if self.drift_captions is None:
            return rows.text
        count = len(self.drift_captions)
        # Chosen by the row's own t, so that no row depends on another. In strides, because the list
        # is sorted: neighbouring timesteps should not always see neighbouring captions.
        return self.drift_captions[_stride(count) * rows.timesteps % count]

    def _grounded(
        self, unet: Unet, noised: Tensor, rows: Rows, known: tuple[Tensor, Tensor]
    ) -> Tensor:
        """-log softmax [n]; `known`: the rows' own errors and targets. K passes of n rows each."""
        own, target = known
        texts = self._public_texts(rows)
        others = [squared_error(predicted(unet, noised, rows, text), target) for text in texts]
        alike = torch.stack([_alike(text, rows.text) for text in texts], dim=1)
        temperature = 1.0 if self.grounding is None else self.grounding.temperature
        return contrast(own, others, alike, temperature)

    def _public_texts(self, rows: Rows) -> Sequence[Tensor]:
        """K public captions for each row, as the rows' text.

        They rotate with the row's own timestep: every caption has its turn, and the choice still
        depends on nothing but the row.
        """
        if self.grounding is None or self.captions is None:
            raise ModelError("Grounding needs its public captions.", "Use loss_of(study, base).")
        count = len(self.captions)
        return [self.captions[(rows.timesteps + j) % count] for j in range(self.grounding.each)]


def agreement(features: Tensor, rows: Rows) -> Tensor:
    """rho [n]: how well the features' structure agrees with the encoder's (`rows.reference`).

    Raises `ModelError` if the rows carry no reference, or one of another grid.
    """
    if rows.reference is None:
        raise ModelError(
            "The rows carry no reference correlations.", "Encode the tiles for this loss."
        )
    pairs = rows.reference.shape[1]
    tokens = (1 + int((1 + 8 * pairs) ** 0.5)) // 2  # pairs = tokens (tokens - 1) / 2
    # Averaged before correlating, as the reference was made: the other order compares other things.
    return pearson(correlations(pooled(features, tokens)), rows.reference.float())


def _alike(text: Tensor, own: Tensor) -> Tensor:
    """bool [n]: whether both embed the same caption, whatever was encoded along with it."""
    # Not equality: in another batch the text encoder rounds differently.
    return (text - own).abs().flatten(1).amax(dim=1) < _ALIKE


def _stride(count: int) -> int:
    """A step size with which a walk through a list of `count` reaches all of it."""
    return next(step for step in (7, 11, 13, 1) if math.gcd(step, count) == 1)
