"""How a privacy budget is written for people: never as a bare number where there is none."""

from __future__ import annotations

import math


def epsilon_text(value: float | None) -> str:
    """Two decimals; "none (no noise)" where nothing bounds the influence of a patient."""
    if value is None or math.isinf(value):
        return "none (no noise)"
    return f"{value:.2f}"
