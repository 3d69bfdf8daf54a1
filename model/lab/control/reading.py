"""Conditions from files: one file, a folder of them, or a PanNuke array of many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from model.lab.control.conditions import Fit, mask_condition, read_marker_condition, resized_mask
from model.lab.control.masks import count_masks, read_mask
from model.lab.control.spec import ControlSpec
from privacy.errors import ModelError

ConditionKind = Literal["mask", "fluorescence"]
_SUFFIXES = {
    "mask": frozenset({".png", ".tif", ".tiff", ".npy", ".mat"}),
    "fluorescence": frozenset({".png", ".tif", ".tiff"}),
}
_HIGHEST = 2**16 - 1


@dataclass(frozen=True)
class Condition:
    """A condition, ready for sampling.

    name: the file's stem, with a number if the file holds several. planes: float32 [C, s, s].
    labels: uint16 [s, s], the instances that a sample should show, None for fluorescence.
    digest: "sha256:" of the file.
    """

    name: str
    planes: torch.Tensor
    labels: NDArray[np.uint16] | None
    digest: str


def read_conditions(
    kind: ConditionKind, path: Path, spec: ControlSpec, *, fit: Fit = "resize"
) -> tuple[Condition, ...]:
    """All conditions of a file or (sorted by name) of a folder's files, for a control of `spec`.

    Raises `ModelError` if there is none, and for a file that cannot be used.
    """
    files = _files(kind, path)
    one = _of_masks if kind == "mask" else _of_markers
    return tuple(condition for file in files for condition in one(file, spec, fit))


def _files(kind: ConditionKind, path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        raise ModelError(f"{path} does not exist.", "Check the path.")
    found = sorted(p for p in path.glob("*") if p.is_file() and p.suffix.lower() in _SUFFIXES[kind])
    if not found:
        raise ModelError(
            f"{path} holds no file that can be followed.",
            f"Files of these types are read: {', '.join(sorted(_SUFFIXES[kind]))}.",
        )
    return found


def _of_masks(path: Path, spec: ControlSpec, fit: Fit) -> Iterator[Condition]:
    count, digest = count_masks(path), _digest(path)
    for index in range(count):
        mask = resized_mask(read_mask(path, index=index), spec.size, fit)
        name = f"{path.stem}-{index:04d}" if count > 1 else path.stem
        yield Condition(name, mask_condition(mask, spec), numbered(mask.instances), digest)


def _of_markers(path: Path, spec: ControlSpec, fit: Fit) -> Iterator[Condition]:
    yield Condition(path.stem, read_marker_condition(path, spec, fit=fit), None, _digest(path))


def numbered(instances: NDArray[np.int32]) -> NDArray[np.uint16]:
    """The same nuclei numbered from 1 without gaps, as a 16-bit PNG holds them."""
    values, at = np.unique(np.append(instances.ravel(), 0), return_inverse=True)
    if len(values) - 1 > _HIGHEST:
        raise ModelError(f"The mask has more than {_HIGHEST} nuclei.", "Cut it into tiles.")
    return np.asarray(at[:-1].reshape(instances.shape), np.uint16)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
