"""How a privacy budget is shown to people: no bare number where there is no guarantee."""

from __future__ import annotations

import math


def epsilon_text(value: float | None) -> str:
    """Two decimals, or "none (no noise)" where nothing bounds a patient's influence."""
    if value is None or math.isinf(value):
        return "none (no noise)"
    return f"{value:.2f}"
