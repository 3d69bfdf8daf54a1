"""Numbers on the command line that click takes and no computation can use."""

from __future__ import annotations

import math
from typing import Final

import typer

LARGEST_SEED: Final = 2**63 - 1  # torch's and numpy's generators take it


def refuse_nan(value: float) -> float:
    """For an option's callback: click's bounds let "nan" through. Raises `typer.BadParameter`."""
    if math.isnan(value):
        raise typer.BadParameter("nan is not a number.")
    return value
