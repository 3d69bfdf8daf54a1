"""What exact noise costs a site: one step from its clipped sum to packed lanes, and the opening.

A row for each study: `mode`, `sites`, `parameters` P, `numbers` that are drawn (P and what the
rotation pads), `deviation` s of a share in grid units, `centre_bits`, `field_bits`. Seconds of CPU
of one thread, the least of `--repeats`: `table_s` (once for each deviation), `centres_s` (rotation
and scale), `draw_s`, `pack_s`, and for whoever opens the sum `open_s`. `bytes_per_parameter` of a
packed share; `wrap_chance`: a bound of the chance that any number of a step's sum wraps around its
field. `mean_z` and `variance_z`: by how many standard errors mean and variance of what was drawn
are off; `chi2_p`: the p-value of 61 cells of the draws against the distribution.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.output import BenchRow, parser, print_rows
from privacy.discrete_gaussian import DEVIATION_UNIT, FIRST_DEVIATION, draw
from privacy.discrete_gaussian.tables import threshold_table
from privacy.mechanisms.local.grid import local_grid
from privacy.mechanisms.pooled.fields import wrap_chance
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.packing import pack_signed, unpack_signed
from privacy.mechanisms.pooled.share import centres_of, opened
from privacy.mechanisms.pooled.terms import PooledTerms

SIGMA: Final = 4.65  # epsilon 8 for 40 steps
PATIENTS_EACH: Final = 200
_T = TypeVar("_T")
_Integers = NDArray[np.int64]


@dataclass(frozen=True)
class NoiseCell:
    """One study; of one site: `local` mode."""

    sites: int
    parameters: int


NOISE_CELLS: Final = (
    NoiseCell(1, 400_000),
    NoiseCell(3, 1_536),
    NoiseCell(12, 20_000),
    NoiseCell(12, 400_000),
    NoiseCell(12, 1_000_000),
    NoiseCell(100, 20_000),
)
QUICK_NOISE_CELLS: Final = (NoiseCell(1, 3_000), NoiseCell(3, 3_000))


def noise_row(cell: NoiseCell, repeats: int) -> BenchRow:
    """The row of a study."""
    return _local(cell, repeats) if cell.sites == 1 else _pooled(cell, repeats)


def _local(cell: NoiseCell, repeats: int) -> BenchRow:
    grid = local_grid(SIGMA)
    total = _total(cell)
    centres, centres_s = _least(lambda: grid.scale.centres(total.copy()), repeats)
    drawn, draw_s = _least(lambda: _draw(centres, grid.deviation, grid.centre_bits), repeats)
    return {
        "mode": "local",
        "sites": 1,
        "parameters": cell.parameters,
        "numbers": cell.parameters,
        "deviation": grid.deviation / DEVIATION_UNIT,
        "centre_bits": grid.centre_bits,
        "field_bits": None,
        "table_s": _table_seconds(grid.deviation),
        "centres_s": centres_s,
        "draw_s": draw_s,
        "pack_s": None,
        "open_s": None,
        "bytes_per_parameter": None,
        "wrap_chance": None,
        **_quality(drawn, centres, grid.deviation, grid.centre_bits),
    }


def _pooled(cell: NoiseCell, repeats: int) -> BenchRow:
    terms = PooledTerms(
        sites=cell.sites,
        smallest_cohort=max(3, cell.sites * 3 // 4),
        noise_colluders=1,
        noise_multiplier=SIGMA,
        clipping_norm=0.002,
        parameters=cell.parameters,
        steps=40,
        spare_attempts=4,
        patients=PATIENTS_EACH * cell.sites,
    )
    grid = PooledGrid.of(terms, cell.sites, bytes(32))
    total = _total(cell)
    centres, centres_s = _least(lambda: centres_of(total, grid), repeats)
    drawn, draw_s = _least(lambda: _draw(centres, grid.deviation, grid.centre_bits), repeats)
    lanes, pack_s = _least(lambda: pack_signed(drawn, grid.bits), repeats)
    _, open_s = _least(lambda: opened(unpack_signed(lanes, grid.padded, grid.bits), grid), repeats)
    clip = Fraction(grid.centre_scale, 1 << grid.centre_bits)
    share = (cell.sites, grid.deviation)
    return {
        "mode": "pooled",
        "sites": cell.sites,
        "parameters": cell.parameters,
        "numbers": grid.padded,
        "deviation": grid.deviation / DEVIATION_UNIT,
        "centre_bits": grid.centre_bits,
        "field_bits": grid.bits,
        "table_s": _table_seconds(grid.deviation),
        "centres_s": centres_s,
        "draw_s": draw_s,
        "pack_s": pack_s,
        "open_s": open_s,
        "bytes_per_parameter": 8 * grid.lanes / cell.parameters,
        "wrap_chance": wrap_chance(grid.bits, cell.parameters, terms.patients, clip, share),
        **_quality(drawn, centres, grid.deviation, grid.centre_bits),
    }


def _draw(centres: _Integers, deviation: int, bits: int) -> _Integers:
    return draw(centres, deviation, os.urandom(32), fraction_bits=bits)


def _total(cell: NoiseCell) -> _Integers:
    """A clipped sum of a site's patients, a quarter of them in one direction."""
    vector = np.random.default_rng(cell.parameters).standard_normal(cell.parameters)
    length = PATIENTS_EACH / 4 * 2.0**30
    return np.asarray(np.trunc(vector * (length / np.linalg.norm(vector))), np.int64)


def _table_seconds(deviation: int) -> float:
    threshold_table.cache_clear()
    _, seconds = _timed(lambda: threshold_table(deviation))
    threshold_table(FIRST_DEVIATION)
    return seconds


def _quality(drawn: _Integers, centres: _Integers, deviation: int, bits: int) -> BenchRow:
    """How the draws fit to the discrete Gaussian, whose mean is its centre at these deviations."""
    s, count = deviation / DEVIATION_UNIT, len(drawn)
    variance = s * s + (bits // 8 > 1) * (1.5 / 256) ** 2
    noise = drawn - centres / 2.0**bits
    # The noise is an integer less a centre whose fraction lies anywhere. With a uniform number from
    # [-1/2, 1/2) added to it, it has a density: the normal one convolved with a box.
    spread = noise + np.random.default_rng().random(count) - 0.5
    edges = np.linspace(-3 * s, 3 * s, 60)
    seen, _ = np.histogram(spread, np.concatenate(([-np.inf], edges, [np.inf])))
    mass = _boxed(edges, math.sqrt(variance))
    expected = count * np.diff(np.concatenate(([0.0], mass, [1.0])))
    return {
        "mean_z": float(noise.mean() / (math.sqrt(variance / count))),
        "variance_z": float(((noise**2).mean() / variance - 1) / math.sqrt(2 / count)),
        "chi2_p": float(stats.chisquare(seen, expected).pvalue),
    }


def _boxed(edges: NDArray[np.float64], s: float) -> NDArray[np.float64]:
    """The distribution function of N(0, s^2) plus a uniform number in [-1/2, 1/2)."""

    def primitive(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The integral of the distribution function of N(0, s^2)."""
        return np.asarray(x * stats.norm.cdf(x / s) + s * stats.norm.pdf(x / s))

    return primitive(edges + 0.5) - primitive(edges - 0.5)


def _least(work: Callable[[], _T], repeats: int) -> tuple[_T, float]:
    """The last result, and the least seconds of CPU."""
    results = [_timed(work) for _ in range(repeats + 1)]  # the first one warms up
    return results[-1][0], min(seconds for _, seconds in results)


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    begun = time.process_time()
    return work(), time.process_time() - begun


def noise_rows(cells: tuple[NoiseCell, ...], repeats: int) -> Iterator[BenchRow]:
    """A row for each study."""
    return (noise_row(cell, repeats) for cell in cells)


def main() -> None:
    """`python -m bench.discrete_gaussian [--json] [--quick] [--repeats N]`."""
    arguments = parser("discrete_gaussian", __doc__ or "")
    arguments.add_argument("--quick", action="store_true", help="small studies, to try it out")
    arguments.add_argument("--repeats", type=int, default=5, help="the least of this many is shown")
    options = arguments.parse_args()
    cells = QUICK_NOISE_CELLS if options.quick else NOISE_CELLS
    print_rows("discrete_gaussian", list(noise_rows(cells, options.repeats)), as_json=options.json)


if __name__ == "__main__":
    main()
