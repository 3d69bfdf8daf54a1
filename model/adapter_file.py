"""The file of an adapter: it holds the adapter and nothing else.

diffusers' own format (keys begin with `unet.`, the LoRA configuration is in the file's metadata):
`pipeline.load_lora_weights` reads raw peft files as an empty adapter with only a warning, and
without the metadata it takes alpha = r.

All code that reads adapters reads them here. The file names a study and its epsilon, and others
load it with `load_lora_weights`, which accepts every tensor and every peft field that it finds. So
a file that holds anything beyond the adapter that its own metadata describes is refused.
"""

# Why: docs/adr/0021-files-of-others.md

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model.factors import check_factors
from model.foreign_adapters import added_kind, foreign_kind, precision_words, unopened_kind
from model.layout import Layout, LayoutEntry, frozen_values
from model.origin import Origin, read_origin
from privacy.config import check
from privacy.errors import ConfigError, ModelError
from privacy.strict_json import read_json
from privacy.study.manifest import Adapter
from privacy.visible import visible

_Opened: TypeAlias = Any  # what safe_open returns: the library has no types
_METADATA: Final = "lora_adapter_metadata"  # diffusers' key in the header of a safetensors file
_ORDER: Final = "craftsfl_layout"  # ours: safetensors sorts the tensors, the flat vector does not
_FROZEN: Final = "craftsfl_frozen"  # ours: names of the public tensors that no vector holds
_ORIGIN: Final = "craftsfl_origin"  # ours: the study, its base and what it costs a patient
_FORMAT: Final = {"format": "pt"}
_NEEDED: Final = frozenset({"format", _METADATA, _ORDER})
_ALLOWED: Final = _NEEDED | {_FROZEN, _ORIGIN}
_FIELDS: Final = {"unet.r": "rank", "unet.lora_alpha": "alpha", "unet.target_modules": "targets"}
_TYPES: Final = {"F32": "float32"}  # safetensors' names and numpy's
_MOST: Final = 120  # characters of somebody else's name in a message
_FOREIGN: Final = (
    "Use a file that craftsfl wrote: an adapter of the UNet with its metadata. Other tools' "
    "adapters (kohya, DoRA, text encoders) cannot be converted: no study vouches for them."
)
_ALTERED: Final = (
    "Take the file as the run released it (MLflow has its SHA-256, and so has the run's sample "
    "picture): no study's epsilon covers what was added later."
)


@dataclass(frozen=True, slots=True)
class SavedAdapter:
    """An adapter as read from its file."""

    layout: Layout
    vector: NDArray[np.float32]  # [P]
    adapter: Adapter
    origin: Origin | None = None  # None: the file does not say


def save_adapter(
    path: Path,
    layout: Layout,
    vector: NDArray[np.float32],
    adapter: Adapter,
    origin: Origin | None = None,
) -> None:
    """Write `vector` to `path` (`*.safetensors`) as `pipeline.load_lora_weights` reads it.

    Raises `ModelError` if the vector does not fit or the file cannot be written.
    """
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path.name} is not a name for an adapter.", "It has to end in .safetensors."
        )
    values = {entry.name: part for entry, part in layout.split(vector)} | frozen_values(layout)
    tensors = {f"unet.{name}": np.ascontiguousarray(part) for name, part in values.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path, _header(layout, adapter, origin))
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The adapter cannot be written to {path}: {error}.", "Free some disk space there."
        ) from None


def load_adapter(path: Path) -> SavedAdapter:
    """Read a file that `save_adapter` wrote and that nobody has added to.

    Raises `ModelError` that names what is missing, beyond the layout, or of another type.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            _check_header(path, header, file.keys())
            adapter, layout = _described(path, header, _entries(path, file))
            values = {
                entry.name: np.asarray(file.get_tensor(f"unet.{entry.name}"))
                for entry in (*layout.entries, *layout.frozen)
            }
    except (OSError, SafetensorError):
        if not path.exists():
            raise ModelError(f"{path} does not exist.", "Check the path.") from None
        raise ModelError(
            f"{path} is not an adapter written by craftsfl ({unopened_kind(path)}).", _FOREIGN
        ) from None
    origin = _origin(path, header)
    if header != _header(layout, adapter, origin):
        raise ModelError(f"{path}: its metadata is not as craftsfl writes it.", _ALTERED)
    vector = np.concatenate([values[entry.name].reshape(-1) for entry in layout.entries])
    if not np.isfinite(vector).all():
        raise ModelError(f"{path} holds numbers that are not finite (NaN or infinity).", _ALTERED)
    _check_frozen(path, layout, values)
    return SavedAdapter(layout, vector, adapter, origin)


def _header(layout: Layout, adapter: Adapter, origin: Origin | None) -> dict[str, str]:
    """The whole metadata of the file; the LoRA part is what diffusers passes to peft's config."""
    fields: dict[str, object] = {
        "unet.r": adapter.rank,
        "unet.lora_alpha": adapter.alpha,
        "unet.target_modules": list(adapter.targets),
    }
    header = _FORMAT | {_METADATA: json.dumps(fields, sort_keys=True)}
    header[_ORDER] = json.dumps([entry.name for entry in layout.entries])
    if layout.frozen:
        header[_FROZEN] = json.dumps([entry.name for entry in layout.frozen])
    if origin is not None:
        header[_ORIGIN] = origin.to_json()
    return header


def _origin(path: Path, header: Mapping[str, str]) -> Origin | None:
    try:
        return read_origin(header[_ORIGIN]) if _ORIGIN in header else None
    except ModelError as error:
        raise ModelError(f"{path}: {error.message}", error.hint) from None


def _check_header(path: Path, header: Mapping[str, str], names: Collection[str]) -> None:
    if missing := sorted(_NEEDED - header.keys()):
        kind, cure = foreign_kind(names, header)
        raise ModelError(
            f"{path} is {kind}, not an adapter written by craftsfl: "
            f"metadata lacks {', '.join(missing)}.",
            cure,
        )
    if beyond := sorted(header.keys() - _ALLOWED):
        raise ModelError(f"{path} carries metadata beyond its own: {_listed(beyond)}.", _ALTERED)


def _described(
    path: Path, header: Mapping[str, str], found: Mapping[str, LayoutEntry]
) -> tuple[Adapter, Layout]:
    """The adapter and the layout that the metadata describes: of exactly the tensors `found`."""
    order, frozen = (_names(path, header, key) for key in (_ORDER, _FROZEN))
    adapter = _adapter(path, header[_METADATA], frozen_a=bool(frozen))
    named = {f"unet.{name}": name for name in (*order, *frozen)}
    if len(named) != len(order) + len(frozen):
        raise ModelError(f"{path} names a tensor of its layout twice.", _ALTERED)
    if beyond := sorted(found.keys() - named.keys()):
        raise ModelError(
            f"{path} carries {len(beyond)} tensors beyond its layout: {_listed(beyond)}"
            f"{added_kind(beyond)}.",
            _ALTERED,
        )
    if missing := sorted(named.keys() - found.keys()):
        raise ModelError(f"{path} lacks tensors of its layout: {_listed(missing)}.", _ALTERED)
    layout = Layout(
        tuple(found[f"unet.{name}"] for name in order),
        tuple(found[f"unet.{name}"] for name in frozen),
    )
    check_factors(path, layout, adapter)
    return adapter, layout


def _entries(path: Path, file: _Opened) -> dict[str, LayoutEntry]:
    """Every tensor of the file by its name there; no value is read."""
    entries = {}
    for name in file.keys():  # noqa: SIM118 (it is not a mapping)
        part = file.get_slice(name)
        if part.get_dtype() not in _TYPES:
            words = precision_words(part.get_dtype())
            raise ModelError(
                f"{path}: {visible(name, most=_MOST)} is {part.get_dtype()}"
                f"{words and f' ({words})'}; an adapter's numbers are F32.",
                "Take the file as the run released it; a rounded copy is another adapter.",
            )
        kind, shape = _TYPES[part.get_dtype()], tuple(part.get_shape())
        entries[name] = LayoutEntry(name.removeprefix("unet."), shape, kind)
    return entries


def _names(path: Path, header: Mapping[str, str], key: str) -> list[str]:
    try:
        names = read_json(header.get(key, "[]"))
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path}: {key} is not a list of names.", _ALTERED)
    return names


def _adapter(path: Path, text: str, *, frozen_a: bool) -> Adapter:
    try:
        fields = read_json(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not _FIELDS.keys() <= fields.keys():
        raise ModelError(f"{path}: {_METADATA} lacks one of {', '.join(_FIELDS)}.", _FOREIGN)
    if beyond := sorted(fields.keys() - _FIELDS.keys()):
        raise ModelError(
            f"{path}: {_METADATA} sets {_listed(beyond)}, which changes what the adapter does"
            f"{_named(fields)}.",
            _ALTERED,
        )
    values = {name: fields[key] for key, name in _FIELDS.items()} | {"frozen_a": frozen_a}
    try:
        return check(values, Adapter, where=_METADATA)
    except ConfigError as error:
        words = visible(error.message, most=4 * _MOST)
        raise ModelError(f"{path}: {words}", _ALTERED) from None


def _named(fields: Mapping[str, object]) -> str:
    """What people call an adapter with such fields."""
    kinds = {"unet.use_dora": "it is a DoRA adapter", "unet.use_rslora": "it is an rsLoRA adapter"}
    return "".join(f"; {kind}" for key, kind in kinds.items() if fields.get(key) is True)


def _check_frozen(path: Path, layout: Layout, found: Mapping[str, NDArray[np.float32]]) -> None:
    wanted = frozen_values(layout)
    if not all(np.array_equal(found[name], values) for name, values in wanted.items()):
        raise ModelError(f"{path}: its frozen tensors are not the public ones.", _ALTERED)


def _listed(names: list[str]) -> str:
    """The first few of somebody else's names, safe to print."""
    few = ", ".join(visible(name, most=_MOST) for name in names[:3])
    return few if len(names) <= 3 else f"{few} and {len(names) - 3} more"
