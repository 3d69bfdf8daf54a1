"""How many bits a coordinate takes and how far the grid reaches, from n, d and the wanted error.

After the rotation a coordinate of a vector with L2 norm C is sub-Gaussian with about C / sqrt(d)
(`privacy.secagg.rotation`), so of the n d coordinates of a round about one at most exceeds

    B = z C / sqrt(d),  z = sqrt(2 ln(2 n d)).

It is clipped to B, which costs the sum next to nothing. A grid of L = floor((2^b - 1) / n) levels
over [-B, B] then adds a variance of at most (2 B / L)^2 / 4 a coordinate and site, so the error of
the mean of n independent vectors of norm C, relative to the mean's norm C / sqrt(n), is

    at most B sqrt(d) / (L C) = z / L,  and about sqrt(2 / 3) of it when the fractions are even.

Vectors that point the same way have a larger mean and so a smaller relative error (by up to
sqrt(n)); vectors shorter than C have a larger one, in proportion.

If d is not a power of two, a vector whose length lies in few neighbouring coordinates may be spread
less evenly and be clipped more often. Measured with all of it in a tenth of the coordinates, of
which there were 65 thousand to 4 million: an error of 1e-3 at worst on top of z / L, mostly none.
"""

from __future__ import annotations

import math
from typing import Final

from privacy.errors import ConfigError

MIN_BITS: Final = 8
MAX_BITS: Final = 32
# The widest field for each number of fields in a 64-bit lane, floor(64 / f): a narrower one would
# cost as much on the wire.
WIDTHS: Final = (8, 9, 10, 12, 16, 21, 32)

_FLOAT32_ERROR: Final = 1e-6  # of the rotations and the decoded sum; no width takes it away


def levels(bits: int, sites: int) -> int:
    """L: the largest value of one site such that the sum of all sites still fits into `bits`."""
    # n L <= 2^b - 1: the sum of all sites does not carry into the next field.
    return ((1 << bits) - 1) // sites


def coordinate_bound(norm: float, dimension: int, sites: int) -> float:
    """B for vectors of L2 norm up to `norm`: about one coordinate a round exceeds it."""
    if not (math.isfinite(norm) and norm > 0):
        raise ConfigError(f"The largest norm of an update is {norm!r}; it has to be positive.")
    return _spread(dimension, sites) * norm / math.sqrt(dimension)


def relative_error(bits: int, dimension: int, sites: int) -> float:
    """The largest expected relative L2 error of the mean; infinite when not one level fits."""
    spread = _spread(dimension, sites)
    fitting = levels(bits, sites)
    # A step of 2B / L rounds with a variance of (2B / L)^2 / 4 at most. Over d coordinates and the
    # mean of n sites that is d B^2 / (n L^2), against C^2 / n: the root of the ratio is z / L.
    return spread / fitting + _FLOAT32_ERROR if fitting else math.inf


def choose_width(dimension: int, sites: int, wanted_error: float) -> int:
    """The fewest bits whose relative error is at most `wanted_error`; `ConfigError` if none."""
    for bits in WIDTHS:
        if relative_error(bits, dimension, sites) <= wanted_error:
            return bits
    raise ConfigError(
        f"No width up to {MAX_BITS} bits keeps the relative error of {sites} sites' mean of "
        f"{dimension} parameters at {wanted_error:.2g}.",
        f"Tolerate more than {relative_error(MAX_BITS, dimension, sites):.2g}.",
    )


def check_width(bits: int, dimension: int, sites: int, wanted_error: float) -> None:
    """Refuse (`ConfigError`) a configured width that does not reach the wanted error."""
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ConfigError(f"{bits} bits a parameter are outside {MIN_BITS} to {MAX_BITS}.")
    error = relative_error(bits, dimension, sites)
    if error > wanted_error:
        raise ConfigError(
            f"With {bits} bits, {sites} sites and {dimension} parameters the mean's relative error "
            f"is up to {error:.2g}; {wanted_error:.2g} is wanted.",
            f"Set {choose_width(dimension, sites, wanted_error)} bits or tolerate more.",
        )


def _spread(dimension: int, sites: int) -> float:
    """z, in standard deviations of a rotated coordinate."""
    if dimension < 1 or sites < 2:
        raise ConfigError(f"{sites} sites with {dimension} parameters have nothing to aggregate.")
    # Sub-Gaussian tail: P(|Z| > z) <= 2 exp(-z^2 / 2), which is 1 / (n d) at this z, so of the n d
    # coordinates of a round one is expected beyond it at most.
    return math.sqrt(2 * math.log(2 * sites * dimension))
