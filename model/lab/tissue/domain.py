"""A domain that stage one never saw: other stains, and rare cancers whose captions name no pattern.

It plants a measurable semantic drift: a base pretrained on H&E, with captions that name the
morphology, has to learn here that "chordoma, sacrum" looks like mucin, and what silver impregnation
is. Written for synthetic pictures: which cancer shows what is invented, not clinical fact.
Stain vectors: Ruifrok and Johnston 2001 and the table of ImageJ's Colour Deconvolution plug-in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.lab.tissue.appearance import HAEMATOXYLIN, Appearance
from model.lab.tissue.tile import draw_tile
from privacy.errors import ModelError


@dataclass(frozen=True)
class Stain:
    """A staining protocol: what captions call it, and how it looks."""

    name: str
    words: str
    appearance: Appearance


@dataclass(frozen=True)
class RareType:
    """A cancer that is not in `model.lab.tissue.captions`, and the only morphology of its tiles."""

    name: str
    organ: str
    morphology: str


# Strengths are chosen so that protocols stay distinguishable even if an autoencoder that knows only
# H&E turns their colours into its own: by contrast, by the dense compartment, by overall paleness.
STAINS: tuple[Stain, ...] = (
    Stain(  # in the cytoplasm: brown ground, pale blue nuclei
        "dab",
        "DAB immunostain",
        Appearance(
            "dab", nuclear=HAEMATOXYLIN, ground=(0.27, 0.57, 0.78), haematoxylin=0.6, eosin=1.5
        ),
    ),
    Stain(  # magenta ground, denser than eosin ever is
        "pas",
        "PAS reaction",
        Appearance("pas", ground=(0.20, 0.95, 0.22), haematoxylin=1.0, eosin=1.9),
    ),
    Stain(  # red cells in blue collagen
        "trichrome",
        "Masson trichrome",
        Appearance(
            "trichrome",
            nuclear=(0.10, 0.74, 0.67),
            ground=(0.80, 0.59, 0.11),
            haematoxylin=1.3,
            eosin=1.6,
        ),
    ),
    Stain(  # black nuclei, hardly any ground
        "silver",
        "silver impregnation",
        Appearance(
            "silver",
            nuclear=(0.58, 0.58, 0.58),
            ground=(0.35, 0.52, 0.78),
            haematoxylin=2.8,
            eosin=0.15,
        ),
    ),
    Stain(  # one red dye, pale throughout
        "fast_red",
        "nuclear fast red",
        Appearance(
            "fast_red",
            nuclear=(0.15, 0.93, 0.35),
            ground=(0.15, 0.93, 0.35),
            haematoxylin=0.9,
            eosin=0.4,
        ),
    ),
)

RARE_TYPES: tuple[RareType, ...] = (
    RareType("ampullary carcinoma", "ampulla of Vater", "glands"),
    RareType("adenoid cystic carcinoma", "salivary gland", "cribriform"),
    RareType("choroid plexus carcinoma", "ventricle", "papillary"),
    RareType("malignant schwannoma", "sciatic nerve", "spindle_cells"),
    RareType("Merkel cell carcinoma", "eyelid", "lymphoid"),
    RareType("chordoma", "sacrum", "mucin"),
    RareType("liposarcoma", "retroperitoneum", "fat"),
    RareType("penile carcinoma", "penis", "keratin"),
)


@dataclass(frozen=True)
class DomainTiles:
    """Tiles of the domain, patient by patient.

    images uint8 [n, 64, 64, 3]; captions: n texts; patient_of, stain_of, type_of int64 [n]:
    the patient's number, and indices into STAINS and RARE_TYPES.
    """

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    patient_of: NDArray[np.int64]
    stain_of: NDArray[np.int64]
    type_of: NDArray[np.int64]


def domain_caption(rare: RareType, stain: Stain) -> str:
    """For example "chordoma, sacrum; PAS reaction.": the morphology is not named."""
    return f"{rare.name}, {rare.organ}; {stain.words}."


def draw_domain(patients: int, tiles_per_patient: int, seed: int, *, first: int = 0) -> DomainTiles:
    """Tiles of the patients from number `first` on; the same arguments produce the same bytes.

    A patient has one cancer and one stain; numbers are assigned in turn, so that 40 patients in a
    row show every pair once. Other numbers under the same seed are other patients: that is how a
    held-out part is drawn. Raises ModelError if there is nothing to draw.
    """
    if patients < 1 or tiles_per_patient < 1:
        raise ModelError(
            f"{patients} patients of {tiles_per_patient} tiles are no tiles at all.",
            "Ask for 1 or more.",
        )
    numbers = np.repeat(np.arange(first, first + patients, dtype=np.int64), tiles_per_patient)
    stain_of, type_of = numbers % len(STAINS), numbers % len(RARE_TYPES)
    images = [
        image
        for number in range(first, first + patients)
        for image in _draw_patient(number, tiles_per_patient, seed)
    ]
    captions = tuple(
        domain_caption(RARE_TYPES[rare], STAINS[stain])
        for rare, stain in zip(type_of, stain_of, strict=True)
    )
    return DomainTiles(np.stack(images), captions, numbers, stain_of, type_of)


def _draw_patient(number: int, tiles: int, seed: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng([seed, number])
    stain, rare = STAINS[number % len(STAINS)], RARE_TYPES[number % len(RARE_TYPES)]
    own = stain.appearance.jittered(rng)
    return [draw_tile(rare.morphology, own, rng).image for _ in range(tiles)]
