"""The weighted mean of updates, for references that have them all in one process."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from privacy.errors import FederationError


def weighted_mean(
    updates: Mapping[str, NDArray[np.float32]], weights: Mapping[str, float]
) -> NDArray[np.float64]:
    """Sum of w_i Delta_i over the sites in `updates`, w renormalised over them; float64 [P].

    For references in one process: no coordinator has individual updates. `weights` may list more
    sites. The order of the sites does not matter: names are sorted before summing.
    Raises `FederationError` that names the site whose update or weight does not fit.
    """
    if not updates:
        raise FederationError("No site sent an update.", "Wait for more sites, then start again.")
    shape = next(iter(updates.values())).shape
    for name, update in updates.items():
        _check(name, update, shape, weights.get(name, 0.0))
    # Over those who sent something: else a missing site would count as an update of zero.
    total = sum(weights[name] for name in updates)
    mean = np.zeros(shape, dtype=np.float64)
    # Floating-point sums depend on their order: sorted, a resumed run gives the same bits.
    for name in sorted(updates):
        # In float64: rounding stays far below the noise, however many sites there are.
        mean += (weights[name] / total) * updates[name].astype(np.float64)
    return mean


def _check(name: str, update: NDArray[np.float32], shape: tuple[int, ...], weight: float) -> None:
    if not (np.isfinite(weight) and weight > 0):
        raise FederationError(f"Site {name!r} has no weight.", "Declare its patients in the study.")
    if update.shape != shape:
        raise FederationError(
            f"The update of {name!r} has shape {list(update.shape)}, another site's {list(shape)}.",
            "Server and sites must use the same study.toml and the same base.",
        )
    if not np.isfinite(update).all():
        raise FederationError(
            f"The update of {name!r} holds numbers that are not finite.",
            "Leave it out of the round; let the site lower its learning rate.",
        )
