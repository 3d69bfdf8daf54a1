"""Folders that an evaluation compares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.origin import Origin

ORIGIN = Origin("sha256:" + "b" * 64, "study", "0" * 64, "1", 3, 7.25, 1e-5)
SECRETS = ("PATIENT-", "confidential")  # in every id, file name and caption of a patient's


@dataclass(frozen=True)
class World:
    """Real tiles, training tiles of other patients, generated ones, and an encoder's folder."""

    real: Path
    training: Path
    generated: Path
    encoder: Path  # of images
    judge: Path  # of images and texts
