"""What `craftsfl model augment` was asked for, and what it did: the content of recipe.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from craftsfl.model.augmenting.classes import LabelledTiles
from craftsfl.model.augmenting.drawing import DrawnClasses
from craftsfl.model.augmenting.promises import AugmentPromise, ClassifierKind
from craftsfl.model.augmenting.trial import TrialRow
from craftsfl.model.drawing import DrawingModels
from model.generation.provenance import Drawing
from model.lab.augmentation.judging import JudgeFound
from privacy.errors import ConfigError

RECIPE_FILE: Final = "recipe.json"
_RECIPE_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class AugmentRequest:
    """Everything that the command line asks for.

    target: pictures of each class that are kept, of at most `most` times as many drawn. base_for:
    labels that the base draws, without the adapter. study: the adapter's, where its file does not
    say what it was trained towards.
    """

    tiles: Path
    out: Path
    label: str = "diagnosis"
    captions: Path | None = None
    models: DrawingModels = field(default_factory=DrawingModels)
    encoder: str = "tiny"
    judge: str = "tiny-evaluator"
    target: int = 32
    most: int = 3
    folds: int = 4
    shares: tuple[float, ...] = (1.0,)
    seed: int = 0
    steps: int = 20
    guidance: float = 3.0
    ids_confirmed: bool = False
    base_for: tuple[str, ...] = ()
    study: Path | None = None

    def check(self) -> None:
        """Raise `ConfigError` for options that make no sense; reads and loads nothing."""
        if self.folds < 2:
            raise ConfigError("--folds is less than 2.", "Somebody has to be tested: --folds 4.")
        if self.target < 1 or self.most < 1:
            raise ConfigError("--target and --most are 1 or more.", "--target 32 --most 3.")
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise ConfigError("--share is a share of patients.", "Between 0 and 1: --share 0.25.")
        if self.base_for and self.models.adapter is None:
            raise ConfigError(
                "--base-for without an adapter: the base draws every class.", "Leave it out."
            )
        if (self.out / RECIPE_FILE).exists():
            raise ConfigError(f"{self.out} holds a finished recipe.", "Name a new folder.")


@dataclass(frozen=True)
class Augmented:
    """What was done and found."""

    request: AugmentRequest = field(repr=False)
    tiles: LabelledTiles = field(repr=False)
    drawing: Drawing
    judge: JudgeFound
    drawn: DrawnClasses = field(repr=False)
    rows: tuple[TrialRow, ...]
    promises: tuple[AugmentPromise, ...]
    digests: dict[str, str]  # of encoder and judge
    by_base: frozenset[int] = frozenset()  # classes that the base drew, beside an adapter
    notes: tuple[str, ...] = ()  # doubts that stand beside every figure

    def drawer_of(self, number: int) -> str:
        """Who drew this class."""
        alone = self.drawing.adapter is None or number in self.by_base
        return "the base alone" if alone else "the adapter"

    def to_json(self) -> str:
        """recipe.json: holds labels and captions of classes, but neither patients nor files."""
        request = self.request
        asked = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(request).items()
            if name not in ("tiles", "out", "captions", "models", "study")
        }
        classes = [
            {
                **asdict(own),
                "drawn by": self.drawer_of(number),
                "judged rightly": right,
                "drawn": drawn,
                "kept": kept,
            }
            for number, own, right, drawn, kept in zip(
                range(len(self.tiles.classes)),
                self.tiles.classes,
                self.judge.by_class,
                self.drawn.drawn,
                self.drawn.kept(),
                strict=True,
            )
        ]
        values: dict[str, Any] = {
            "format": _RECIPE_FORMAT,
            "asked": asked,
            "drawing": self.drawing.values(),
            "digests": self.digests,
            "judge": asdict(self.judge),
            "notes": list(self.notes),
            "classes": classes,
            "patients of several classes": self.tiles.mixed,
            "tiles without a label": self.tiles.unlabelled,
            "tiles that cannot be used": self.tiles.folder.left_out,
            "kept files": list(self.drawn.files),
            "promises": [asdict(promise) for promise in self.promises],
            "figures": [asdict(row) for row in self.rows],
        }
        return json.dumps(_finite(values), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def classifier_file(kind: ClassifierKind) -> str:
    """Its name below OUT."""
    return f"classifier-{kind}.safetensors"


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    """None for NaN: a class that nobody of a resample has, has no score."""
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(own) for name, own in value.items()}
    return [_finite(own) for own in value] if isinstance(value, list | tuple) else value


def promises_text(promises: Sequence[AugmentPromise]) -> list[str]:
    """A line for each classifier."""
    return [f"{classifier_file(promise.kind)}: {promise.words}" for promise in promises]
