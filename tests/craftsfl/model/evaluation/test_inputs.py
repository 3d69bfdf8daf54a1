from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from craftsfl.model.evaluation.inputs import image_set, masks, read_tiles


def _folder(root: Path, with_masks: int) -> Path:
    """Four tiles of 32 px; the first `with_masks` have a mask."""
    root.mkdir()
    with (root / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file_name", "text", "patient_id", "mask"))
        for row in range(4):
            Image.new("RGB", (32, 32), (row, 0, 0)).save(root / f"{row}.png")
            Image.fromarray(np.full((32, 32), row, np.uint16)).save(root / f"m{row}.png")
            table.writerow((f"{row}.png", "x", f"p{row // 2}", f"m{row}.png" * (row < with_masks)))
    return root


def test_masks_stand_beside_their_tiles_at_the_same_size(tmp_path: Path) -> None:
    folder = read_tiles(_folder(tmp_path / "tiles", 4), ids_confirmed=True)
    assert folder.side() == 32
    images = image_set(folder, 16, most=10, seed=0)
    found = masks(folder, 16, images)
    assert found is not None and found.shape == (4, 16, 16)
    assert [int(mask[0, 0]) for mask in found] == [int(i[0, 0, 0]) for i in images.images]


def test_masks_of_some_tiles_are_no_masks(tmp_path: Path) -> None:
    folder = read_tiles(_folder(tmp_path / "tiles", 3), ids_confirmed=True)
    assert masks(folder, 16, image_set(folder, 16, most=10, seed=0)) is None


def test_a_part_of_a_folder_is_drawn_at_random_by_the_seed(tmp_path: Path) -> None:
    folder = read_tiles(_folder(tmp_path / "tiles", 4), ids_confirmed=True)
    first, again = (image_set(folder, 16, most=2, seed=0) for _ in range(2))
    assert len(first) == 2 and (first.images == again.images).all()
    assert masks(folder, 16, first) is None
    others = [image_set(folder, 16, most=2, seed=seed).images.tobytes() for seed in range(6)]
    assert len(set(others)) > 1
