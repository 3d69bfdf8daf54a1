"""What a flat adapter vector means: names, shapes and types in order. Pure numpy.

Server and sites exchange only vectors. The layout's fingerprint, which both sides compute from
their own copy of the base, guarantees that number i is the same weight everywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import ModelError

_FINGERPRINT_TAG = b"craftsfl/layout/v1\0"
_START_TAG = b"craftsfl/initial-adapter/v1\0"
_FROZEN_TAG = b"craftsfl/frozen-factors/v1\0"


@dataclass(frozen=True, slots=True)
class LayoutEntry:
    """One tensor of an adapter."""

    name: str  # of the UNet's parameter, without the adapter's name: "….to_q.lora_A.weight"
    shape: tuple[int, ...]
    dtype: str  # "float32"

    @property
    def size(self) -> int:
        """Number of scalars."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """The tensors of an adapter in the order in which a flat vector holds them.

    `frozen` ones belong to the adapter but to no vector: they are public and never change.
    """

    entries: tuple[LayoutEntry, ...]
    frozen: tuple[LayoutEntry, ...] = ()

    @property
    def parameters(self) -> int:
        """P, the length of a flat vector."""
        return sum(entry.size for entry in self.entries)

    def fingerprint(self) -> bytes:
        """SHA-256 (32 bytes) over names, shapes, types and their order."""
        rows: list[object] = [_row(entry) for entry in self.entries]
        if self.frozen:
            rows.append({"frozen": [_row(entry) for entry in self.frozen]})
        text = json.dumps(rows, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(_FINGERPRINT_TAG + text.encode("ascii")).digest()

    def split(
        self, vector: NDArray[np.float32]
    ) -> Iterator[tuple[LayoutEntry, NDArray[np.float32]]]:
        """The tensors of `vector` [P], as views. Raises `ModelError` if it does not fit."""
        self.check(vector)
        start = 0
        for entry in self.entries:
            yield entry, vector[start : start + entry.size].reshape(entry.shape)
            start += entry.size

    def check(self, vector: NDArray[np.float32]) -> None:
        """Raise `ModelError` unless `vector` is [P], float32 and finite."""
        if vector.shape != (self.parameters,) or vector.dtype != np.float32:
            raise ModelError(
                f"An adapter of {self.parameters} float32 numbers was expected, not "
                f"{vector.dtype} of shape {list(vector.shape)}.",
                "Server and sites must use the same study.toml and the same base.",
            )
        if not np.isfinite(vector).all():
            raise ModelError(
                "The adapter holds numbers that are not finite.",
                "Start from the last good round, with a smaller learning rate.",
            )


def initial_vector(layout: Layout, study_digest: bytes) -> NDArray[np.float32]:
    """The adapter [P] that a study starts from: LoRA's A Gaussian, B zero (Hu et al. 2021, 4.1).

    A's entries have variance 1/fan-in, so A x is about as large as x. Seeded by the study's digest:
    the same on every machine, and the model's first output is the base's.
    """
    random = _generator(_START_TAG + study_digest)
    vector = np.zeros(layout.parameters, dtype=np.float32)
    for entry, values in layout.split(vector):
        if ".lora_A." in entry.name:
            values[...] = _gaussian(entry, random)
    return vector


def frozen_values(layout: Layout) -> dict[str, NDArray[np.float32]]:
    """The frozen tensors by name: Gaussian as in `initial_vector`, seeded by the fingerprint."""
    random = _generator(_FROZEN_TAG + layout.fingerprint())
    return {entry.name: _gaussian(entry, random) for entry in layout.frozen}


def frozen_digest(layout: Layout) -> bytes:
    """SHA-256 (32 bytes) over the frozen tensors' values, in order: little-endian float32."""
    values = frozen_values(layout)
    hashed = hashlib.sha256(_FROZEN_TAG)
    for entry in layout.frozen:
        hashed.update(values[entry.name].astype("<f4", copy=False).tobytes())
    return hashed.digest()


def _row(entry: LayoutEntry) -> list[object]:
    return [entry.name, list(entry.shape), entry.dtype]


def _generator(tag: bytes) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(tag).digest(), "big")))


def _gaussian(entry: LayoutEntry, random: np.random.Generator) -> NDArray[np.float32]:
    """Variance 1/fan-in."""
    values = random.standard_normal(entry.shape) / math.sqrt(math.prod(entry.shape[1:]))
    return values.astype(np.float32)
