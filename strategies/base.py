"""The interface of an aggregation strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.errors import FederationError
from privacy.wire.codec import Vector

Mean = NDArray[np.float64]


class Strategy(Protocol):
    """A server optimiser over adapters: pure post-processing of what the sites released.

    `state` and `restore` carry everything that the next call depends on, so that a resumed run
    aggregates like one that never stopped.
    """

    def aggregate(self, current: Vector, mean: Mean) -> Vector:
        """The next adapter [P] from `current` [P] and the surviving sites' mean update [P].

        It needs no individual site's update; under secure aggregation none is available.
        Raises `FederationError` and changes no state where the input does not fit.
        """
        ...

    def state(self) -> dict[str, NDArray[np.float64]]:
        """The arrays to be stored with the round."""
        ...

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Continue from `state()`'s result. Raises `FederationError` for any other."""
        ...


def check_mean(current: Vector, mean: Mean) -> None:
    """Raise `FederationError` unless `mean` is a finite change of `current`."""
    if mean.shape != current.shape:
        raise FederationError(
            f"The mean update has shape {list(mean.shape)}, the adapter {list(current.shape)}.",
            "Server and sites must use the same study.toml and the same base.",
        )
    # One NaN would stay in the adapter, and in the moments, for all rounds that follow.
    if not np.isfinite(mean).all():
        raise FederationError(
            "The mean update holds numbers that are not finite.",
            "Start a new attempt; if it happens again, lower the sites' learning rate.",
        )
