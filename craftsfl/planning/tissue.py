"""Patients to rehearse on: synthetic hospitals whose tissue no base was trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.data import load_site_data
from client.training import EncodedTiles, encode_site
from model.base import Pipeline
from model.lab.tissue import HOSPITALS
from model.lab.tissue.imagefolder import write_site

_TRAINING: Final = 54_000  # + 10 seed + number of the site
_HELD_OUT: Final = 64_000
_MOST_TILES: Final = 2  # as in the demo: every other patient has a single tile


@dataclass(frozen=True)
class PooledSites:
    """One seed's patients, site after site, `sizes` of them at each; no site trains on `held_out`.

    `captions` are those of the held-out tiles.
    """

    train: EncodedTiles
    sizes: tuple[int, ...]
    held_out: EncodedTiles
    captions: tuple[str, ...]


def drawn_sites(
    pipeline: Pipeline, patients: Mapping[str, int], held_out: int, seed: int, cache: Path
) -> PooledSites:
    """Draw and encode a seed's patients; encoded tiles are kept in the folder `cache`.

    `patients` of each site, by a name of `HOSPITALS`; `held_out` further ones of each.
    """
    train, others = [], []
    captions: list[str] = []
    for number, (site, count) in enumerate(patients.items()):
        own = 10 * seed + number
        tiles, _ = _site(pipeline, site, count, _MOST_TILES, _TRAINING + own, cache)
        apart, texts = _site(pipeline, site, held_out, 1, _HELD_OUT + own, cache)
        train.append(tiles)
        others.append(apart)
        captions += texts
    return PooledSites(joined(train), tuple(patients.values()), joined(others), tuple(captions))


def by_hospital(sizes: Sequence[int]) -> dict[str, int]:
    """Patients to draw of each hospital's kind, where sites of these `sizes` are theirs in turn."""
    names = list(HOSPITALS)
    found = dict.fromkeys(names[: len(sizes)], 0)
    for number, size in enumerate(sizes):
        found[names[number % len(names)]] += size
    return found


def fewer(sites: PooledSites, sizes: Sequence[int]) -> PooledSites:
    """The first `sizes` patients of each site; a site of which there are none is left out."""
    ends = np.cumsum([0, *sites.sizes])
    kept = [
        int(start) + own for start, size in zip(ends, sizes, strict=False) for own in range(size)
    ]
    apart = sorted(set(range(int(ends[-1]))) - set(kept))
    train = renumbered(sites.train.without(apart))
    return replace(sites, train=train, sizes=tuple(size for size in sizes if size))


def renumbered(tiles: EncodedTiles) -> EncodedTiles:
    """Patients numbered from 0, without gaps."""
    return replace(tiles, patient_of=torch.unique(tiles.patient_of, return_inverse=True)[1])


def joined(parts: Sequence[EncodedTiles]) -> EncodedTiles:
    """All sites' tiles as those of one: patients and captions are numbered on."""
    patients = np.cumsum([0, *(int(part.patient_of.max()) + 1 for part in parts)])
    captions = np.cumsum([0, *(len(part.text) for part in parts)])
    return EncodedTiles(
        latents=torch.cat([part.latents for part in parts]),
        text=torch.cat([part.text for part in parts]),
        caption_of=_numbered_on([part.caption_of for part in parts], captions),
        patient_of=_numbered_on([part.patient_of for part in parts], patients),
    )


def _numbered_on(parts: Sequence[Tensor], starts: NDArray[np.int64]) -> Tensor:
    return torch.cat([part + int(start) for part, start in zip(parts, starts, strict=False)])


def _site(
    pipeline: Pipeline, site: str, patients: int, most_tiles: int, seed: int, cache: Path
) -> tuple[EncodedTiles, list[str]]:
    """A hospital's tiles as a site encodes them, and the caption of each."""
    own = cache / f"{site}-{seed}-{patients}-{most_tiles}"
    with tempfile.TemporaryDirectory() as folder:
        write_site(
            Path(folder),
            site=site,
            patients=patients,
            most_tiles=most_tiles,
            appearance=HOSPITALS[site],
            seed=seed,
        )
        data = load_site_data(Path(folder))
        tiles = encode_site(pipeline, data, base_digest="tiny", cache=own)
    return tiles, [tile.caption for tile in data.tiles]
