"""`craftsfl model evaluate`: real against generated tiles, in a terminal, JSON, MLflow and HTML."""

from __future__ import annotations

from craftsfl.evaluation.command import run_evaluation
from craftsfl.evaluation.options import EvaluationOptions

__all__ = ["EvaluationOptions", "run_evaluation"]
