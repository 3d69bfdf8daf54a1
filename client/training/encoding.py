"""A site's tiles as the diffusion model sees them: latents and caption embeddings, made once.

Where the study's loss needs it, they come with how a frozen encoder sees the places of each tile,
and with how alike it finds captions and the study's phrases.
Tiles go through the encoders one at a time, so that the result for a tile depends, bit for bit, on
its own pixels alone: in a batch, rounding would make it depend on the number of other tiles.
All of this is health data. It stays in memory and in a cache that only the site can read. No
caption enters a log (diffusers' own prompt encoding logs what it truncates, so it is not used).
"""

from __future__ import annotations

import hashlib
import json
import logging
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

from client.data import SiteData, SiteTile, read_tile
from client.training.references import CaptionPhrases, TileReference
from model.base import Pipeline, image_size
from model.latents import latents_of
from model.losses import phrase_likeness, reference_correlations
from model.text import encode_captions
from privacy.errors import DataError

_OnProgress = Callable[[int, int], None]

_log = logging.getLogger("craftsfl.agent")

_TAG = b"craftsfl/encoded-tiles/v2\0"
_PREFIX = "encoded-"
_KEPT_APART = frozenset({"lines"})  # not a tensor: comes with the data, not from the cache


@dataclass(frozen=True, slots=True)
class EncodedTiles:
    """Tiles of a site, encoded and on the CPU. Health data: no field is ever shown."""

    latents: Tensor = field(repr=False)  # [tiles, c, h, w] float32, scaled for the UNet
    text: Tensor = field(repr=False)  # [captions, length, width] float32, each caption once
    caption_of: Tensor = field(repr=False)  # [tiles] int64: row of `text`
    patient_of: Tensor = field(repr=False)  # [tiles] int64: 0..patients-1
    # R^Y above the diagonal, [tiles, N (N - 1) / 2] float16; only where the loss compares with it
    reference: Tensor | None = field(default=None, repr=False)
    # r of each caption and public phrase, [captions, P] float32; only where the loss needs it
    likeness: Tensor | None = field(default=None, repr=False)
    lines: tuple[bytes, ...] = field(default=(), repr=False)  # of each patient, by number

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.latents)

    def by_patient(self) -> list[NDArray[np.int64]]:
        """Tile indices of each patient that has tiles, in the order of the patients."""
        owners = self.patient_of.numpy()
        return [np.flatnonzero(owners == patient) for patient in np.unique(owners)]

    def identity(self, patient: int) -> bytes:
        """Who `patient` is, independently of who else takes part: the line, or else the number.

        The key of everything that is drawn for one patient and must not change with another.
        """
        return self.lines[patient] if self.lines else patient.to_bytes(8, "big")

    def without(self, patients: Collection[int]) -> EncodedTiles:
        """The tiles of the others, and only their captions; numbers stay as they are.

        Shares nothing with this object, whose memory is freed once nobody holds it.
        """
        left = ~torch.isin(self.patient_of, torch.tensor(sorted(patients), dtype=torch.int64))
        captions, caption_of = torch.unique(self.caption_of[left], return_inverse=True)
        return EncodedTiles(
            latents=self.latents[left],
            text=self.text[captions],
            caption_of=caption_of,
            patient_of=self.patient_of[left],
            reference=None if self.reference is None else self.reference[left],
            likeness=None if self.likeness is None else self.likeness[captions],
            lines=self.lines,
        )


def encode_site(
    pipeline: Pipeline,
    data: SiteData,
    *,
    base_digest: str,
    reference: TileReference | None = None,
    phrases: CaptionPhrases | None = None,
    cache: Path | None = None,
    on_progress: _OnProgress | None = None,
) -> EncodedTiles:
    """Encode every tile and caption of `data` with the pipeline's own encoders.

    `reference` and `phrases`: the frozen encoders, and public texts, that the study's loss compares
    with. With `cache` (a folder of the site's) the result is kept there under a digest of tiles,
    captions, patients, base and both; older entries are deleted, so that no withdrawn patient
    remains. A file that can no longer be read becomes a blank tile, with a warning in the log, and
    nothing is cached then. There are also warnings where the cache cannot be written, and where
    captions are like no phrase. Raises `ModelError` where an encoder is not the pinned one.
    """
    made_by = _made_by([base_digest, image_size(pipeline)], reference, phrases)
    path = None if cache is None else _entry(cache, data, made_by)
    asked = (("reference", reference), ("likeness", phrases))
    without = frozenset(name for name, part in asked if part is None)
    found = None if path is None else _load(path, data, without)
    if found is None:
        found = _encoded(pipeline, data, (reference, phrases), path, on_progress)
    _warn_of_unlike(found, phrases)
    return found


def _encoded(
    pipeline: Pipeline,
    data: SiteData,
    asked: tuple[TileReference | None, CaptionPhrases | None],
    path: Path | None,
    on_progress: _OnProgress | None,
) -> EncodedTiles:
    """The tiles, encoded now, and kept at `path`."""
    reference, phrases = asked
    captions = sorted({tile.caption for tile in data.tiles})
    rows = {caption: row for row, caption in enumerate(captions)}
    pictures = _Pictures(data.tiles, image_size(pipeline), on_progress)
    latents, correlations = _encode_images(pipeline, pictures, reference)
    tiles = EncodedTiles(
        latents=latents,
        text=encode_captions(pipeline, captions or [""])[: len(captions)],
        caption_of=torch.tensor([rows[tile.caption] for tile in data.tiles], dtype=torch.int64),
        patient_of=torch.tensor([tile.patient for tile in data.tiles], dtype=torch.int64),
        reference=correlations,
        likeness=None if phrases is None else _likeness(phrases, captions),
        lines=data.lines,
    )
    if pictures.lost:
        _log.warning("Tiles that can no longer be read, and are blank: %d.", pictures.lost)
    elif path is not None:
        _save(path, tiles)
    return tiles


def _likeness(phrases: CaptionPhrases, captions: Sequence[str]) -> Tensor:
    return phrase_likeness(phrases.load(), captions, phrases.phrases)


def _warn_of_unlike(tiles: EncodedTiles, phrases: CaptionPhrases | None) -> None:
    """Say how many captions are like no phrase, to the site alone, and never which."""
    if phrases is None or tiles.likeness is None or not len(tiles.likeness):
        return
    unlike = int((tiles.likeness.amax(dim=1) <= phrases.least).sum())
    if unlike:
        _log.warning(
            "Captions that are like none of the study's phrases: %d of %d; their tiles train "
            "without that term. craftsfl model phrases shows which.",
            *(unlike, len(tiles.likeness)),
        )


class _Pictures:
    """Each tile's pixels in turn, uint8 [1, size, size, 3]; one blank picture if there are none.

    Everybody may have withdrawn: the rounds then go on with noise alone, and need the right shapes.
    """

    def __init__(
        self, tiles: Sequence[SiteTile], size: int, on_progress: _OnProgress | None
    ) -> None:
        self._tiles = tiles
        self._blank = np.zeros((size, size, 3), np.uint8)
        self._on_progress = on_progress
        self.lost = 0  # tiles that are blank because they could not be read

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self._tiles)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        if not self._tiles:
            yield self._blank[None]
        for number, tile in enumerate(self._tiles, start=1):
            yield np.stack([self._read(tile.path)])
            if self._on_progress is not None:
                self._on_progress(number, len(self._tiles))

    def _read(self, path: Path) -> NDArray[np.uint8]:
        """A missing file costs its tile only: others would notice a start that failed."""
        try:
            return read_tile(path, len(self._blank))
        except DataError:
            self.lost += 1
            return self._blank


def _encode_images(
    pipeline: Pipeline, pictures: _Pictures, reference: TileReference | None
) -> tuple[Tensor, Tensor | None]:
    """Latents [tiles, c, h, w] and reference correlations [tiles, pairs], both on the CPU."""
    encoder = None if reference is None else reference.load()
    latents, correlations = [], []
    for pixels in pictures:
        latents.append(latents_of(pipeline, pixels))
        if reference is not None and encoder is not None:
            correlations.append(reference_correlations(encoder, pixels, reference.side))
    count = len(pictures)
    found = torch.cat(correlations)[:count] if correlations else None
    return torch.cat(latents)[:count], found


def _made_by(
    base: Sequence[object], reference: TileReference | None, phrases: CaptionPhrases | None
) -> list[object]:
    """What encoded tiles depend on besides the site's data."""
    made_by = [*base] if reference is None else [*base, reference.digest, reference.side]
    return made_by if phrases is None else [*made_by, "phrases", phrases.digest, *phrases.phrases]


def _entry(cache: Path, data: SiteData, made_by: Sequence[object]) -> Path:
    """The cache's entry for everything that the encoded tiles depend on."""
    digest = hashlib.sha256(_TAG + json.dumps(made_by).encode())
    for tile in data.tiles:
        record = [tile.digest.hex(), tile.caption, tile.patient]
        digest.update(json.dumps(record).encode() + b"\n")
    return cache / f"{_PREFIX}{digest.hexdigest()}.safetensors"


def _load(path: Path, data: SiteData, without: frozenset[str]) -> EncodedTiles | None:
    """The cached tiles; None if there are none, or if the file is damaged.

    `without`: the tensors that this study's tiles do not have.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        return None
    names = {part.name for part in fields(EncodedTiles)} - _KEPT_APART - without
    if tensors.keys() != names:
        return None
    found = EncodedTiles(lines=data.lines, **tensors)
    return found if len(found) == len(data.tiles) else None


def _save(path: Path, tiles: EncodedTiles) -> None:
    """Write the cache entry whole or not at all, readable by its owner only; drop older ones."""
    parts = {p.name: getattr(tiles, p.name) for p in fields(tiles) if p.name not in _KEPT_APART}
    tensors = {name: part.contiguous() for name, part in parts.items() if part is not None}
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
        return  # just purged because somebody withdrew: the next start encodes again
    except (OSError, SafetensorError) as error:
        # One patient with many files must not decide whether the agent starts.
        _log.warning(
            "Encoded tiles cannot be kept in %s (%s): the next start encodes them again. Free some "
            "disk space there, or name another state folder in site.toml.",
            *(path.parent, type(error).__name__),
        )
