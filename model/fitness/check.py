"""Refuse a base that cannot work before it gets a digest: by its settings, files and tensors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from model.fitness.fault import BaseFault
from model.fitness.parts import of_index, of_scheduler, of_unet, read_parts
from model.fitness.weights import of_texts, of_weights
from privacy.errors import ModelError

_MOST = 4  # faults in one message


def check_base(folder: Path) -> None:
    """Raise `ModelError` unless `folder` holds a complete base of Stable Diffusion's shape.

    Reads settings and the headers of the weights; torch is imported only if nothing was wrong so
    far.
    """
    parts, unreadable = read_parts(folder)
    if not parts.index:
        _refuse(folder, unreadable[:1])
    faults = [*of_index(parts.index), *of_scheduler(parts.index, parts.scheduler)]
    _refuse(folder, [*faults, *unreadable] if unreadable else [*faults, *of_unet(parts)])
    shapes, missing = of_weights(folder)
    _refuse(folder, [*missing, *of_texts(folder)])
    from model.fitness.tensors import of_tensors
    from model.fitness.tokens import of_tokenizer

    settings = {"unet": parts.unet, "vae": parts.vae, "text_encoder": parts.text_encoder}
    tokens = of_tokenizer(folder, parts.text_encoder)
    _refuse(folder, [*of_tensors(folder, settings, shapes), *tokens])


def _refuse(folder: Path, faults: Iterable[BaseFault]) -> None:
    found = list(faults)
    if not found:
        return
    words = "; ".join(fault.what for fault in found[:_MOST])
    cures = " ".join(dict.fromkeys(fault.cure for fault in found[:_MOST]))
    raise ModelError(f"The base in {folder} cannot be loaded: {words}.", cures)
