"""Nuclei of one image, and which of them have which type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from privacy.errors import ModelError

MOST_PIXELS = 1 << 26
MASK_HINT = (
    "Masks are instance images (16-bit .png, .tif), PanNuke .npy or CoNSeP/Lizard .mat files."
)


@dataclass(frozen=True)
class NuclearMask:
    """Nuclei of one image.

    instances: int32 [h, w], 0 background, each nucleus its own number. types: uint8 [h, w], 0
    background, k for a nucleus of type names[k - 1]; all nuclei are of type 1 where names is ().
    """

    instances: NDArray[np.int32]
    types: NDArray[np.uint8]
    names: tuple[str, ...] = ()

    @classmethod
    def untyped(cls, instances: ArrayLike) -> NuclearMask:
        """From an instance map [h, w] alone. Raises `ModelError` if it is not one."""
        checked = instance_map(np.asarray(instances))
        return cls(checked, (checked > 0).astype(np.uint8))

    @property
    def count(self) -> int:
        """Number of nuclei."""
        found = np.unique(self.instances)
        return len(found) - int(found[0] == 0)


def instance_map(values: NDArray[np.generic]) -> NDArray[np.int32]:
    """Whole non-negative numbers [h, w] as int32. Raises `ModelError` for anything else."""
    if values.ndim != 2 or 0 in values.shape or values.size > MOST_PIXELS:
        raise ModelError(f"A mask of shape {values.shape} is not an instance map.", MASK_HINT)
    if values.dtype.kind not in "buif":
        raise ModelError(f"A mask of {values.dtype} values is not an instance map.", MASK_HINT)
    whole = values.astype(np.float64)
    if not np.isfinite(whole).all() or (whole < 0).any() or (whole != np.floor(whole)).any():
        raise ModelError(
            "The mask holds values that are not instance numbers.",
            "Background is 0, and each nucleus has a whole number of its own.",
        )
    if whole.max() >= 2**31:
        _, numbered = np.unique(whole, return_inverse=True)
        return numbered.reshape(whole.shape).astype(np.int32)
    return whole.astype(np.int32)
