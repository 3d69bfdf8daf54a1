"""How many numbers an adapter has on a base, from the headers of its weights alone: no torch."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from model.fitness import check_base
from model.fitness.weights import of_weights
from privacy.errors import ModelError
from privacy.study.manifest import Adapter

_ADAPTED: Final = (2, 4)  # dimensions of the weights that LoRA takes: linear, and convolutions
_WEIGHT: Final = ".weight"
_NEAR: Final = 4  # layers that are named where none matches


def parameters_of(folder: Path, adapter: Adapter) -> int:
    """P: numbers that `adapter` trains on the pipeline in `folder`, as `model.adapters` counts.

    Raises `ModelError` where a target matches no layer, or where the base cannot be read.
    """
    shapes = _layers(folder)
    chosen: set[str] = set()
    for target in adapter.targets:
        found = [name for name in shapes if name == target or name.endswith(f".{target}")]
        if not found:
            raise _no_such_layer(target, shapes)
        chosen.update(found)
    return sum(_numbers(shapes[name], adapter) for name in chosen)


def _layers(folder: Path) -> Mapping[str, tuple[int, ...]]:
    """Shapes of the UNet's linear layers and convolutions, by name."""
    unet = of_weights(folder)[0].get("unet")
    if not unet:
        check_base(folder)  # says what is wrong with it
        raise ModelError(f"{folder} has no UNet.", "Name the folder of a base pipeline.")
    return {
        name.removesuffix(_WEIGHT): shape
        for name, shape in unet.items()
        if name.endswith(_WEIGHT) and len(shape) in _ADAPTED
    }


def _numbers(shape: tuple[int, ...], adapter: Adapter) -> int:
    """B is [out, r] (1 x 1 in a convolution); A is [r, in] with the layer's own kernel."""
    outputs, *inputs = shape
    trained = outputs if adapter.frozen_a else outputs + math.prod(inputs)
    return adapter.rank * trained


def _no_such_layer(target: str, names: Iterable[str]) -> ModelError:
    ends = {".".join(name.split(".")[start:]) for name in names for start in (-1, -2, -3)}
    near = difflib.get_close_matches(target, sorted(ends), n=_NEAR, cutoff=0.3)
    some = ", ".join(near) or "attn1.to_v, attn1.to_out.0"
    return ModelError(
        f"The base has no layer {target!r}, so no adapter can be put on it.",
        f"Name others with --target, for instance {some}.",
    )
