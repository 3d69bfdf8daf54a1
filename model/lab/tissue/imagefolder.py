"""Write a synthetic hospital's data as an imagefolder with metadata.csv (Hugging Face datasets)."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from model.lab.tissue.appearance import Appearance
from model.lab.tissue.captions import CANCER_TYPES, caption
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


def write_site(
    folder: Path,
    *,
    site: str,
    patients: int,
    most_tiles: int,
    appearance: Appearance,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the tiles of `patients` to folder/images and folder/metadata.csv.

    Patients have 1, 2, ... `most_tiles` tiles in turn. The same arguments produce the same bytes.
    on_progress(done, patients) is called after each patient. Synthetic patient ids are SITE-0000
    and so on.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number in range(patients):
            rng = np.random.default_rng([seed, number])
            tiles = 1 + number % most_tiles
            table.writerows(_patient(folder, f"{site}-{number:04d}", tiles, appearance, rng))
            if on_progress is not None:
                on_progress(number + 1, patients)
