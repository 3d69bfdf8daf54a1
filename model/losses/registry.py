"""Losses by name. Those that couple two patients' rows are left out, and refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from torch import Tensor

from model.base import Pipeline
from model.losses.effects import EffectTerm
from model.losses.stage_two import Loss, StageTwoLoss, denoising
from model.text import encode_captions
from privacy.errors import ModelError
from privacy.study.losses import UNCOUPLED_HINT, coupled
from privacy.study.manifest import Study
from privacy.study.stage_two import CaptionEffects, StageTwo

LOSSES: Final[Mapping[str, Loss]] = MappingProxyType({"denoising": denoising})
"""Losses without constants. "stage-two" has constants, and is made by `loss_of`."""


def find_loss(name: str) -> Loss:
    """The registered loss called `name`.

    Raises `ModelError`: for an unknown name with the known ones, for one that couples patients
    with the reason.
    """
    reason = coupled(name)
    if reason is not None:
        raise ModelError(f"{reason[0].upper()}{reason[1:]}.", UNCOUPLED_HINT)
    loss = LOSSES.get(name)
    if loss is None:
        known = ", ".join([*LOSSES, "stage-two (with its table of constants)"])
        raise ModelError(f"There is no loss {name!r}.", f"Known losses: {known}.")
    return loss


def loss_of(study: Study, pipeline: Pipeline) -> Loss:
    """The loss that `study` trains with on `pipeline`; raises `ModelError`."""
    if study.stage_two is None:
        return find_loss(study.training.loss)
    return stage_two_loss(study.stage_two, pipeline)


def stage_two_loss(terms: StageTwo, pipeline: Pipeline) -> StageTwoLoss:
    """Denoising and `terms`; public captions are encoded here, once."""
    drift, grounding = terms.drift, terms.grounding
    return StageTwoLoss(
        terms.structure,
        drift,
        grounding,
        captions=_embedded(pipeline, () if grounding is None else grounding.captions),
        drift_captions=_embedded(pipeline, () if drift is None else drift.captions),
        effects=None if terms.effects is None else effect_term(terms.effects, pipeline),
    )


def effect_term(constants: CaptionEffects, pipeline: Pipeline) -> EffectTerm:
    """The term with its phrases, and the caption without words, as the pipeline embeds them."""
    embedded = encode_captions(pipeline, [*constants.phrases, ""]).to(pipeline.device)
    return EffectTerm(constants, phrases=embedded[:-1], empty=embedded[-1:])


def _embedded(pipeline: Pipeline, captions: Sequence[str]) -> Tensor | None:
    return encode_captions(pipeline, captions).to(pipeline.device) if captions else None
