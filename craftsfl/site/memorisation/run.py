"""From settings and an adapter's file to a verdict, which stays at the site."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.agent.state import StateFolder
from client.data import SiteData, check_usable, load_site_data, read_tile
from client.patients import open_patients
from client.settings import SiteSettings, load_site
from craftsfl.site.memorisation.comparison import CopyComparison, compared
from craftsfl.terminal import output, say
from model.base import Pipeline, image_size, load_base
from model.cache import find_base
from model.devices import pick_device
from model.encoders import ImageEncoder, load_encoder
from model.generation.adapter import file_digest, put_adapter
from model.lab.evaluation.encode import EncoderSpace, PixelSpace, Space, views
from model.lab.evaluation.figures import ImageSet
from model.lab.evaluation.memorisation import Views
from model.lab.evaluation.patients import DEFAULT_RESAMPLES, multiplicities
from model.lab.evaluation.subject import Subject
from privacy.errors import DeploymentError
from privacy.files import write_private_once
from privacy.study.manifest import load_study

KEEP_HERE: Final = (
    "This verdict comes from patients' tiles, and no epsilon covers it. Show it to nobody outside "
    "this site, not even as a yes or no, unless it is noised and accounted for."
)
_MEANING: Final = {
    "copies": "SOME PICTURES ARE NEARER TO SINGLE TILES THAN A NEW PATIENT'S ARE. Look at the "
    "closest pairs that the file names; if they are copies, tell the consortium that you object "
    "to the release, and give no reason.",
    "look": "Not many pictures are copies, but at least one is nearer to a tile than any new "
    "patient's tile was. Look at the closest pairs that the file names.",
    "no sign": "No picture set is nearer to single tiles than new patients' tiles are. That proves "
    "nothing: other prompts and seeds may draw what these did not. What bounds it is epsilon.",
}


@dataclass(frozen=True, slots=True)
class MemorisationRequest:
    """What was asked for on the command line."""

    settings: Path
    adapter: Path
    out: Path
    encoders: tuple[str, ...]
    pictures: int
    most: int
    seed: int


@dataclass(frozen=True)
class OwnTiles:
    """A site's tiles as pictures. Health data."""

    images: ImageSet = field(repr=False)
    names: tuple[str, ...] = field(repr=False)  # of the files


def report_memorisation(request: MemorisationRequest) -> None:
    """Draw, compare, write the verdict for its owner alone, and say it here.

    Raises `ConfigError`, `DataError`, `ModelError` or `DeploymentError`; `TooFewError` for too few
    patients or pictures.
    """
    _check_new(request.out)
    settings = load_site(request.settings)
    study = load_study(settings.study)
    folder = find_base(study.base, root=settings.study.parent)
    pipeline = load_base(folder, pick_device("auto"))
    tiles = read_own_tiles(settings, image_size(pipeline), request.most, request.seed)
    pictures = _drawn(pipeline, request, study.base.digest, tiles.images)
    spaces: list[Space] = [EncoderSpace(load_local(name)) for name in request.encoders]
    spaces.append(PixelSpace())
    found = compare_all(spaces, tiles.images, pictures, request.seed)
    _write(request, found, tiles, pictures)
    _show(request.out, found)


def load_local(name: str) -> ImageEncoder:
    """A frozen encoder from this machine: nothing is downloaded next to patients' data."""
    return load_encoder(name, online=False)


def read_own_tiles(settings: SiteSettings, side: int, most: int, seed: int) -> OwnTiles:
    """The tiles of the data folder, `most` of them at random; merged ids are one patient.

    Whoever has withdrawn is among them: what a model has learnt before stays in it.
    """
    data = _read(settings)
    check_usable(data, settings.data.folder)
    rows = np.arange(len(data.tiles))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng([seed, 64]).permutation(rows)[:most])
    chosen = [data.tiles[row] for row in rows]
    images = ImageSet(
        np.stack([read_tile(tile.path, side) for tile in chosen]),
        tuple(tile.caption for tile in chosen),
        np.array([tile.patient for tile in chosen], np.int64),
    )
    return OwnTiles(images, tuple(tile.path.name for tile in chosen))


def compare_all(
    spaces: Sequence[Space], tiles: ImageSet, pictures: ImageSet, seed: int
) -> list[CopyComparison]:
    """In every space; patients are resampled with all that belongs to them."""
    random = np.random.default_rng([seed, 65])
    weights = [
        multiplicities(part.patients, DEFAULT_RESAMPLES, random) for part in (tiles, pictures)
    ]

    def seen(space: Space, part: ImageSet, own: NDArray[np.float64]) -> Views:
        return views(space, part.images, part.patients, own)

    return [
        compared(space.name, seen(space, tiles, weights[0]), seen(space, pictures, weights[1]))
        for space in spaces
    ]


def _read(settings: SiteSettings) -> SiteData:
    folder, state = settings.data.folder, StateFolder(settings.agent.state)
    if not state.patients.is_file():
        return load_site_data(folder)
    with open_patients(state.path) as patients:
        return load_site_data(
            folder, lines_of=lambda tiles: [patients.standing(name) for name, _ in tiles]
        )


def _drawn(
    pipeline: Pipeline, request: MemorisationRequest, base: str, tiles: ImageSet
) -> ImageSet:
    """From patients' own captions, which say most about what was learnt of them."""
    put_adapter(pipeline, request.adapter, base)
    say(f"Drawing {request.pictures} pictures from this site's own captions.")
    return Subject(pipeline, base=base, seed=request.seed).draw(tiles, request.pictures)


def _check_new(out: Path) -> None:
    if out.exists():
        raise DeploymentError(f"{out} exists.", "Name a new file with --out.")


def _write(
    request: MemorisationRequest,
    found: Sequence[CopyComparison],
    tiles: OwnTiles,
    pictures: ImageSet,
) -> None:
    values = {
        "keep_here": KEEP_HERE,
        "adapter": file_digest(request.adapter),
        "tiles": len(tiles.images),
        "patients": len(np.unique(tiles.images.patients)),
        "pictures": len(pictures),
        "seed": request.seed,
        "verdict": worst_verdict(found),
        "spaces": [
            {
                "space": one.space,
                "verdict": one.verdict,
                "generated": asdict(one.generated),
                "new_patients": asdict(one.new_patients),
                "least_ratio_of_new_patients": one.least_new,
                "closest": [
                    {
                        "ratio": pair.ratio,
                        "tile": tiles.names[pair.tile],
                        "prompt": pictures.captions[pair.picture],
                        "seed": request.seed * 1_000_003 + pair.picture,
                    }
                    for pair in one.closest
                ],
            }
            for one in found
        ],
    }
    try:
        write_private_once(request.out, json.dumps(values, indent=2, allow_nan=False).encode())
    except OSError as error:
        raise DeploymentError(
            f"{request.out} cannot be written: {error.strerror}.", "Name a new file with --out."
        ) from None


def worst_verdict(found: Sequence[CopyComparison]) -> str:
    """The worst of all spaces: "copies", "look" or "no sign"."""
    said = {one.verdict for one in found}
    return next(verdict for verdict in _MEANING if verdict in said)


def _show(out: Path, found: Sequence[CopyComparison]) -> None:
    console = output()
    for one in found:
        shares = [
            f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"
            for share in (one.generated, one.new_patients)
        ]
        console.print(
            f"{one.space}: copies among pictures {shares[0]}, among new patients' tiles "
            f"{shares[1]}: {one.verdict}",
            highlight=False,
            markup=False,
        )
    words = (_MEANING[worst_verdict(found)], f"The closest pairs are in {out}.", KEEP_HERE)
    for text in words:
        console.print(text, highlight=False, markup=False)
