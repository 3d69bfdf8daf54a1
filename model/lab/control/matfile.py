"""CoNSeP's and Lizard's MATLAB files: `inst_map` and the nuclei's types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.lab.control.mat5 import BadMatFile, NewerMatFile, read_arrays
from model.lab.control.nuclear_mask import NuclearMask, instance_map
from privacy.errors import ModelError

# Graham et al. 2019 (CoNSeP) and 2021 (Lizard); type k is names[k - 1].
CONSEP_TYPES = (
    "other",
    "inflammatory",
    "healthy epithelial",
    "malignant epithelial",
    "fibroblast",
    "muscle",
    "endothelial",
)
LIZARD_TYPES = ("neutrophil", "epithelial", "lymphocyte", "plasma", "eosinophil", "connective")
_WANTED = ("inst_map", "type_map", "inst_type", "id", "class")
_HINT = "CoNSeP's files hold inst_map and type_map (or inst_type), Lizard's inst_map, id and class."


def read_mat(path: Path) -> NuclearMask:
    """Read a .mat file of version 5 to 7. Raises `ModelError` for anything else."""
    fields = _load(path)
    if "inst_map" not in fields:
        raise ModelError(f"{path.name} holds no inst_map.", _HINT)
    instances = instance_map(fields["inst_map"])
    if "class" in fields and "id" in fields:
        types = _by_number(instances, _column(fields["id"]), _column(fields["class"]))
        return _typed(instances, types, LIZARD_TYPES)
    if "type_map" in fields:
        return _typed(instances, instance_map(fields["type_map"]), CONSEP_TYPES)
    if "inst_type" in fields:  # row by row, in order of the numbers
        numbers = np.unique(instances[instances > 0])
        types = _by_number(instances, numbers, _column(fields["inst_type"]))
        return _typed(instances, types, CONSEP_TYPES)
    return NuclearMask.untyped(instances)


def _load(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        return read_arrays(path, _WANTED)
    except NewerMatFile:
        raise ModelError(
            f"{path.name} is a MATLAB 7.3 file.", "Save it again with `save -v7`."
        ) from None
    except (OSError, BadMatFile) as error:
        raise ModelError(f"The mask {path.name} cannot be read ({error}).", _HINT) from None


def _column(values: NDArray[np.generic]) -> NDArray[np.int32]:
    """A [n, 1] or [1, n] field as int32 [n]."""
    return instance_map(np.asarray(values).reshape(1, -1)).reshape(-1) if values.size else _NONE


_NONE = np.zeros(0, np.int32)


def _by_number(
    instances: NDArray[np.int32], numbers: NDArray[np.int32], kinds: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Types [h, w] from a list of (instance number, type)."""
    if len(numbers) != len(kinds):
        raise ModelError(
            f"The mask lists {len(numbers)} nuclei but {len(kinds)} types.", "Get the file again."
        )
    found, at = np.unique(instances, return_inverse=True)
    table = dict(zip(numbers.tolist(), kinds.tolist(), strict=True))
    missing = [n for n in found.tolist() if n > 0 and n not in table]
    if missing:
        raise ModelError(f"{len(missing)} nuclei of the mask have no type.", "Get the file again.")
    listed = np.array([table.get(n, 0) if n > 0 else 0 for n in found.tolist()], np.int32)
    return listed[at.reshape(instances.shape)]


def _typed(
    instances: NDArray[np.int32], types: NDArray[np.int32], names: tuple[str, ...]
) -> NuclearMask:
    inside = instances > 0
    if types.shape != instances.shape:
        raise ModelError("type_map and inst_map differ in size.", "Get the file again.")
    if inside.any() and not 1 <= types[inside].min() <= types[inside].max() <= len(names):
        raise ModelError(
            f"The mask has nuclei of types other than 1 to {len(names)}.", "Get the file again."
        )
    return NuclearMask(instances, np.where(inside, types, 0).astype(np.uint8), names)
