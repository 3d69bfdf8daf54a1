"""Public pairs of image and mask to train a control on: drawn tissue, or a folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.arrays import Singles
from model.lab.control.conditions import marker_condition, mask_condition, resized_mask
from model.lab.control.markers import simulated_marker
from model.lab.control.masks import read_mask
from model.lab.control.nuclear_mask import MOST_PIXELS, NuclearMask
from model.lab.control.recipe import PublicFolder
from model.lab.control.spec import ControlSpec
from model.lab.stage_one.publicness import check_columns, check_place
from model.pictures import UnreadablePicture, open_picture, to_rgb
from privacy.errors import ModelError

_Kind = TypeVar("_Kind", bound=np.generic)
_TABLE = "metadata.csv"
_MASKS = (".png", ".tif", ".tiff", ".mat", ".npy")
_HINT = "It needs images/ and, for each image, a mask of the same name in masks/."


@dataclass(frozen=True)
class Pair:
    """image uint8 [s, s, 3], its mask [s, s], caption; markers float32 [m, s, s], if any."""

    image: NDArray[np.uint8]
    mask: NuclearMask
    caption: str
    markers: Singles | None = None


@dataclass(frozen=True)
class Pairs:
    """All pairs of a training run, stacked: images [n, s, s, 3], conditions uint8 [n, k, C, s, s].

    k: the kinds of condition (the mask, the markers). Conditions are kept in 1/255.
    """

    images: NDArray[np.uint8]
    conditions: NDArray[np.uint8]
    captions: tuple[str, ...]

    def condition(self, chosen: NDArray[np.int64], ways: NDArray[np.int64]) -> torch.Tensor:
        """Conditions float32 [b, C, s, s] in 0..1 of pairs `chosen` [b], one way each."""
        return torch.from_numpy(self.conditions[chosen, ways]).float() / 255


def stacked_pairs(pairs: Iterable[Pair], spec: ControlSpec, count: int) -> Pairs:
    """Compute the conditions of `count` pairs. Raises `ModelError` if there are fewer."""
    ways = int(bool(spec.types)) + int(bool(spec.markers))
    side = spec.size
    images = np.empty((count, side, side, 3), np.uint8)
    conditions = np.empty((count, ways, spec.channels, side, side), np.uint8)
    captions: list[str] = []
    for pair in pairs:
        images[len(captions)] = pair.image
        for way, planes in enumerate(_ways(pair, spec)):
            conditions[len(captions), way] = (planes * 255).round().to(torch.uint8).numpy()
        captions.append(pair.caption)
    if len(captions) != count:
        raise ModelError(f"{len(captions)} pairs where {count} were promised.", _HINT)
    return Pairs(images, conditions, tuple(captions))


def read_pair_folder(source: PublicFolder, size: int, seed: int) -> Iterator[Pair]:
    """Squares of every image and mask of a folder at size x size pixels, in a fixed order.

    Captions are the column `text` of metadata.csv if there is one, else empty. Raises
    `ModelError` for images without masks, for pairs that differ in size, and for a folder that
    looks like a hospital's own.
    """
    check_place(source.folder, public=source.public)
    captions = _captions(source)
    for number, (image, mask) in enumerate(divided(source)[0]):
        picture, nuclei = read_image(image), read_mask(mask)
        if picture.shape[:2] != nuclei.instances.shape:
            raise ModelError(
                f"{image.name} is {picture.shape[:2]} px, its mask {nuclei.instances.shape}.",
                "Both have to show the same field.",
            )
        rng = np.random.default_rng([seed, 5, number])
        for _ in range(source.crops):
            yield _square(picture, nuclei, captions.get(image.name, ""), (size, source, rng))


def listed(folder: Path) -> list[tuple[Path, Path]]:
    """(image, mask) of a folder, sorted by name. Raises `ModelError` if one has no mask."""
    images = sorted(p for p in (folder / "images").glob("*") if p.is_file())
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder.", "Check the path.")
    if not images:
        raise ModelError(f"{folder} holds no images.", _HINT)
    pairs = []
    for image in images:
        candidates = [folder / "masks" / f"{image.stem}{suffix}" for suffix in _MASKS]
        mask = next((path for path in candidates if path.is_file()), None)
        if mask is None:
            raise ModelError(f"{image.name} has no mask.", _HINT)
        pairs.append((image, mask))
    return pairs


def divided(source: PublicFolder) -> tuple[list[tuple[Path, Path]], list[tuple[Path, Path]]]:
    """The (image, mask) pairs to train on, and those held out: at least two.

    Raises `ModelError` if nothing would be left to train on.
    """
    pairs = listed(source.folder)
    held_out = max(2, round(len(pairs) * source.held_out))
    if len(pairs) <= held_out:
        raise ModelError(
            f"{source.folder} holds {len(pairs)} pairs; {held_out} are held out for the trial.",
            "Give more images.",
        )
    return pairs[:-held_out], pairs[-held_out:]


def _ways(pair: Pair, spec: ControlSpec) -> Iterator[torch.Tensor]:
    if spec.types:
        yield mask_condition(pair.mask, spec)
    if spec.markers:
        if pair.markers is None:
            raise ModelError("These pairs have no fluorescence.", "Train on masks alone.")
        yield marker_condition(pair.markers, spec)


def _captions(source: PublicFolder) -> dict[str, str]:
    table = source.folder / _TABLE
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error):
        raise ModelError(f"{table} cannot be read.", "Write it as UTF-8 CSV.") from None
    if not rows:
        return {}
    check_columns(rows[0], table, public=source.public)
    if not {"file_name", "text"} <= rows[0].keys():
        raise ModelError(f"{table} has no file_name and text.", "Add these columns.")
    return {Path(row["file_name"]).name: row["text"] or "" for row in rows}


def read_image(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 [h, w, 3]. Raises `ModelError` if it cannot be read."""
    try:
        with open_picture(path, most=MOST_PIXELS) as image:
            return np.asarray(to_rgb(image))
    except UnreadablePicture as error:
        raise ModelError(
            f"The image {path.name} cannot be read: {error}.", "Give an 8-bit PNG, JPEG or TIFF."
        ) from None


def _square(
    picture: NDArray[np.uint8],
    mask: NuclearMask,
    caption: str,
    how: tuple[int, PublicFolder, np.random.Generator],
) -> Pair:
    size, source, rng = how
    shortest = min(picture.shape[:2])
    side = round(shortest * float(rng.uniform(source.smallest, 1.0)))
    top, left = (int(rng.integers(length - side + 1)) for length in picture.shape[:2])
    turns, flip = int(rng.integers(4)), 1 - 2 * int(rng.integers(2))

    def cut(values: NDArray[_Kind]) -> NDArray[_Kind]:
        square = values[top : top + side, left : left + side]
        return np.ascontiguousarray(np.rot90(square, turns)[:, ::flip])

    image = Image.fromarray(cut(picture)).resize((size, size), Image.Resampling.BOX)
    whole = NuclearMask(cut(mask.instances), cut(mask.types), mask.names)
    small = resized_mask(whole, size)
    marker = simulated_marker(small.instances, rng)
    return Pair(np.asarray(image), small, caption, marker[None])
