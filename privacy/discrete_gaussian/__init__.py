"""The exact discrete Gaussian on the integers, around any centre: `draw`. Without torch."""

from privacy.discrete_gaussian.sampler import FRACTION_BITS, draw
from privacy.discrete_gaussian.tables import (
    DEVIATION_UNIT,
    FIRST_DEVIATION,
    LARGEST_DEVIATION,
    SMALLEST_DEVIATION,
    TABLE_DISTANCE_BITS,
    check_deviation,
)

__all__ = [
    "DEVIATION_UNIT",
    "FIRST_DEVIATION",
    "FRACTION_BITS",
    "LARGEST_DEVIATION",
    "SMALLEST_DEVIATION",
    "TABLE_DISTANCE_BITS",
    "check_deviation",
    "draw",
]
