"""Sample any Stable-Diffusion-shaped pipeline, fast; each seed makes its own image."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import torch
from PIL import Image

from model.base import Pipeline, image_size
from privacy.errors import ModelError

DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 3.0
_BATCH = 16
_LARGE = 256  # px: from this size on, batches on a CPU are smaller and decoded image by image
_LARGE_BATCH = 4
_MULTIPLE = 8  # px; diffusers' pipelines accept no other sides
_WIDEST = 4096  # px; wider ones take more memory than a machine has
_STRONGEST = 100.0  # guidance; far above it float32 overflows, and pictures show nothing
_Drawn = list[tuple[int, Image.Image]]


@dataclass(frozen=True)
class SamplerSettings:
    """How to draw. size: pixels, the pipeline's own if None.

    workers: threads that draw batches in parallel, each single-threaded; None: as many as torch
    would use within an operation, where they would wait for each other every time.
    """

    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    size: int | None = None
    batch: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        """Raise `ModelError` for a guidance or a size that no picture can have."""
        if not 0 <= self.guidance <= _STRONGEST:  # which NaN is not
            raise ModelError(
                f"No picture can be drawn with a guidance of {self.guidance:g}.",
                f"Give 0 to {_STRONGEST:g}; {DEFAULT_GUIDANCE:g} is usual.",
            )
        if self.size is not None:
            _check_side(self.size)


@dataclass(frozen=True, eq=False)
class Conditions:
    """For a pipeline with a control: planes float32 [n, C, s, s], one for each image."""

    planes: torch.Tensor
    strength: float = 1.0


def sample(
    pipeline: Pipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int = DEFAULT_STEPS,
    guidance: float = DEFAULT_GUIDANCE,
    size: int | None = None,
) -> list[Image.Image]:
    """One image per prompt and seed, in their order; see `sample_each`."""
    settings = SamplerSettings(steps, guidance, size)
    found = dict(sample_each(pipeline, prompts, seeds, settings))
    return [found[index] for index in range(len(prompts))]


def sample_each(
    pipeline: Pipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: SamplerSettings,
    conditions: Conditions | None = None,
) -> Iterator[tuple[int, Image.Image]]:
    """(index, image) for each prompt and seed, in the order in which batches finish.

    Each image has its own generator (on the CPU, so that a GPU draws the same noise): a seed makes
    the same image whatever else is in the batch, up to rounding.
    Raises ModelError if prompts, seeds and conditions differ in number, or for an odd size.
    """
    _check_numbers(prompts, seeds, conditions)
    pipeline.set_progress_bar_config(disable=True)
    side = settings.size or image_size(pipeline)
    _check_side(side)
    if side >= _LARGE:
        pipeline.vae.enable_slicing()
    workers = settings.workers or _workers(pipeline)
    batches = _batches(len(prompts), settings.batch or _batch_size(pipeline, side), workers)

    def draw(own: Pipeline, part: slice) -> _Drawn:
        options: dict[str, Any] = {}
        if conditions is not None:
            options["image"] = conditions.planes[part].to(own.unet.device, own.unet.dtype)
            options["controlnet_conditioning_scale"] = float(conditions.strength)
        with torch.inference_mode():
            output = own(
                prompt=list(prompts[part]),
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                height=settings.size,
                width=settings.size,
                **options,
            )
        return list(enumerate(output.images, part.start))

    yield from _each(pipeline, min(workers, len(batches)), batches, draw)


def _check_side(side: int) -> None:
    if side % _MULTIPLE or not 0 < side <= _WIDEST:
        raise ModelError(
            f"Pictures of {side} px cannot be drawn.",
            f"Choose a multiple of {_MULTIPLE}, {_WIDEST} at most.",
        )


def _each(
    pipeline: Pipeline,
    workers: int,
    batches: Sequence[slice],
    draw: Callable[[Pipeline, slice], _Drawn],
) -> Iterator[tuple[int, Image.Image]]:
    """What `draw` returns for each batch, the first to finish first.

    Each worker has a pipeline of its own, of the same parts but for two: the scheduler counts
    steps, and the tokenizer keeps the truncation of its last call, which another thread's call
    would change under it.
    """
    own: SimpleQueue[Pipeline] = SimpleQueue()
    for _ in range(workers):
        made = copy.copy(pipeline)
        made.scheduler = copy.deepcopy(pipeline.scheduler)
        made.tokenizer = copy.deepcopy(pipeline.tokenizer)
        own.put(made)

    def work(part: slice) -> _Drawn:
        mine = own.get()
        try:
            return draw(mine, part)
        finally:
            own.put(mine)

    if workers <= 1:
        for part in batches:
            yield from work(part)
        return
    with _threads(workers) as pool:
        for future in as_completed([pool.submit(work, part) for part in batches]):
            yield from future.result()


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of single-threaded workers; work not begun by the end is dropped."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # for threads that start from here on
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _workers(pipeline: Pipeline) -> int:
    return torch.get_num_threads() if pipeline.unet.device.type == "cpu" else 1


def _batch_size(pipeline: Pipeline, side: int) -> int:
    large = side >= _LARGE and pipeline.unet.device.type == "cpu"
    return _LARGE_BATCH if large else _BATCH


def _batches(images: int, most: int, workers: int) -> list[slice]:
    """Slices of at most `most` images, as even as possible, so that all workers finish together."""
    rounds = -(-images // (most * workers))
    count = min(rounds * workers, images)
    ends = [images * number // count for number in range(1, count + 1)] if count else []
    return [slice(start, end) for start, end in pairwise([0, *ends])]


def _check_numbers(
    prompts: Sequence[str], seeds: Sequence[int], conditions: Conditions | None
) -> None:
    if len(prompts) != len(seeds):
        raise ModelError(
            f"{len(prompts)} prompts but {len(seeds)} seeds.", "Give each prompt one seed."
        )
    if conditions is not None and len(conditions.planes) != len(prompts):
        raise ModelError(
            f"{len(prompts)} prompts but {len(conditions.planes)} conditions.",
            "Give each image one condition.",
        )
