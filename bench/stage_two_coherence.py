"""How well patients' clipped gradients agree under each loss: what pooled noise rewards.

g is the length of the mean of clipped gradients, in units of C: what a step opens is g C and noise
(docs/adr/0043). At the base, where every study begins, of the same patients and the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.output import BenchRow
from bench.stage_two_compare import student_interval
from bench.stage_two_run import Laboratory
from bench.stage_two_train import RunOf, loss_rows, start_of
from model.arrays import Doubles


def coherence_rows(
    laboratory: Laboratory, losses: Sequence[str], seeds: Sequence[int]
) -> list[BenchRow]:
    """A row for each loss: `coherence` with `low` and `high`, 95 % over patients (seeds' mean).

    `noise`: length of the noise in an opened mean, in the same units. `towards_denoising`: cosine
    of the mean gradients of this loss and of denoising alone.
    """
    setting = laboratory.setting
    plan = setting.private
    means: dict[str, list[Doubles]] = {name: [] for name in losses}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in losses}
    for seed in seeds:
        site = laboratory.site(seed)
        start = start_of(plan, laboratory.pipeline, seed)
        for name in losses:
            rows = loss_rows(name, setting, laboratory.pipeline, site.train, RunOf(True, seed))
            each = rows.clipped_each(start, 0, plan.clipping_norm, range(plan.patients))
            found[name].append(coherence(each))
            means[name].append(each.mean(axis=0))
    return [
        {
            "loss": name,
            "seeds": len(seeds),
            "patients": plan.patients,
            "parameters": means[name][0].size,
            **_over_seeds(found[name]),
            "noise": plan.opened_deviation * means[name][0].size ** 0.5,
            "towards_denoising": _cosine(means[name], means[losses[0]]),
        }
        for name in losses
    ]


def coherence(gradients: Doubles) -> tuple[float, float]:
    """g of clipped gradients [n, P] in units of C, and its standard error.

    Of the mean's square the patients' own squares are taken off: n gradients without anything in
    common have a mean of length 1 / sqrt(n). The error is the jackknife's (Efron and Stein 1981).
    """
    n = len(gradients)
    total, squares = gradients.sum(axis=0), np.square(gradients).sum(axis=1)
    whole = _agreement(float(total @ total), float(squares.sum()), n)
    left = total - gradients  # without each in turn
    without = np.array(
        [
            _agreement(float(part @ part), float(squares.sum() - own), n - 1)
            for part, own in zip(left, squares, strict=True)
        ]
    )
    error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    return whole, float(error)


def _agreement(length: float, squares: float, n: int) -> float:
    return float(np.sqrt(max(length - squares, 0.0) / (n * (n - 1))))


def _over_seeds(found: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Student's interval over three seeds or more; over fewer, that of their patients."""
    values = np.array([value for value, _ in found])
    if len(values) >= 3:
        low, high = student_interval(values)
    else:
        half = 1.96 * float(np.sqrt(np.sum([error**2 for _, error in found]))) / len(found)
        low, high = float(values.mean()) - half, float(values.mean()) + half
    return {"coherence": float(values.mean()), "low": low, "high": high}


def _cosine(own: Sequence[Doubles], other: Sequence[Doubles]) -> float:
    pairs = zip(own, other, strict=True)
    return float(np.mean([a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs]))
