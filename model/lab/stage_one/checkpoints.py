"""Checkpoints that are complete or absent: a killed run continues from the newest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from privacy.errors import ModelError

Averages = Any  # diffusers' EMAModel

_PARTIAL: Final = "partial"
_PATTERN: Final = "step-*"
_AVERAGES: Final = "ema.safetensors"
# Weights, AdamW's two moments and the average, float32.
BYTES_PER_PARAMETER: Final = 16


class Checkpoints:
    """`folder`/step-00001000: accelerate's state of every process, and the averaged weights."""

    def __init__(self, folder: Path, accelerator: Accelerator, ema: Averages) -> None:
        self._folder, self._accelerator, self._ema = folder, accelerator, ema

    def load(self) -> int:
        """Restore everything as it was after the newest step, which is returned; 0 if none."""
        newest = newest_checkpoint(self._folder)
        if newest is None:
            return 0
        step = int(newest.name.removeprefix("step-"))
        try:
            self._accelerator.load_state(str(newest))
            averages = load_file(newest / _AVERAGES)
            for number, average in enumerate(self._ema.shadow_params):
                average.copy_(averages[str(number)])
        except (OSError, RuntimeError, LookupError, ValueError, SafetensorError) as error:
            raise ModelError(
                f"The checkpoint {newest} is damaged, or was written with other settings.",
                "Delete it: the run then continues from the previous one, or from the start.",
            ) from error
        self._ema.optimization_step = step
        return step

    def save(self, step: int) -> None:
        """Write the state after `step`, then drop older ones.

        Raises `ModelError` if the disk is full; the previous checkpoint stays.
        """
        partial = self._folder / _PARTIAL
        if self._accelerator.is_main_process:
            _remove(partial)
            partial.mkdir(mode=0o700, parents=True)  # a planted link is not followed
            require_space(self._folder, self._ema.shadow_params)
        self._accelerator.wait_for_everyone()
        try:
            self._accelerator.save_state(str(partial))
            if self._accelerator.is_main_process:
                averages = enumerate(self._ema.shadow_params)
                save_file({str(n): t.contiguous() for n, t in averages}, partial / _AVERAGES)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            why = str(error).partition("\n")[0]
            raise ModelError(
                f"The checkpoint after step {step} cannot be written to {self._folder}, which has "
                f"{_free(self._folder)} left: {why}.",
                "Free some disk space and call again: the run resumes from the one before.",
            ) from error
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            _make_durable(partial)
            target = self._folder / f"step-{step:08d}"
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            for older in set(self._folder.glob(_PATTERN)) - {target}:
                shutil.rmtree(older, ignore_errors=True)
        self._accelerator.wait_for_everyone()


def newest_checkpoint(folder: Path) -> Path | None:
    """The folder of the newest complete checkpoint."""
    return max(folder.glob(_PATTERN), default=None)


def require_space(folder: Path, parameters: Iterable[Tensor]) -> None:
    """Raise `ModelError` if `folder`'s disk has no room for a checkpoint of `parameters`."""
    needed = BYTES_PER_PARAMETER * sum(parameter.numel() for parameter in parameters)
    if shutil.disk_usage(folder).free < needed:
        raise ModelError(
            f"A checkpoint takes {needed >> 20:,} MiB, and {folder} has {_free(folder)} left.",
            "Free some disk space and call again, or choose another folder; what was trained up "
            "to the newest checkpoint is kept.",
        )


def _free(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).free >> 20:,} MiB"


def _remove(folder: Path) -> None:
    """Remove what a killed run has left, but never what a link points to."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _make_durable(folder: Path) -> None:
    """Make sure every file is on disk before a name promises that it is."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
