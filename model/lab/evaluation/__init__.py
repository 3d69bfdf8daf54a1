"""How good, faithful and original generated tiles are, against real ones, split by patient."""

from __future__ import annotations

from model.lab.evaluation.figures import Figure, ImageSet, Reference, Unavailable
from model.lab.evaluation.run import METRICS, Answer, Plan, Question, evaluate
from model.quality.alignment import TooFewError

__all__ = [
    "METRICS",
    "Answer",
    "Figure",
    "ImageSet",
    "Plan",
    "Question",
    "Reference",
    "TooFewError",
    "Unavailable",
    "evaluate",
]
