"""One training example for each position, made in the reading processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import CLIPTokenizer

from model.lab.stage_one.order import BatchLayout, PictureOrder
from model.lab.stage_one.pictures import Unusable, decode_square
from model.lab.stage_one.settings import StageOneSettings
from model.lab.stage_one.source import PictureSource

_TRIES = 16  # neighbours that may replace a broken picture


class PictureFault(NamedTuple):
    """A picture that cannot be used, and why."""

    picture: int
    reason: str


class PictureContent(Protocol):
    """What the autoencoder gets of a picture, or what it returned before."""

    def __call__(self, picture: int, draws: np.random.Generator) -> Tensor:
        """Float tensor of one picture. Raises `OSError`, `Unusable`."""
        ...


@dataclass(frozen=True, slots=True)
class Pixels:
    """Pictures as float32 [3, size, size] in -1..1, flipped at random where wanted."""

    source: PictureSource
    size: int
    flips: bool = False

    def __call__(self, picture: int, draws: np.random.Generator) -> Tensor:
        """Decode one; a flipped picture is as good a picture as any."""
        image = decode_square(self.source.picture(picture), self.size)
        if self.flips:
            across, down = 1 - 2 * draws.integers(2, size=2)
            image = image[::down, ::across]
        return picture_tensor(image)


def picture_tensor(image: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [s, s, 3] to float32 [3, s, s] in -1..1."""
    values = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return values.float() / 127.5 - 1


class ExampleBatch(NamedTuple):
    """Examples of one micro-batch; `content` is None if none could be read."""

    content: Tensor | None  # [n, ...], see `PictureContent`
    tokens: Tensor  # int64 [n, length]
    timesteps: Tensor  # int64 [n]
    noise: Tensor  # eps, float32 [n, c, h, w]
    spread: Tensor  # for the autoencoder's own randomness, like noise
    faults: tuple[PictureFault, ...]


class _Example(NamedTuple):
    content: Tensor | None
    caption: str
    timestep: int
    noise: npt.NDArray[np.float32]  # eps and spread, [2, c, h, w]
    faults: tuple[PictureFault, ...]


@dataclass(frozen=True)
class Examples(Dataset[_Example]):
    """Example number = position. Draws happen in a fixed order, whatever happens to the picture."""

    source: PictureSource
    content: PictureContent
    order: PictureOrder
    latent: tuple[int, int, int]  # c, h, w
    timesteps: int
    caption_dropout: float

    def __getitem__(self, position: int) -> _Example:
        draws = self.order.draws(position)
        unconditional = draws.random() < self.caption_dropout
        timestep = int(draws.integers(self.timesteps))
        noise = draws.standard_normal((2, *self.latent), np.float32)
        first = self.order.picture(position)
        faults = []
        for picture in ((first + step) % len(self.source) for step in range(_TRIES)):
            try:
                caption = self.source.caption(picture)  # even if it is dropped: it may be broken
                content = self.content(picture, draws)
            except (Unusable, OSError) as fault:
                faults.append(PictureFault(picture, reason(fault)))
                continue
            text = "" if unconditional else caption
            return _Example(content, text, timestep, noise, tuple(faults))
        return _Example(None, "", timestep, noise, tuple(faults))


def reason(fault: Unusable | OSError) -> str:
    """Why a picture is left out, without the machine's paths."""
    return fault.strerror or "cannot be read" if isinstance(fault, OSError) else str(fault)


@dataclass(frozen=True, slots=True)
class _Collate:
    tokenizer: CLIPTokenizer

    def __call__(self, examples: Sequence[_Example]) -> ExampleBatch:
        contents = [one.content for one in examples if one.content is not None]
        noise = torch.from_numpy(np.stack([one.noise for one in examples]))
        return ExampleBatch(
            content=torch.stack(contents) if len(contents) == len(examples) else None,
            tokens=tokenize(self.tokenizer, [one.caption for one in examples]),
            timesteps=torch.tensor([one.timestep for one in examples]),
            noise=noise[:, 0],
            spread=noise[:, 1],
            faults=tuple(fault for one in examples for fault in one.faults),
        )


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """int64 [n, length], truncated and padded as by Stable Diffusion's pipeline."""
    length = tokenizer.model_max_length
    filled = tokenizer(
        texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return torch.as_tensor(filled["input_ids"])


@dataclass(frozen=True)
class _From(Sampler[list[int]]):
    layout: BatchLayout
    first: int
    last: int

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first, self.last):
            yield from self.layout.positions(step)


def example_batches(
    examples: Examples,
    tokenizer: CLIPTokenizer,
    layout: BatchLayout,
    first: int,
    settings: StageOneSettings,
) -> Iterator[ExampleBatch]:
    """This process's micro-batches from step `first` to the last."""
    loader: DataLoader[ExampleBatch] = DataLoader(
        examples,  # type: ignore[arg-type]  # the collation makes batches of examples
        batch_sampler=_From(layout, first, settings.steps),
        collate_fn=_Collate(tokenizer),
        num_workers=settings.loaders(),
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)
