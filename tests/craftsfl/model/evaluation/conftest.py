"""Folders of drawn tiles, generated ones among them, and random encoders."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.generation.provenance import Drawing, Provenance, write_png
from model.lab.evaluation import ImageSet
from tests.craftsfl.model.evaluation.world import ORIGIN, SECRETS, World
from tests.model.encoders.small import save
from tests.model.lab.evaluation.fakes import colour_tiles


def write_tiles(folder: Path, tiles: ImageSet, *, synthetic: bool = False) -> Path:
    """An image folder: patients' tiles have secrets everywhere, synthetic ones have provenance."""
    folder.mkdir()
    drawing = Drawing(ORIGIN.base, 20, 3.0, "craftsfl", "sha256:" + "a" * 64, "a", ORIGIN)
    with (folder / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file_name", "text", "patient_id"))
        for row, (image, caption) in enumerate(zip(tiles.images, tiles.captions, strict=True)):
            owner = tiles.patients[row]
            name = f"made-{row}.png" if synthetic else f"{SECRETS[0]}{owner}-{row}.png"
            text = caption if synthetic else f"{caption} {SECRETS[1]}"
            patient = f"made-{row // 4}" if synthetic else f"{SECRETS[0]}{owner}"
            table.writerow((name, text, patient))
            picture = Image.fromarray(image)
            if synthetic:
                write_png(picture, folder / name, Provenance(drawing, (caption,), (row,)))
            else:
                picture.save(folder / name)
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("evaluation")
    made = colour_tiles(16, 2, 1)
    noise = np.random.default_rng(0).integers(0, 9, made.images.shape)
    made = ImageSet((made.images // 2 + noise).astype(np.uint8), made.captions, made.patients)
    return World(
        write_tiles(root / "real", colour_tiles(16, 3, 0)),
        write_tiles(root / "training", colour_tiles(16, 3, 0, first=104)),
        write_tiles(root / "generated", made, synthetic=True),
        save("resnet", root / "encoder"),
        save("clip", root / "judge"),
    )
