"""The planted patients of `bench.augmentation`: common cancers and three that are rare.

All wear the three synthetic hospitals' own H&E. Those whom the adapter learns from belong to the
consortium; labelled and tested ones are other people.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch

from bench.augmentation_setting import (
    COMMON_STUDIES,
    OF_MORPHOLOGY,
    PLANTED,
    RARE_PLANTED,
    AugmentedSetting,
)
from client.data import load_site_data
from client.training import EncodedTiles, encode_site
from craftsfl.planning.tissue import PooledSites, by_hospital, joined
from model.arrays import Groups, Images
from model.base import Pipeline
from model.lab.augmentation.folds import shared_out
from model.lab.tissue import HOSPITALS
from model.lab.tissue.captions import caption
from model.lab.tissue.imagefolder import rare_caption, write_site
from model.lab.tissue.tile import MORPHOLOGIES, draw_tile

_LABELLED: Final = 71_000  # + seed
_TESTED: Final = 72_000
_CONSORTIUM: Final = 73_000  # + 10 seed + number of the site
_SHARED: Final = 74_000


@dataclass(frozen=True)
class ContentTiles:
    """Tiles [n] of known content: images, captions, contents and patients; `hospital` by number.

    nuclei [n]: how many a tile has. Of drawn pictures hospital and nuclei are -1: nobody knows.
    """

    images: Images = field(repr=False)
    captions: tuple[str, ...] = field(repr=False)
    contents: Groups = field(repr=False)
    patients: Groups = field(repr=False)
    hospitals: Groups = field(repr=False)
    nuclei: Groups = field(repr=False)

    def __len__(self) -> int:
        """n."""
        return len(self.contents)

    def chosen(self, rows: Groups | np.ndarray) -> ContentTiles:
        """The same for these rows only."""
        numbers = np.arange(len(self))[rows]
        return ContentTiles(
            self.images[numbers],
            tuple(self.captions[number] for number in numbers),
            self.contents[numbers],
            self.patients[numbers],
            self.hospitals[numbers],
            self.nuclei[numbers],
        )


def content_caption(content: int, rng: np.random.Generator) -> str:
    """What a tile of a content, by its number in PLANTED, is called; a rare one by type alone."""
    if content in OF_MORPHOLOGY:
        look = MORPHOLOGIES[content]
        return caption(COMMON_STUDIES[look], look, rng)
    return rare_caption(RARE_PLANTED[content - len(MORPHOLOGIES)])


def content_look(content: int) -> str:
    """The morphology of its tiles."""
    if content in OF_MORPHOLOGY:
        return MORPHOLOGIES[content]
    return RARE_PLANTED[content - len(MORPHOLOGIES)].morphology


def labelled_patients(setting: AugmentedSetting, seed: int) -> ContentTiles:
    """All who may be labelled: every other one has two tiles."""
    sizes = {
        number: setting.common if number in OF_MORPHOLOGY else setting.rare
        for number in range(len(PLANTED))
    }
    return _drawn(sizes, 2, _LABELLED + seed)


def unseen_patients(setting: AugmentedSetting, seed: int) -> ContentTiles:
    """Those whom everything is measured on, a tile each."""
    return _drawn(dict.fromkeys(range(len(PLANTED)), setting.tested), 1, _TESTED + seed)


def labelled_share(tiles: ContentTiles, share: float, seed: int) -> ContentTiles:
    """The tiles of a share of each content's patients, one patient at least."""
    rng = np.random.default_rng([_SHARED, seed])
    return tiles.chosen(shared_out(tiles.contents, tiles.patients, share, rng))


def _drawn(sizes: Mapping[int, int], most_tiles: int, seed: int) -> ContentTiles:
    rows = list(_rows(sizes, most_tiles, seed))
    images, captions, *numbers = zip(*rows, strict=True)
    contents, patients, hospitals, nuclei = (np.array(part, np.int64) for part in numbers)
    return ContentTiles(np.stack(images), tuple(captions), contents, patients, hospitals, nuclei)


def _rows(
    sizes: Mapping[int, int], most_tiles: int, seed: int
) -> Iterator[tuple[np.ndarray, str, int, int, int, int]]:
    looks = list(HOSPITALS.values())
    patient = 0
    for content, count in sizes.items():
        for number in range(count):
            rng = np.random.default_rng([seed, content, number])
            own = looks[number % len(looks)].jittered(rng)
            for _ in range(1 + number % most_tiles):
                tile = draw_tile(content_look(content), own, rng)
                text = content_caption(content, rng)
                nuclei = len(np.unique(tile.mask)) - 1
                yield tile.image, text, content, patient, number % len(looks), nuclei
            patient += 1


def consortium(
    pipeline: Pipeline, setting: AugmentedSetting, seed: int, cache: Path
) -> PooledSites:
    """The hospitals that train the adapter, with the rare types alone, as in the demo."""
    plan = setting.plan
    even = [plan.patients // plan.sites] * plan.sites
    sites = by_hospital(even)
    parts = [
        _encoded_site(pipeline, site, count, _CONSORTIUM + 10 * seed + number, cache)
        for number, (site, count) in enumerate(sites.items())
    ]
    tiles = joined(parts)
    nobody = tiles.without(range(int(tiles.patient_of.max()) + 1))
    return PooledSites(tiles, tuple(sites.values()), nobody, ())


def _encoded_site(
    pipeline: Pipeline, site: str, patients: int, seed: int, cache: Path
) -> EncodedTiles:
    with tempfile.TemporaryDirectory() as folder:
        write_site(
            Path(folder),
            site=site,
            patients=patients,
            most_tiles=2,
            appearance=HOSPITALS[site],
            seed=seed,
            rare=RARE_PLANTED,
        )
        data = load_site_data(Path(folder))
        with torch.inference_mode():
            return encode_site(pipeline, data, base_digest="bench", cache=cache / f"site-{seed}")
