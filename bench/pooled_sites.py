"""The patients of `bench.pooled`: the demo's synthetic hospitals, or those of real tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.pooled_setting import PooledSetting
from client.data import load_site_data
from client.training import encode_site
from craftsfl.planning.tissue import PooledSites, drawn_sites, joined, renumbered
from model.base import Pipeline


def synthetic_sites(
    setting: PooledSetting, pipeline: Pipeline, seed: int, cache: Path
) -> PooledSites:
    """Draw and encode a seed's patients; encoded tiles are kept in the folder `cache`."""
    patients = dict.fromkeys(setting.sites, setting.patients)
    return drawn_sites(pipeline, patients, setting.held_out, seed, cache)


def real_sites(folder: Path, pipeline: Pipeline, seed: int, cache: Path) -> PooledSites:
    """The sites of `folder`, a quarter of each one's patients held out, others for every seed.

    Never split by tiles: a patient's are alike, so a loss on held-out ones would mean little.
    """
    random = np.random.default_rng(seed)
    train, sizes, held_out = [], [], []
    captions: list[str] = []
    for own in sorted(path for path in folder.iterdir() if path.is_dir()):
        data = load_site_data(own)
        tiles = encode_site(pipeline, data, base_digest="tiny", cache=cache / own.name)
        apart = random.permutation(data.patients)[: data.patients // 4].tolist()
        kept = sorted(set(range(data.patients)) - set(apart))
        train.append(renumbered(tiles.without(apart)))
        held_out.append(renumbered(tiles.without(kept)))
        captions += [tile.caption for tile in data.tiles if tile.patient in apart]
        sizes.append(len(kept))
    return PooledSites(joined(train), tuple(sizes), joined(held_out), tuple(captions))
