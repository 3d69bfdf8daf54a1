"""The processes and devices of a run, through accelerate."""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from model.lab.stage_one.order import BatchLayout
from model.lab.stage_one.settings import StageOneSettings
from privacy.errors import ModelError

# One process may index shards or write a base while the others wait.
_PATIENCE = timedelta(hours=3)


def make_accelerator(settings: StageOneSettings) -> tuple[Accelerator, BatchLayout]:
    """The accelerator of this process, and its share of each batch.

    `torchrun` or `accelerate launch` starts several. Raises `ModelError` if the device lacks the
    precision, `ConfigError` if the batch cannot be split.
    """
    if settings.precision == "fp16" and not torch.cuda.is_available():
        raise ModelError(
            "precision = 'fp16' needs a GPU, and none was found.",
            'Set precision = "auto" in stage-one.toml.',
        )
    try:
        accelerator = Accelerator(
            mixed_precision=precision(settings),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
        )
    except ValueError as error:
        raise ModelError(
            f"precision = {settings.precision!r} is not available here: {error}.",
            'Set precision = "auto" in stage-one.toml.',
        ) from None
    share = accelerator.process_index, accelerator.num_processes
    return accelerator, BatchLayout(settings.batch, settings.micro_batch, *share)


def precision(settings: StageOneSettings) -> str:
    """ "no", "bf16" or "fp16": "auto" is bf16 if the GPU computes in it."""
    if settings.precision != "auto":
        return settings.precision
    good = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if good else "no"
