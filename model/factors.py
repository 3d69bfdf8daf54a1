"""LoRA's factors by name and shape: each target's module has one A and one B of the rank."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from model.layout import Layout, LayoutEntry
from privacy.errors import ModelError
from privacy.study.manifest import Adapter
from privacy.visible import visible

_NAME: Final = re.compile(
    r"(?P<module>[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*)\.lora_(?P<factor>[AB])\.weight"
)
_HINT: Final = (
    "Take the file as the run released it; an adapter of other modules or of another rank is "
    "another study's."
)


def check_factors(path: Path, layout: Layout, adapter: Adapter) -> None:
    """Raise `ModelError` unless the layout holds LoRA's two factors for modules of the targets.

    A is [r, in] or [r, in, k, k], B [out, r] or [out, r, 1, 1] (Hu et al. 2021, section 4.1). With
    `frozen_a` every A is frozen and no B; without it nothing is.
    """
    pairs: dict[str, dict[str, LayoutEntry]] = {}
    for entry in (*layout.entries, *layout.frozen):
        module, factor = _parts(path, entry, adapter)
        pairs.setdefault(module, {})[factor] = entry
    if not pairs:
        raise ModelError(f"{path} holds no tensor.", _HINT)
    for module, pair in pairs.items():
        if pair.keys() != {"A", "B"} or not _fit(pair["A"].shape, pair["B"].shape, adapter.rank):
            shapes = ", ".join(f"{name} {list(e.shape)}" for name, e in sorted(pair.items()))
            raise ModelError(
                f"{path}: {module} has {shapes}, which are not factors of rank {adapter.rank}.",
                _HINT,
            )
    # A frozen B, or some A alone, would train, but no study says so: it is another study's layout.
    frozen = {entry.name for entry in layout.frozen}
    wanted = {pair["A"].name for pair in pairs.values()} if adapter.frozen_a else set()
    if frozen != wanted:
        raise ModelError(f"{path}: exactly the factors A have to be frozen, or none.", _HINT)


def _parts(path: Path, entry: LayoutEntry, adapter: Adapter) -> tuple[str, str]:
    """(module, "A" or "B") of a tensor's name."""
    found = _NAME.fullmatch(entry.name)
    module = found["module"] if found else ""
    if found is None or not any(_ends(module, target) for target in adapter.targets):
        name, targets = visible(entry.name, most=120), visible(", ".join(adapter.targets), most=240)
        raise ModelError(f"{path}: {name} is not a factor of a target ({targets}).", _HINT)
    return module, found["factor"]


def _ends(module: str, target: str) -> bool:
    """As peft matches a list of targets against a module's name."""
    return module == target or module.endswith(f".{target}")


def _fit(a: tuple[int, ...], b: tuple[int, ...], rank: int) -> bool:
    # Of a convolution A has the kernel and B is 1 x 1, so that their product has A's kernel.
    flat = len(a) == len(b) and len(a) in (2, 4)
    return flat and a[0] == b[1] == rank and all(n == 1 for n in b[2:]) and min(*a, *b) >= 1
