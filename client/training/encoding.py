"""A site's tiles as the diffusion model sees them: latents and caption embeddings, made once.

Both are health data. They stay in memory and in a cache that the site alone can read; no caption
enters a log (diffusers' own prompt encoding logs what it cuts off, so it is not used).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from client.data import SiteData, Tile, read_image
from model.base import Pipeline, image_size
from model.text import encode_captions
from privacy.errors import DataError

OnProgress = Callable[[int, int], None]

_TAG = b"craftsfl/encoded-tiles/v1\0"
_PREFIX = "encoded-"
_BATCH = 8  # fits a CPU's cache: a fifth faster than 16 or 32 tiles of 64 px


@dataclass(frozen=True, slots=True)
class EncodedTiles:
    """Tiles of a site, encoded and on the CPU. Health data: no field is ever shown."""

    latents: Tensor = field(repr=False)  # [tiles, c, h, w] float32, scaled for the UNet
    text: Tensor = field(repr=False)  # [captions, length, width] float32, each caption once
    caption_of: Tensor = field(repr=False)  # [tiles] int64: row of `text`
    patient_of: Tensor = field(repr=False)  # [tiles] int64: 0..patients-1

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.latents)

    def by_patient(self) -> list[NDArray[np.int64]]:
        """Tile indices of each patient that has tiles, in the order of the patients."""
        owners = self.patient_of.numpy()
        return [np.flatnonzero(owners == patient) for patient in np.unique(owners)]

    def without(self, patients: Collection[int]) -> EncodedTiles:
        """The others' tiles, and only the captions that these have; numbers stay as they are.

        Nothing is shared with this one: where nobody else holds it, its memory becomes free.
        """
        left = ~torch.isin(self.patient_of, torch.tensor(sorted(patients), dtype=torch.int64))
        captions, caption_of = torch.unique(self.caption_of[left], return_inverse=True)
        return EncodedTiles(
            latents=self.latents[left],
            text=self.text[captions],
            caption_of=caption_of,
            patient_of=self.patient_of[left],
        )


def encode_site(
    pipeline: Pipeline,
    data: SiteData,
    *,
    base_digest: str,
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
) -> EncodedTiles:
    """Encode every tile and caption of `data` with the pipeline's own encoders.

    With `cache` (a folder of the site's) the result is kept there under a digest of tiles,
    captions, patients and base; older entries are deleted, so that no withdrawn patient stays.
    Raises `DataError` for a file that can no longer be read, or a cache that cannot be written.
    """
    path = None
    if cache is not None:
        path = cache / f"{_PREFIX}{_key(data, base_digest, image_size(pipeline))}.safetensors"
        found = _load(path, len(data.tiles))
        if found is not None:
            return found
    captions = sorted({tile.caption for tile in data.tiles})
    rows = {caption: row for row, caption in enumerate(captions)}
    tiles = EncodedTiles(
        latents=_encode_images(pipeline, data.tiles, on_progress),
        text=encode_captions(pipeline, captions or [""])[: len(captions)],
        caption_of=torch.tensor([rows[tile.caption] for tile in data.tiles], dtype=torch.int64),
        patient_of=torch.tensor([tile.patient for tile in data.tiles], dtype=torch.int64),
    )
    if path is not None:
        _save(path, tiles)
    return tiles


@torch.no_grad()
def _encode_images(
    pipeline: Pipeline, tiles: Sequence[Tile], on_progress: OnProgress | None
) -> Tensor:
    """Latents [tiles, c, h, w] on the CPU."""
    # The layout in memory alone: convolutions on a CPU take half the time.
    vae = pipeline.vae.to(memory_format=torch.channels_last)
    size = image_size(pipeline)
    if not tiles:  # everybody withdrew: the rounds go on, with noise alone
        blank = torch.zeros(1, 3, size, size, device=pipeline.device, dtype=vae.dtype)
        return _latents(vae, blank)[:0]
    parts = []
    for start in range(0, len(tiles), _BATCH):
        batch = tiles[start : start + _BATCH]
        pixels = np.stack([read_image(tile.path, size) for tile in batch])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(pipeline.device, vae.dtype)
        parts.append(_latents(vae, images / 127.5 - 1))
        if on_progress is not None:
            on_progress(start + len(batch), len(tiles))
    return torch.cat(parts)


def _latents(vae: torch.nn.Module, images: Tensor) -> Tensor:
    """The posterior's mode of images [b, 3, s, s] in -1..1, scaled as the UNet was trained on."""
    encoded = vae.encode(images)  # type: ignore[operator]  # of diffusers' autoencoders
    # AutoencoderTiny has no posterior, only latents.
    latents = encoded.latent_dist.mode() if "latent_dist" in encoded else encoded.latents
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    scaled: Tensor = (latents - shift) * vae.config.scaling_factor  # type: ignore[union-attr]
    return scaled.float().cpu()


def _key(data: SiteData, base_digest: str, size: int) -> str:
    """64 hex digits over everything that the encoded tiles depend on."""
    digest = hashlib.sha256(_TAG + json.dumps([base_digest, size]).encode())
    for record in _records(data.tiles):
        digest.update(json.dumps(record).encode() + b"\n")
    return digest.hexdigest()


def _records(tiles: Sequence[Tile]) -> Iterator[list[object]]:
    for tile in tiles:
        try:
            content = hashlib.sha256(tile.path.read_bytes()).hexdigest()
        except OSError as error:
            reason = error.strerror
            raise DataError(
                f"A tile can no longer be read: {reason}.",
                "Start again: the quarantine list will name it.",
            ) from None
        yield [content, tile.caption, tile.patient]


def _load(path: Path, tiles: int) -> EncodedTiles | None:
    """The cached tiles; None where there are none, or where the file is damaged."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        return None
    if tensors.keys() != {part.name for part in fields(EncodedTiles)}:
        return None
    found = EncodedTiles(**tensors)
    return found if len(found) == tiles else None


def _save(path: Path, tiles: EncodedTiles) -> None:
    """Write the cache entry whole or not at all, readable by its owner only; drop older ones."""
    tensors = {part.name: getattr(tiles, part.name).contiguous() for part in fields(tiles)}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
            fresh = Path(folder) / path.name  # the temporary folder is the owner's alone
            save_file(tensors, fresh)
            fresh.chmod(0o600)
            fresh.rename(path)
        for pattern in (f"{_PREFIX}*.safetensors", f".new-*/{_PREFIX}*.safetensors"):
            for old in path.parent.glob(pattern):  # also what a killed process has left
                if old != path:
                    old.unlink()
    except FileNotFoundError:
        return  # purged this very moment, because somebody withdrew: the next start encodes again
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"Encoded tiles cannot be kept in {path.parent}: {error}.",
            "Free some disk space there, or name another state folder in site.toml.",
        ) from None
