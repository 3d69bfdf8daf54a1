"""From pictures to latents: encoded every time, or once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model.lab.stage_one.examples import PictureContent, PictureFault, reason
from model.lab.stage_one.pictures import Unusable
from model.lab.stage_one.quarantine import Quarantine
from model.lab.stage_one.settings import StageOneSettings
from privacy.errors import ModelError
from privacy.files import PUBLIC, replacing

_Autoencoder = Any  # diffusers' AutoencoderKL, which is untyped

CHUNK: Final = 512  # pictures a file


@dataclass(frozen=True, slots=True)
class LatentSpace:
    """The base's frozen autoencoder."""

    vae: _Autoencoder

    @torch.no_grad()
    def moments(self, pixels: Tensor) -> Tensor:
        """Mean and deviation of the posterior, float32 [n, 2c, h, w], of pixels [n, 3, s, s]."""
        posterior = self.vae.encode(pixels).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1).float()

    def latents(self, moments: Tensor, spread: Tensor) -> Tensor:
        """Draws of the posterior [n, c, h, w], scaled as the UNet expects (Rombach et al. 2022)."""
        mean, deviation = moments.chunk(2, dim=1)
        return (mean + deviation * spread) * float(self.vae.config.scaling_factor)


@dataclass(frozen=True, slots=True)
class Cached:
    """Moments of pictures that `fill` has encoded; broken ones are NaN."""

    folder: Path

    def __call__(self, picture: int, draws: np.random.Generator) -> Tensor:
        """Float32 [2c, h, w] of one picture, which is never flipped."""
        del draws
        chunk = np.load(_file(self.folder, picture // CHUNK), mmap_mode="r")
        moments = np.array(chunk[picture % CHUNK], np.float32)
        if not np.isfinite(moments).all():
            raise Unusable("left out when the latents were cached")
        return torch.from_numpy(moments)


class _Read(NamedTuple):
    picture: int
    pixels: Tensor | None
    reason: str


_Row = tuple[int, npt.NDArray[np.float16]]  # a picture's number and its moments [2c, h, w]


@dataclass(frozen=True)
class _Pictures(Dataset[_Read]):
    numbers: list[int]
    read: PictureContent

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> _Read:
        number = self.numbers[index]
        try:
            return _Read(number, self.read(number, np.random.default_rng(0)), "")
        except (Unusable, OSError) as fault:
            return _Read(number, None, reason(fault))


@dataclass(frozen=True, slots=True)
class Cache:
    """Fills a folder of moments: chunks are shared among processes, a killed run continues.

    float16, mean and deviation: 16 kB for a picture of 256 px. Each file is complete or absent.
    """

    folder: Path
    space: LatentSpace
    shape: tuple[int, int, int]  # 2c, h, w
    accelerator: Accelerator
    settings: StageOneSettings

    def fill(
        self,
        read: PictureContent,
        count: int,
        quarantine: Quarantine,
        on_step: Callable[[int], None],
    ) -> None:
        """Encode those of pictures 0..count-1 that are missing; on_step(pictures done)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        mine = range(process * CHUNK, count, processes * CHUNK)
        missing = [first for first in mine if not _file(self.folder, first // CHUNK).exists()]
        numbers = [n for first in missing for n in range(first, min(count, first + CHUNK))]
        encoded = self._encoded(_Pictures(numbers, read), quarantine)
        for chunk, rows in groupby(encoded, key=lambda row: row[0] // CHUNK):
            _write(_file(self.folder, chunk), np.stack([moments for _, moments in rows]))
            on_step(min(count, (chunk + 1) * CHUNK))
        self.accelerator.wait_for_everyone()

    def _encoded(self, pictures: _Pictures, quarantine: Quarantine) -> Iterator[_Row]:
        loader: DataLoader[list[_Read]] = DataLoader(
            pictures,  # type: ignore[arg-type]  # the collation makes lists
            batch_size=self.settings.micro_batch,
            num_workers=self.settings.loaders(),
            collate_fn=list,
        )
        for reads in loader:
            quarantine.add(
                PictureFault(one.picture, one.reason) for one in reads if one.pixels is None
            )
            yield from zip((one.picture for one in reads), self._moments(reads), strict=True)

    def _moments(self, reads: list[_Read]) -> npt.NDArray[np.float16]:
        moments = np.full((len(reads), *self.shape), np.nan, np.float16)
        whole = [row for row, one in enumerate(reads) if one.pixels is not None]
        if whole:
            pixels = torch.stack([one.pixels for one in reads if one.pixels is not None])
            with self.accelerator.autocast():
                found = self.space.moments(pixels.to(self.accelerator.device))
            moments[whole] = found.cpu().numpy()
        return moments


def _file(folder: Path, chunk: int) -> Path:
    return folder / f"{chunk:06d}.npy"


def _write(path: Path, rows: npt.NDArray[np.float16]) -> None:
    try:
        with replacing(path, PUBLIC) as file:
            np.save(file, rows)
    except OSError as error:
        raise ModelError(
            f"The cached latents cannot be written to {path.parent}: {error.strerror or error}.",
            'Free some disk space and call again, or encode every time (latents = "encoded").',
        ) from None
