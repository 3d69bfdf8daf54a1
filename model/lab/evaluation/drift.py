"""How far an adapter has moved the model on public prompts that it was not meant to change.

Two figures: the denoiser's own (what the drift suppressor holds down) and the images'. No patient
is involved: the bootstrap is over prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.arrays import Doubles, Features
from model.base import Pipeline
from model.lab.evaluation.figures import Figure, Reference
from model.lab.evaluation.patients import DEFAULT_RESAMPLES, mean_interval, multiplicities
from model.latents import latents_of
from model.quality.alignment import TooFewError, unit_rows
from model.text import encode_captions

_DENOISER = "mean |eps - eps_base|^2 / |eps_base|^2, as the drift suppressor"
_IMAGES = "1 - cosine of base and adapted image, same prompt and noise"
_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)  # shares of the schedule
_BATCH = 8
FEWEST_PROMPTS = 2


@dataclass(frozen=True)
class BaseAndAdapted:
    """Images of the same prompts and seeds, without and with the adapter; and of other seeds.

    All uint8 [n, s, s, 3], in the order of the prompts.
    """

    prompts: tuple[str, ...]
    base: NDArray[np.uint8]
    adapted: NDArray[np.uint8]
    other_seed: NDArray[np.uint8]


def denoiser_drift(pipeline: Pipeline, images: BaseAndAdapted, seed: int) -> Doubles:
    """[n]: relative squared change of the UNet's prediction, on noised latents of base images.

    The pipeline carries the adapter, which is switched off for the base's prediction.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = [slice(start, start + _BATCH) for start in range(0, len(images.base), _BATCH)]
    latents = torch.cat([latents_of(pipeline, images.base[part]) for part in parts])
    text = encode_captions(pipeline, images.prompts)
    last = pipeline.scheduler.config.num_train_timesteps - 1
    total = torch.zeros(len(latents))
    for share in _TIMES:
        noise = torch.randn(latents.shape, generator=generator)
        times = torch.full((len(latents),), round(share * last))
        noised = pipeline.scheduler.add_noise(latents, noise, times)
        for part in parts:
            total[part] += _relative_change(pipeline, noised[part], times[part], text[part])
    return np.asarray(total.numpy() / len(_TIMES), np.float64)


def _relative_change(pipeline: Pipeline, noised: Tensor, times: Tensor, text: Tensor) -> Tensor:
    """[n] float32; all on the CPU."""
    device, dtype = pipeline.unet.device, pipeline.unet.dtype

    def predict() -> Tensor:
        out: Tensor = pipeline.unet(
            noised.to(device, dtype),
            times.to(device),
            text.to(device, dtype),
            return_dict=False,
        )[0]
        return out.float().flatten(1).cpu()

    with torch.no_grad():
        adapted = predict()
        pipeline.disable_lora()
        try:
            base = predict()
        finally:
            pipeline.enable_lora()
    return (adapted - base).square().sum(dim=1) / base.square().sum(dim=1)


def image_drift(base: Features, other: Features) -> Doubles:
    """[n]: 1 - cosine of features [n, E], row by row."""
    return 1 - np.asarray((unit_rows(base) * unit_rows(other)).sum(axis=1), np.float64)


def drift_figure(
    metric: str, encoder: str, values: Doubles, seed: int, control: Doubles | None = None
) -> Figure:
    """Values [n prompts] with their bootstrap over prompts; control: the base with other seeds.

    Raises `TooFewError` for a single prompt.
    """
    if len(values) < FEWEST_PROMPTS:
        raise TooFewError(
            f"Drift needs {FEWEST_PROMPTS} public prompts.", "Give a longer list of prompts."
        )
    rng = np.random.default_rng([seed, 5])
    weights = multiplicities(np.arange(len(values)), DEFAULT_RESAMPLES, rng)
    beside: tuple[Reference, ...] = ()
    if control is not None:
        mean = mean_interval(control, weights)
        beside = (Reference("base, other seeds", *mean, len(control)),)
    return Figure(
        metric,
        encoder,
        *mean_interval(values, weights),
        n_real=0,
        n_generated=len(values),
        patients=0,
        seed=seed,
        better="lower",
        source=_DENOISER if control is None else _IMAGES,
        beside=beside,
    )
