"""A trial of a control: sample under held-out conditions and score the samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from model.arrays import Images
from model.base import Pipeline
from model.lab.control.conditions import (
    boundary,
    marker_condition,
    mask_condition,
    resized_markers,
    resized_mask,
)
from model.lab.control.drawn import drawn_pair
from model.lab.control.fidelity import Fidelity, mask_fidelity
from model.lab.control.guided import DEFAULT_STRENGTH, Guided, sample_controlled
from model.lab.control.markers import read_markers
from model.lab.control.masks import read_mask
from model.lab.control.network import Control
from model.lab.control.nuclear_mask import NuclearMask
from model.lab.control.pairs import read_image
from model.lab.control.reading import ConditionKind
from model.lab.control.spec import ControlSpec
from model.lab.tissue.tile import MORPHOLOGIES
from model.sampling import DEFAULT_GUIDANCE, DEFAULT_STEPS
from privacy.errors import ModelError

_HELD_OUT = 1 << 20  # a series that no training draws
_CELL, _GAP, _HEAD = 192, 6, 24
_INK, _PAPER, _RIM = (32, 32, 40), (255, 255, 255), (20, 160, 40)


@dataclass(frozen=True)
class TrialCase:
    """One condition [C, s, s] to test: its caption, its true mask, its group.

    real: the tile that the mask belongs to, uint8 [s, s, 3], None if there is no H&E of it.
    group: cases whose masks may replace each other in the shuffled control.
    """

    caption: str
    condition: torch.Tensor
    mask: NuclearMask
    group: str
    real: Images | None = None


@dataclass(frozen=True)
class TrialSettings:
    """How a trial samples; with seed s, case k has the image seed 100000 s + k."""

    seed: int = 7
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    strength: float = DEFAULT_STRENGTH


@dataclass(frozen=True)
class Trial:
    """Samples uint8 [n, s, s, 3] of the cases, and how well they follow."""

    cases: Sequence[TrialCase]
    images: Images = field(repr=False)
    fidelity: Fidelity


def drawn_cases(
    spec: ControlSpec, kind: ConditionKind, each: int, seed: int = 7
) -> Iterator[TrialCase]:
    """`each` held-out drawn tiles of every morphology, grouped by morphology."""
    for number in range(each * len(MORPHOLOGIES)):
        morphology = MORPHOLOGIES[number // each]
        rng = np.random.default_rng([_HELD_OUT, seed, number])
        pair = drawn_pair(morphology, rng)
        if kind == "mask" or pair.markers is None:
            condition = mask_condition(pair.mask, spec)
        else:
            condition = marker_condition(pair.markers, spec)
        yield TrialCase(pair.caption, condition, pair.mask, morphology, pair.image)


def file_cases(
    pairs: Sequence[tuple[Path, Path]], spec: ControlSpec, kind: ConditionKind, prompt: str
) -> Iterator[TrialCase]:
    """The centred square of every (image, mask) of a public folder, all in one group.

    For "mask" the images are H&E and set the ceiling; for "fluorescence" they are the condition.
    """
    for image, path in pairs:
        mask = resized_mask(read_mask(path), spec.size, "crop")
        if kind == "mask":
            yield TrialCase(prompt, mask_condition(mask, spec), mask, "", _square(image, spec.size))
        else:
            markers = resized_markers(read_markers(image), spec.size, "crop")
            yield TrialCase(prompt, marker_condition(markers, spec), mask, "")


def run_trial(
    pipeline: Pipeline,
    control: Control,
    cases: Sequence[TrialCase],
    setting: TrialSettings | None = None,
) -> Trial:
    """Sample every case and score it. Raises `ModelError` for fewer than two cases of a group."""
    how = setting or TrialSettings()
    if len(cases) < 2:
        raise ModelError(f"{len(cases)} cases are too few for a trial.", "Give at least two.")
    guided = Guided(
        [case.caption for case in cases],
        [how.seed * 100_000 + k for k in range(len(cases))],
        torch.stack([case.condition for case in cases]),
        steps=how.steps,
        guidance=how.guidance,
        strength=how.strength,
    )
    drawn = sample_controlled(pipeline, control, guided)
    images = np.stack([np.asarray(image.convert("RGB")) for image in drawn])
    real = [case.real for case in cases if case.real is not None]
    fidelity = mask_fidelity(
        images,
        [case.mask.instances for case in cases],
        groups=[case.group for case in cases],
        real=np.stack(real) if len(real) == len(cases) else None,
        seed=how.seed,
    )
    return Trial(cases, images, fidelity)


def picture(trial: Trial, chosen: Sequence[int], columns: int = 2) -> Image.Image:
    """Condition's mask, sample, and the sample under the mask's outlines, for chosen cases."""
    block = 3 * (_CELL + _GAP) + 2 * _GAP
    rows = -(-len(chosen) // columns)
    sheet = Image.new("RGB", (columns * block, rows * (_CELL + _HEAD + _GAP)), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, number in enumerate(chosen):
        left = (place % columns) * block + _GAP
        top = (place // columns) * (_CELL + _HEAD + _GAP)
        case, image = trial.cases[number], trial.images[number]
        title = case.group.replace("_", " ") or f"number {number}"
        draw.text((left, top + 4), f"{title}: mask, sample, outlines", fill=_INK, font=font)
        for column, cell in enumerate((mask_picture(case.mask), image, outlined(image, case.mask))):
            tile = Image.fromarray(cell).resize((_CELL, _CELL), Image.Resampling.NEAREST)
            sheet.paste(tile, (left + column * (_CELL + _GAP), top + _HEAD))
    return sheet


def mask_picture(mask: NuclearMask) -> Images:
    """Nuclei [s, s] in shades of violet by number on black: uint8 [s, s, 3]."""
    shade = 110 + (mask.instances * 53) % 130
    planes = [shade * 0.75, shade * 0.55, shade]
    return np.where(mask.instances[..., None] > 0, np.stack(planes, axis=-1), 0).astype(np.uint8)


def outlined(image: Images, mask: NuclearMask) -> Images:
    """The image [s, s, 3] at three times its size, the mask's nuclei outlined in green."""
    large = np.kron(image, np.ones((3, 3, 1), np.uint8))
    rim = boundary(np.kron(mask.instances, np.ones((3, 3), np.int32))) > 0
    large[rim] = _RIM
    return large


def _square(path: Path, size: int) -> Images:
    whole = read_image(path)
    side = min(whole.shape[:2])
    top, left = ((length - side) // 2 for length in whole.shape[:2])
    cut = Image.fromarray(whole[top : top + side, left : left + side])
    return np.asarray(cut.resize((size, size), Image.Resampling.BOX))
