"""Load transformers' models as frozen encoders: safetensors only, no code from the folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

# Read when transformers is first imported: it warns about a missing torchvision, which nothing here
# needs.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

# ruff: isort: split
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from model.encoders.files import EncoderFiles, encoder_fault
from privacy.errors import ModelError

# transformers is untyped where it matters: no type checker sees its models' methods.
EncoderNetwork: TypeAlias = Any
Tokenizer: TypeAlias = Any
T = TypeVar("T")

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's


# What transformers raises for settings and weights that are damaged.
_DAMAGED = (
    *(OSError, ValueError, TypeError, KeyError, RuntimeError),
    *(SafetensorError, StrictDataclassError),
)


def load_network(files: EncoderFiles) -> EncoderNetwork:
    """The model in `files`, float32, frozen, in eval mode.

    Raises `ModelError` if it cannot be read, and where weights are missing: transformers would
    initialise them at random.
    """
    kind: Any = AutoModel
    model, report = _guarded(
        files,
        lambda: kind.from_pretrained(
            files.folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        ),
    )
    # classifiers are saved without the pooler, which no adapter here uses
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    if missing or report["mismatched_keys"]:
        raise ModelError(
            f"The encoder {files.source!r} lacks {len(missing)} of its weights.",
            "Get the encoder again, or name another.",
        )
    return model.requires_grad_(False).eval()


def load_tokenizer(files: EncoderFiles) -> Tokenizer:
    """The tokenizer in `files`. Raises `ModelError` if there is none."""
    kind: Any = AutoTokenizer
    tokenizer: Tokenizer = _guarded(
        files,
        lambda: kind.from_pretrained(files.folder, local_files_only=True, trust_remote_code=False),
    )
    return tokenizer


def normalisation(files: EncoderFiles) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the pixels the model was trained on, [1, 3, 1, 1] each.

    CLIP's where the folder has no preprocessor_config.json.
    """
    mean = files.preprocessing.get("image_mean", _MEAN)
    std = files.preprocessing.get("image_std", _STD)
    return torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)


def crop_size(files: EncoderFiles) -> int | None:
    """Side of the images that preprocessor_config.json crops or resizes to; None if unspecified."""
    for key in ("crop_size", "size"):
        value = files.preprocessing.get(key)
        if isinstance(value, int):
            return value
        if isinstance(value, dict):
            side = value.get("height", value.get("shortest_edge"))
            if isinstance(side, int):
                return side
    return None


def _guarded(files: EncoderFiles, load: Callable[[], T]) -> T:
    logger: Any = transformers_logging
    logger.disable_progress_bar()
    try:
        return load()
    except _DAMAGED as error:
        fault = encoder_fault(files)
        words = fault.what if fault else "its config.json, tokenizer and weights do not match"
        raise ModelError(
            f"The encoder {files.source!r} cannot be loaded: {words}.",
            fault.cure if fault else "Get the encoder again, all files of one version.",
        ) from error
