"""Can a base show other stains than H&E? `python -m model.lab.pretraining.palettes FOLDER`.

Two questions: whether the autoencoder gives back protocols that no training showed, and
whether samples have the colours that their captions name.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model.arrays import Doubles, Images
from model.base import Pipeline, load_base
from model.devices import pick_device
from model.lab.pretraining.autoencoder import reconstruct
from model.lab.pretraining.corpus import draw_caption
from model.lab.tissue.domain import STAINS, draw_domain
from model.lab.tissue.palette import Palette
from model.lab.tissue.tile import MORPHOLOGIES, draw_series, draw_tile
from model.sampling import sample

_SEED = 70_000  # of tiles that no training draws


@dataclass(frozen=True)
class ProtocolFidelity:
    """Reconstructions of n tiles of a protocol, in grey levels of 255.

    error: mean absolute, of pixels; shift: of a tile's mean colour, root mean square over red,
    green and blue. between: how far the mean colour of another protocol is, at the nearest.
    """

    protocol: str
    n: int
    error: float
    shift: float
    between: float


@dataclass(frozen=True)
class DyeObedience:
    """Samples of n captions that name dyes: how far their mean colour is from that of drawn tiles.

    own: tiles of the same dyes and morphology; shuffled: of another caption. Grey levels, root mean
    square; low, high: a 95 % interval of shuffled - own, bootstrapped over captions.
    """

    n: int
    own: float
    shuffled: float
    low: float
    high: float


def fidelity(pipeline: Pipeline, patients: int = 40) -> list[ProtocolFidelity]:
    """H&E first, then the domain's protocols in their order; one tile of each patient."""
    domain = draw_domain(patients * len(STAINS), 1, _SEED)
    tiles = {"H&E": draw_series(_SEED, 0, patients)} | {
        stain.name: domain.images[domain.stain_of == k] for k, stain in enumerate(STAINS)
    }
    colours = {name: mean_colours(images).mean(axis=0) for name, images in tiles.items()}
    found = []
    for name, images in tiles.items():
        again = reconstruct(pipeline.vae, images)
        others = [colour for other, colour in colours.items() if other != name]
        found.append(
            ProtocolFidelity(
                name,
                len(images),
                float(np.abs(again.astype(float) - images).mean()),
                float(_apart(mean_colours(again), mean_colours(images)).mean()),
                min(float(_apart(colours[name], colour)) for colour in others),
            )
        )
    return found


def obedience(pipeline: Pipeline, captions: int = 48) -> tuple[DyeObedience, Images]:
    """Also the pictures, uint8 [n, 64, 128, 3]: a drawn tile and the sample beside it."""
    rng = np.random.default_rng(_SEED)
    palettes = [Palette.draw(rng) for _ in range(captions)]
    labels = [index % len(MORPHOLOGIES) for index in range(captions)]
    prompts = [
        palette.caption(draw_caption(label, rng), rng)
        for palette, label in zip(palettes, labels, strict=True)
    ]
    drawn = np.stack(
        [
            draw_tile(MORPHOLOGIES[label], palette.appearance, rng).image
            for palette, label in zip(palettes, labels, strict=True)
        ]
    )
    pictures = sample(pipeline, prompts, [_SEED + index for index in range(captions)])
    images = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    own = _apart(mean_colours(images), mean_colours(drawn))
    other = _apart(mean_colours(images), np.roll(mean_colours(drawn), 1, axis=0))
    gain = other - own
    means = gain[rng.integers(captions, size=(2000, captions))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    figures = DyeObedience(
        captions, float(own.mean()), float(other.mean()), float(low), float(high)
    )
    return figures, np.concatenate([drawn, images], axis=2)


def mean_colours(images: Images) -> Doubles:
    """Mean red, green and blue of each image: [n, 3]."""
    return np.asarray(images.mean(axis=(1, 2)), np.float64)


def _apart(one: Doubles, other: Doubles) -> Doubles:
    return np.asarray(np.sqrt(np.square(one - other).mean(axis=-1)))


def palette_sheet(pairs: Images, across: int = 6) -> Image.Image:
    """The pairs of `obedience`, `across` in a row, at twice their size."""
    kept = pairs[: len(pairs) // across * across]
    padded = np.pad(kept, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
    rows = padded.reshape(-1, across, *padded.shape[1:]).transpose(0, 2, 1, 3, 4)
    sheet = rows.reshape(rows.shape[0] * rows.shape[1], -1, 3)
    return Image.fromarray(sheet).resize((sheet.shape[1] * 2, sheet.shape[0] * 2))


def main(arguments: list[str] | None = None) -> int:
    """Print both tables as JSON; exit status 0 if the samples' colours follow the captions."""
    parser = argparse.ArgumentParser(prog="python -m model.lab.pretraining.palettes")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--captions", type=int, default=48)
    parser.add_argument("--sheet", type=Path, help="write drawn tiles and samples to this picture")
    options = parser.parse_args(arguments)
    pipeline = load_base(options.folder, pick_device())
    figures, pairs = obedience(pipeline, options.captions)
    table = {
        "fidelity": [asdict(row) for row in fidelity(pipeline)],
        "obedience": asdict(figures),
    }
    sys.stdout.write(json.dumps(table, indent=1) + "\n")
    if options.sheet is not None:
        palette_sheet(pairs).save(options.sheet)
    return 0 if figures.low > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
