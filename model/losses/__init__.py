"""Losses of the denoising model, one number a row.

Every loss decomposes per row: row i's loss and gradient depend on row i alone, because the clip
bounds one patient's influence only then. What couples two private rows (in-batch contrast, batch
statistics) is refused by name (`privacy.study.losses`); the tests hold every registered loss to it.
"""

from model.losses.effects import BaseEffect, EffectTerm, nearest_phrases
from model.losses.features import (
    block_names,
    caught,
    check_adapted,
    feature_side,
    find_block,
    pooled,
)
from model.losses.likeness import phrase_likeness
from model.losses.reference import reference_correlations
from model.losses.registry import LOSSES, effect_term, find_loss, loss_of, stage_two_loss
from model.losses.rows import NoiseSchedule, Rows, Scheduler, each
from model.losses.stage_two import Loss, StageTwoLoss, agreement, denoising
from model.losses.terms import (
    above_diagonal,
    contrast,
    correlations,
    effect_correlation,
    hinge,
    pearson,
    squared_error,
)

__all__ = [
    "LOSSES",
    "BaseEffect",
    "EffectTerm",
    "Loss",
    "NoiseSchedule",
    "Rows",
    "Scheduler",
    "StageTwoLoss",
    "above_diagonal",
    "agreement",
    "block_names",
    "caught",
    "check_adapted",
    "contrast",
    "correlations",
    "denoising",
    "each",
    "effect_correlation",
    "effect_term",
    "feature_side",
    "find_block",
    "find_loss",
    "hinge",
    "loss_of",
    "nearest_phrases",
    "pearson",
    "phrase_likeness",
    "pooled",
    "reference_correlations",
    "squared_error",
    "stage_two_loss",
]
