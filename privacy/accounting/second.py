"""A second, independent accountant: opacus' numerical composition of privacy random variables.

Gopi, Lee, Wutschitz 2021 (arXiv 2106.02848). Its code and its method differ from the first one's,
so that a mistake in either shows up as a disagreement. opacus imports torch, so it is imported
only when a figure is needed.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterable
from functools import lru_cache
from types import ModuleType
from typing import Final

import numpy as np

from privacy.accounting.bounds import check_probability
from privacy.accounting.capacity import reserved
from privacy.accounting.composition import MergedSteps, merge_events
from privacy.accounting.nearness import nearness, stretched
from privacy.errors import AccountingError
from privacy.events import Event

_EPSILON_ERROR: Final = 2e-3  # half the width of the interval, before that of delta
_RELATIVE_DELTA_ERROR: Final = 1e-3
_MAX_POINTS: Final = 2**23  # of the grid: beyond it the interval gets wider, and stays valid
_WIDEST: Final = 0.1


def prv_epsilon(events: Iterable[Event], delta: float) -> tuple[float, float, float]:
    """(lower bound, estimate, upper bound) of epsilon at `delta`; zeros for no events.

    Gopi et al. 2021, section 5, as opacus implements it: the bounds hold up to floating point and
    to a truncation that opacus takes from Remark 5.6 with changes of its own. Noise and delta are
    those that the first accountant charges (`merge_events`, `reserved`).
    It considers only the removal of a unit, which is the costlier direction for a Poisson-sampled
    Gaussian step. Raises `AccountingError` as `epsilon` does, if opacus is not installed, and
    if it fails to compute.
    """
    check_probability(delta)
    merged = merge_events(events)
    left = delta - reserved(delta)
    if not merged:
        return 0.0, 0.0, 0.0
    near = nearness(merged)

    def stretched_to(which: int) -> float:
        return stretched(lambda at: _prv_epsilon(merged, at)[which], left, near)

    return stretched_to(0), stretched_to(1), stretched_to(2)


@lru_cache(maxsize=256)
def _prv_epsilon(merged: MergedSteps, delta: float) -> tuple[float, float, float]:
    prv = _opacus()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = _compose(prv, merged, delta)
    except (ArithmeticError, RuntimeError, ValueError) as error:  # what its numerics raise
        raise AccountingError(
            f"The second accountant cannot compute this schedule: {error}",
            "Nothing is released on one accountant's word; choose a more usual schedule.",
        ) from error
    if not all(math.isfinite(value) for value in found):
        raise AccountingError(
            "The second accountant returns no finite figure for this schedule.",
            "Nothing is released on one accountant's word; choose a more usual schedule.",
        )
    low, estimate, high = found
    return max(low, 0.0), max(estimate, 0.0), max(high, 0.0)


def _compose(prv: ModuleType, merged: MergedSteps, delta: float) -> tuple[float, float, float]:
    """`PRVAccountant.get_epsilon` with its three figures instead of the last one."""
    delta_error = delta * _RELATIVE_DELTA_ERROR
    steps = [part.steps for part in merged]
    variables = [
        prv.PoissonSubsampledGaussianPRV(part.sampling_rate, part.noise_multiplier)
        for part in merged
    ]
    # Beyond it lies less probability than the error of delta that is allowed.
    reach = float(prv.compute_safe_domain_size(variables, steps, _EPSILON_ERROR, delta_error))
    # Mesh as in section 5: the error of epsilon over sqrt(steps ln(12 / error of delta) / 2).
    walk = math.sqrt(sum(steps) * math.log(12 / delta_error) / 2)
    # A mesh that would have too many points is widened, and the interval with it.
    error = max(_EPSILON_ERROR, 2 * reach * walk / _MAX_POINTS)
    if error > _WIDEST:
        raise ValueError("its grid would be too long")
    domain = prv.Domain.create_aligned(-reach, reach, error / walk)
    pieces = [
        prv.discretize(prv.TruncatedPrivacyRandomVariable(one, domain.t_min, domain.t_max), domain)
        for one in variables
    ]
    composed = prv.compose_heterogeneous(pieces, steps)
    low, estimate, high = composed.compute_epsilon(delta, delta_error, error)
    return float(low), float(estimate), float(high)


def _opacus() -> ModuleType:
    try:
        return importlib.import_module("opacus.accountants.analysis.prv")
    except ModuleNotFoundError as error:
        raise AccountingError(
            "The second accountant, opacus, is not installed.", "Install craftsfl[site]."
        ) from error
