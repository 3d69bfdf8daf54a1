"""Little image folders, sound and broken, for the data tests."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from client.data import SiteTile

HEADER = ("file_name", "text", "patient_id")


def noise(width: int = 32, height: int = 32, *, seed: int = 0) -> Image.Image:
    """A random RGB picture."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def write_csv(
    folder: Path, rows: Iterable[Sequence[object]], header: Sequence[str] = HEADER
) -> None:
    """Write `metadata.csv`."""
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_jsonl(folder: Path, records: Iterable[Mapping[str, object]]) -> None:
    """Write `metadata.jsonl`."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metadata.jsonl").write_text(text)


def write_folder(folder: Path, *, patients: int = 10, tiles: int = 2) -> Path:
    """A sound folder: `tiles` pictures for each of `patients`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for patient in range(patients):
        for tile in range(tiles):
            name = f"canary-file-{patient}-{tile}.png"
            noise(seed=patient * tiles + tile).save(folder / name)
            rows.append((name, f"canary caption {patient}", f"canary-patient-{patient}"))
    write_csv(folder, rows)
    return folder


def tile_of(path: Path, caption: str, patient: int) -> SiteTile:
    """The tile in the file `path`, as loading the folder makes it."""
    return SiteTile(path, caption, patient, hashlib.sha256(path.read_bytes()).digest())
