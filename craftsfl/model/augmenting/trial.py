"""Real only against real and synthetic, on patients who trained neither.

A frozen encoder's features and a linear head: what changes between the arms is what they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from craftsfl.model.augmenting.promises import ClassifierKind
from model.arrays import Features, Groups
from model.lab.augmentation.folds import patient_folds, shared_out
from model.lab.augmentation.heads import LinearHead, fit_head
from model.lab.augmentation.lessons import Labelled, Lessons
from model.lab.augmentation.outcomes import Outcome, difference, score_interval

_SHARED = 81


@dataclass(frozen=True)
class TrialMaterial:
    """Features of the real tiles and of the synthetic pictures, with their classes."""

    real: Labelled = field(repr=False)
    patients: Groups = field(repr=False)
    synthetic: Labelled = field(repr=False)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One arm at one share: its score, and what it has over real tiles alone; 95 % intervals.

    amount: synthetic pictures of each class, at most. label: of one class alone; None: of all.
    """

    share: float
    arm: ClassifierKind
    amount: int
    label: str | None
    score: float
    low: float
    high: float
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


def compare_kinds(
    material: TrialMaterial,
    labels: Sequence[str],
    *,
    folds: int,
    shares: Sequence[float],
    amounts: Sequence[int],
    seed: int,
) -> list[TrialRow]:
    """A row for each share, arm and amount over all classes, then for each class by itself.

    Without pictures there are only real tiles; with those of one class, no arm of pictures alone.
    """
    rows: list[TrialRow] = []
    for share in shares:
        real = _outcome(material, "real", 0, share, folds, seed)
        found: dict[tuple[ClassifierKind, int], Outcome] = {("real", 0): real}
        for amount in amounts:
            for arm in _arms(material.synthetic):
                found[arm, amount] = _outcome(material, arm, amount, share, folds, seed)
        for of in (None, *range(len(labels))):
            for (arm, amount), outcome in found.items():
                if of is None or amount in (0, amounts[-1]):
                    label = None if of is None else labels[of]
                    rows.append(_row(share, arm, amount, label, outcome, real, of))
    return rows


def final_heads(material: TrialMaterial) -> Mapping[ClassifierKind, LinearHead]:
    """A classifier of each kind that there are pictures for, trained on all of them."""
    kinds: tuple[ClassifierKind, ...] = ("real", *_arms(material.synthetic))
    return {
        kind: fit_head(lessons)
        for kind in kinds
        if (lessons := _lessons(kind, material.real, material.synthetic)) is not None
    }


def _arms(synthetic: Labelled) -> tuple[ClassifierKind, ...]:
    """Those for which there are pictures enough."""
    classes = len(set(synthetic.classes.tolist()))
    arms: tuple[ClassifierKind, ...] = ("real-and-synthetic", "synthetic")
    return arms[: min(classes, 2)]


def _outcome(
    material: TrialMaterial, arm: str, amount: int, share: float, folds: int, seed: int
) -> Outcome:
    """Every tile is tested once, by a classifier that saw nobody of its patient."""
    real, patients = material.real, material.patients
    synthetic = material.synthetic.first(amount)
    right = np.zeros(len(real))
    for number, (train, test) in enumerate(patient_folds(real.classes, patients, folds, seed)):
        rng = np.random.default_rng([_SHARED, seed, number])
        few = train[shared_out(real.classes[train], patients[train], share, rng)]
        lessons = _lessons(arm, real.chosen(few), synthetic)
        if lessons is not None:
            guesses = fit_head(lessons).predicted(_features(real.chosen(test)))
            right[test] = guesses == real.classes[test]
    return Outcome(right, real.classes, patients)


def _lessons(arm: str, real: Labelled, synthetic: Labelled) -> Lessons | None:
    """None where there are not two classes to tell apart."""
    parts = (None if arm == "synthetic" else real, None if arm == "real" else synthetic)
    classes = {int(label) for part in parts if part is not None for label in part.classes}
    return Lessons(*parts) if len(classes) > 1 else None


def _features(part: Labelled) -> Features:
    return np.asarray(part.inputs, np.float32)


def _row(
    share: float,
    kind: ClassifierKind,
    amount: int,
    label: str | None,
    outcome: Outcome,
    real: Outcome,
    number: int | None,
) -> TrialRow:
    of = None if number is None else {number}
    low, high = score_interval(outcome, of=of)
    row = (share, kind, amount, label, outcome.score(of), low, high)
    if kind == "real":
        return TrialRow(*row)
    return TrialRow(*row, *difference([outcome], [real], of=of))
