"""LoRA adapters by peft: attach, read and write as one flat vector.

`model.adapter_file` reads and writes their files.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer

from model.adapter_file import SavedAdapter, load_adapter, save_adapter
from model.layout import Layout, LayoutEntry, frozen_values, initial_vector
from privacy.errors import ModelError
from privacy.study.manifest import Adapter

__all__ = [
    "Layout",
    "LayoutEntry",
    "SavedAdapter",
    "Unet",
    "attach",
    "detach",
    "initial_vector",
    "layout_of",
    "load_adapter",
    "parameters",
    "read_vector",
    "save_adapter",
    "without_adapter",
    "write_vector",
]

Unet = Any  # a diffusers UNet2DConditionModel, whose adapter methods come from untyped mixins

NAME = "craftsfl"  # of the adapter inside peft


def layout_of(base: Path, adapter: Adapter) -> Layout:
    """The layout that `adapter` gets on the pipeline in folder `base`; reads no weights."""
    kind: Any = UNet2DConditionModel
    try:
        config = kind.load_config(base, subfolder="unet", local_files_only=True)
    except OSError:
        raise ModelError(
            f"{base} holds no unet/config.json.", "Name the folder of the base pipeline."
        ) from None
    with torch.device("meta"):
        return attach(kind.from_config(config), adapter)


def attach(unet: Unet, adapter: Adapter) -> Layout:
    """Put `adapter` (float32, the only part with gradients) on `unet`.

    Attaching the same adapter again changes nothing. Raises `ModelError` if a target matches
    no layer, or if another adapter is already attached.
    """
    if NAME in getattr(unet, "peft_config", {}):
        _check_same(unet.peft_config[NAME], adapter)
    else:
        _check_targets(unet, adapter.targets)
        unet.requires_grad_(False)
        unet.add_adapter(_peft_config(adapter), adapter_name=NAME)
        for _, value in _adapter_parameters(unet):
            value.data = value.data.float()  # a half-precision base gets a full-precision adapter
    layout = _layout(unet, adapter)
    _freeze(unet, layout)
    return layout


def detach(unet: Unet) -> None:
    """Take the adapter off again; the base is as it was."""
    if NAME in getattr(unet, "peft_config", {}):
        unet.unload_lora()
        unet.requires_grad_(False)


def parameters(unet: Unet, layout: Layout) -> list[torch.nn.Parameter]:
    """The adapter's tensors in the layout's order. Raises `ModelError` for another layout."""
    found = dict(_adapter_parameters(unet))
    if tuple(e for e in _entries(unet) if e not in layout.frozen) != layout.entries:
        raise ModelError(
            f"The attached adapter ({len(found)} tensors) has a layout other than the one asked "
            f"for ({len(layout.entries)} tensors).",
            "Server and sites must use the same study.toml and the same base.",
        )
    return [found[entry.name] for entry in layout.entries]


def read_vector(unet: Unet, layout: Layout) -> NDArray[np.float32]:
    """A copy of the attached adapter as a flat float32 vector [P]."""
    tensors = [value.detach().reshape(-1) for value in parameters(unet, layout)]
    vector: NDArray[np.float32] = torch.cat(tensors).float().cpu().numpy()
    return vector


def write_vector(unet: Unet, layout: Layout, vector: NDArray[np.float32]) -> None:
    """Set the attached adapter to `vector` [P]. A vector that does not fit changes nothing."""
    layout.check(vector)
    with torch.no_grad():
        pairs = zip(parameters(unet, layout), layout.split(vector), strict=True)
        for parameter, (_, values) in pairs:
            parameter.copy_(torch.tensor(values))


@contextmanager
def without_adapter(unet: Unet) -> Iterator[None]:
    """Run the frozen base inside the block: each adapted layer does what the layer in it does.

    Unlike peft's own switch it is fast enough for every training step, and leaves every
    `requires_grad` as it is. Raises `ModelError` if the adapter was merged into the base's weights.
    """
    adapted = [part for part in unet.modules() if isinstance(part, BaseTunerLayer)]
    if any(getattr(part, "merged", False) for part in adapted):
        raise ModelError("The adapter is merged into the base.", "Unfuse it first.")
    try:
        for part in adapted:
            vars(part)["forward"] = part.get_base_layer().forward
        yield
    finally:
        for part in adapted:
            vars(part).pop("forward", None)


def _peft_config(adapter: Adapter) -> LoraConfig:
    alpha: Any = adapter.alpha  # peft divides it by r; fractions are fine
    return LoraConfig(r=adapter.rank, lora_alpha=alpha, target_modules=list(adapter.targets))


def _adapter_parameters(unet: Unet) -> Iterable[tuple[str, torch.nn.Parameter]]:
    """(name without the adapter's name, parameter) in the order of the modules."""
    for name, value in unet.named_parameters():
        if f".{NAME}." in name:
            yield name.replace(f".{NAME}.", "."), value


def _layout(unet: Unet, adapter: Adapter) -> Layout:
    entries = _entries(unet)
    if not adapter.frozen_a:
        return Layout(entries)
    frozen = tuple(entry for entry in entries if ".lora_A." in entry.name)
    return Layout(tuple(entry for entry in entries if entry not in frozen), frozen)


def _entries(unet: Unet) -> tuple[LayoutEntry, ...]:
    return tuple(LayoutEntry(k, tuple(p.shape), "float32") for k, p in _adapter_parameters(unet))


def _freeze(unet: Unet, layout: Layout) -> None:
    """Set the frozen tensors to their public values; only the others get gradients."""
    values = frozen_values(layout)
    with torch.no_grad():
        for name, parameter in _adapter_parameters(unet):
            parameter.requires_grad_(name not in values)
            if name in values:
                parameter.copy_(torch.tensor(values[name]))


def _check_same(config: LoraConfig, adapter: Adapter) -> None:
    attached = (config.r, config.lora_alpha, set(config.target_modules or ()))
    if attached != (adapter.rank, adapter.alpha, set(adapter.targets)):
        raise ModelError(
            "The model already carries another adapter.", "Take it off first (adapters.detach)."
        )


def _check_targets(unet: Unet, targets: Iterable[str]) -> None:
    """Every target must name (a suffix of) at least one linear layer or convolution."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    names = [name for name, module in unet.named_modules() if isinstance(module, kinds)]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            near = difflib.get_close_matches(target, _suffixes(names), n=3, cutoff=0.4)
            raise ModelError(
                f"adapter.targets: {target!r} matches no layer of the UNet.",
                f"Did you mean {' or '.join(near)}?" if near else "See the UNet's module names.",
            )


def _suffixes(names: Iterable[str]) -> list[str]:
    """Short names of layers: their last two parts, three where the last is a number."""
    short = set()
    for name in names:
        parts = name.split(".")
        short.add(".".join(parts[-3:] if parts[-1].isdigit() else parts[-2:]))
    return sorted(short)
