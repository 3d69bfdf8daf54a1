"""Write a synthetic hospital's data as an imagefolder with metadata.csv (Hugging Face datasets)."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from model.lab.tissue.appearance import Appearance
from model.lab.tissue.captions import CANCER_TYPES, caption
from model.lab.tissue.domain import RareType
from model.lab.tissue.tile import draw_tile

COLUMNS = ("file_name", "text", "patient_id", "slide_id", "organ", "diagnosis")


def _patient(
    folder: Path, patient_id: str, tiles: int, appearance: Appearance, rng: np.random.Generator
) -> Iterator[tuple[str, ...]]:
    """Write one patient's tiles, all of one cancer, a slide each; yields the rows of the table."""
    study = CANCER_TYPES[list(CANCER_TYPES)[int(rng.integers(len(CANCER_TYPES)))]]
    own = appearance.jittered(rng)
    for index in range(tiles):
        morphology = study.morphologies[int(rng.integers(len(study.morphologies)))]
        name = f"images/{patient_id}-{index:02d}.png"
        Image.fromarray(draw_tile(morphology, own, rng).image).save(folder / name, compress_level=1)
        text = caption(study.code, morphology, rng)
        yield name, text, patient_id, f"{patient_id}-S{index + 1}", study.organ, study.name


def rare_caption(rare: RareType) -> str:
    """For example "H&E section, chordoma.": the morphology is not named."""
    return f"H&E section, {rare.name}."


def _rare_patient(
    folder: Path,
    patient_id: str,
    tiles: int,
    appearance: Appearance,
    rng: np.random.Generator,
    rare: RareType,
) -> Iterator[tuple[str, ...]]:
    own = appearance.jittered(rng)
    for index in range(tiles):
        name = f"images/{patient_id}-{index:02d}.png"
        tile = draw_tile(rare.morphology, own, rng)
        Image.fromarray(tile.image).save(folder / name, compress_level=1)
        slide = f"{patient_id}-S{index + 1}"
        yield name, rare_caption(rare), patient_id, slide, rare.organ, rare.name


def write_site(
    folder: Path,
    *,
    site: str,
    patients: int,
    most_tiles: int,
    appearance: Appearance,
    seed: int,
    rare: Sequence[RareType] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the tiles of `patients` to folder/images and folder/metadata.csv.

    Patients have 1, 2, ... `most_tiles` tiles in turn, and one of the cancers of stage one, or one
    of `rare` in turn, which no base has seen. The same arguments produce the same bytes.
    on_progress(done, patients) is called after each patient. Synthetic patient ids are SITE-0000
    and so on.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number in range(patients):
            rng = np.random.default_rng([seed, number])
            who = folder, f"{site}-{number:04d}", 1 + number % most_tiles, appearance, rng
            table.writerows(
                _rare_patient(*who, rare[number % len(rare)]) if rare else _patient(*who)
            )
            if on_progress is not None:
                on_progress(number + 1, patients)
