"""What simulated sites train on, and whom the gain is measured on: drawn tissue, or public tiles.

Encoded once, kept in the simulation's folder, and shared by all its arms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from client.data import SiteData, check_believable, check_usable, load_site_data
from client.training import EncodedTiles, TileReference, encode_site
from craftsfl.simulation.config import SimulationProgress
from model.base import Pipeline
from privacy.errors import ConfigError

_MOST_TILES: Final = 2  # of a drawn patient; every other one has a single tile
_HELD_OUT: Final = 4  # of given tiles, one patient in so many trains nobody
_SEEDS_APART: Final = 1_000_003  # of drawn sites; a prime, so that no two runs share one
_COMPLETE: Final = ".complete-{patients}"


@dataclass(frozen=True)
class SimulatedTiles:
    """Encoded tiles of each site by name, and those of the held-out patients."""

    sites: Mapping[str, EncodedTiles] = field(repr=False)
    held_out: EncodedTiles = field(repr=False)


@dataclass(frozen=True)
class TileEncoder:
    """How tiles are encoded: as a site does, with the results kept below `cache`."""

    pipeline: Pipeline
    base_digest: str
    reference: TileReference | None
    cache: Path

    def encode(self, name: str, data: SiteData) -> EncodedTiles:
        """The tiles of `data`, which belong to `name`."""
        return encode_site(
            self.pipeline,
            data,
            base_digest=self.base_digest,
            reference=self.reference,
            cache=self.cache / name,
        )


def drawn_tiles(
    folder: Path,
    sizes: Mapping[str, int],
    held_out: int,
    seed: int,
    encoder: TileEncoder,
    progress: SimulationProgress,
) -> SimulatedTiles:
    """Synthetic tissue below `folder`, for sites of `sizes` patients; what is there is reused.

    The sites take the demo's three hospitals' stain and scanner in turn, and have patients of
    their own; the `held_out` patients are of all three.
    """
    from model.lab.tissue import HOSPITALS

    kinds = tuple(HOSPITALS)
    others = [held_out // len(kinds) + (i < held_out % len(kinds)) for i in range(len(kinds))]
    asked = [(name, i, patients) for i, (name, patients) in enumerate(sizes.items())]
    apart = [(f"held-out-{kind}", -1 - i, others[i]) for i, kind in enumerate(kinds) if others[i]]
    found = {}
    for done, (name, place, patients) in enumerate([*asked, *apart]):
        progress("tissue", done, len(asked) + len(apart))
        kind = kinds[place % len(kinds) if place >= 0 else -1 - place]
        own = folder / name
        most = _MOST_TILES if place >= 0 else 1
        _draw(own, kind, (patients, most), seed * _SEEDS_APART + place + len(kinds))
        found[name] = encoder.encode(name, load_site_data(own))
    return SimulatedTiles(
        {name: found[name] for name in sizes}, joined_tiles([found[name] for name, _, _ in apart])
    )


def given_tiles(
    folder: Path, seed: int, encoder: TileEncoder, progress: SimulationProgress
) -> SimulatedTiles:
    """The tiles of `folder`'s sub-folders, one in four patients of each held out.

    Split by patients, never by tiles: a patient's are alike. Raises `DataError` for what cannot be
    used, or where ids do not look like patients'.
    """
    random = np.random.default_rng(seed)
    sites, held_out = {}, []
    folders = given_folders(folder)
    for done, (name, own) in enumerate(folders.items()):
        progress("tiles", done, len(folders))
        data = load_site_data(own)
        check_usable(data, own)
        check_believable(data.doubt, confirm="simulate with drawn tissue instead")
        tiles = encoder.encode(name, data)
        numbers = torch.unique(tiles.patient_of).tolist()
        apart = random.permutation(numbers)[: len(numbers) // _HELD_OUT].tolist()
        left = sorted(set(numbers) - set(apart))
        if apart:
            held_out.append(_renumbered(tiles.without(left)))
        sites[name] = _renumbered(tiles.without(apart))
    return SimulatedTiles(sites, joined_tiles(held_out))


def given_sizes(folder: Path) -> tuple[dict[str, int], str]:
    """How many patients of each of `folder`'s sites train, and a digest of all tiles.

    Raises `ConfigError` and `DataError` for what cannot be used.
    """
    sizes, digest, apart = {}, hashlib.sha256(), 0
    for name, own in given_folders(folder).items():
        data = load_site_data(own)
        check_usable(data, own)
        sizes[name] = data.patients - data.patients // _HELD_OUT
        apart += data.patients // _HELD_OUT
        digest.update(name.encode())
        for tile in data.tiles:
            digest.update(tile.digest + f"{tile.patient} {tile.caption}".encode())
    if sizes and apart < 2:
        raise ConfigError(
            f"The sites in {folder} have too few patients to hold any out.",
            f"Give tiles of {_HELD_OUT} patients or more at two of the sites.",
        )
    return sizes, digest.hexdigest()[:16]


def given_folders(folder: Path) -> dict[str, Path]:
    """The sub-folders of `folder`, by the names of sites that they make."""
    if not folder.is_dir():
        raise ConfigError(
            f"{folder} is not a folder.", "Give a folder with one sub-folder of tiles per site."
        )
    own = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    named: dict[str, Path] = {}
    for path in own:
        letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in path.name.lower())
        name = letters.strip("-")[:32].strip("-")
        if not name or name in named:
            raise ConfigError(
                f"{path} has no name that a site could have by itself.",
                "Name sub-folders with letters, digits and hyphens, each differently.",
            )
        named[name] = path
    return named


def joined_tiles(parts: Sequence[EncodedTiles]) -> EncodedTiles:
    """All parts as those of one site: patients and captions are numbered on."""
    references = [part.reference for part in parts if part.reference is not None]
    return EncodedTiles(
        latents=torch.cat([part.latents for part in parts]),
        text=torch.cat([part.text for part in parts]),
        caption_of=_numbered_on(parts, lambda part: part.caption_of, lambda part: len(part.text)),
        patient_of=_numbered_on(
            parts, lambda part: part.patient_of, lambda part: int(part.patient_of.max()) + 1
        ),
        reference=torch.cat(references) if len(references) == len(parts) else None,
    )


def _numbered_on(
    parts: Sequence[EncodedTiles],
    numbers: Callable[[EncodedTiles], Tensor],
    count: Callable[[EncodedTiles], int],
) -> Tensor:
    moved, start = [], 0
    for part in parts:
        moved.append(numbers(part) + start)
        start += count(part)
    return torch.cat(moved)


def _renumbered(tiles: EncodedTiles) -> EncodedTiles:
    """Patients numbered from 0, without gaps."""
    return replace(tiles, patient_of=torch.unique(tiles.patient_of, return_inverse=True)[1])


def _draw(folder: Path, kind: str, size: tuple[int, int], seed: int) -> None:
    """Tiles of so many patients, with so many tiles at most, of a hospital of this kind."""
    from model.lab.tissue import HOSPITALS
    from model.lab.tissue.imagefolder import write_site

    patients, most = size
    mark = folder / _COMPLETE.format(patients=patients)
    if mark.exists():
        return
    write_site(
        folder,
        site=kind,
        patients=patients,
        most_tiles=most,
        appearance=HOSPITALS[kind],
        seed=seed,
    )
    mark.touch()
