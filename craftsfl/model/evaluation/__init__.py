"""`craftsfl model evaluate`: real against generated tiles, in a terminal, JSON, MLflow and HTML."""

from __future__ import annotations

from craftsfl.model.evaluation.command import run_evaluation
from craftsfl.model.evaluation.options import EvaluationOptions

__all__ = ["EvaluationOptions", "run_evaluation"]
