"""Rehearsed steps on gradients that are known, and the figures that are made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from client.training import EncodedTiles
from craftsfl.cli import app
from craftsfl.planning.gradients import StepOf
from craftsfl.planning.rehearsal import RehearsedSteps, rehearsed_adapter
from craftsfl.planning.stage import best_scale, coherence_of, recovered
from craftsfl.planning.tissue import PooledSites, by_hospital, fewer
from strategies.rule import UpdateRule

P, N = 50, 400


class Constant:
    """Stands in for `PatientRows`: every patient's clipped gradient is a constant of its own."""

    parameters = P
    sites = (range(200), range(200, N))

    def __init__(self) -> None:
        drawn = np.random.default_rng(1).standard_normal((N, P))
        self.gradients = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        self.entered: list[Sequence[int]] = []

    def clipped_sum(
        self, vector: NDArray[np.float32], step: StepOf, clip: float, patients: Sequence[int]
    ) -> NDArray[np.float64]:
        self.entered.append(patients)
        return np.asarray(self.gradients[list(patients)].sum(axis=0))


def steps(noise: float, count: int = 5, kind: str = "momentum") -> RehearsedSteps:
    return RehearsedSteps(UpdateRule(kind, 1.0, beta1=0.0), 0.0005, count, noise)  # type: ignore[arg-type]


def trained(plan: RehearsedSteps, rows: Constant, seed: int) -> NDArray[np.float32]:
    return rehearsed_adapter(plan, rows, seed, lambda *_: None)  # type: ignore[arg-type]


def test_with_much_noise_few_patients_are_drawn_and_each_step_others() -> None:
    rows = Constant()
    trained(steps(1.0), rows, 0)
    assert all(len(set(entered)) == 32 for entered in rows.entered)
    assert rows.entered[0] != rows.entered[1]


def test_with_little_noise_all_are() -> None:
    assert steps(1e-4).in_a_step(N, P) == N
    assert steps(1e-4).added(N, N, P) == 1e-4


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.2])
def test_noise_and_drawing_together_are_as_large_as_the_plan_says(noise: float) -> None:
    """Over many steps of momentum without memory, an adapter is the sum of the opened means."""
    rows, plan = Constant(), steps(noise, 400)
    assert plan.in_a_step(N, P) < N
    moved = trained(plan, rows, 3).astype(np.float64)
    off = moved + 400 * rows.gradients.mean(axis=0)
    assert np.std(off) / np.sqrt(400) == pytest.approx(noise, rel=0.3)


def test_without_noise_nothing_is_added() -> None:
    plan = steps(0.0, 1)
    assert plan.added(160, N, P) == 0.0
    rows = Constant()
    found = trained(plan, rows, 0)
    mean = rows.gradients[list(rows.entered[0])].mean(axis=0)
    assert np.allclose(found, -mean, atol=1e-6)


def test_a_seed_repeats_and_another_does_not() -> None:
    first, again, other = (trained(steps(0.1), Constant(), seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_best_scale_is_the_top_of_the_parabola() -> None:
    for best in (0.3, 0.6, 1.0, 2.0):
        half, whole = (2 * best * scale - scale**2 for scale in (0.5, 1.0))
        assert best_scale(half, whole) == pytest.approx(best)
    assert best_scale(-1.0, -2.0) == 0.05  # a step in any length is worse
    assert best_scale(0.5, 1.0) == 3.0  # no top in sight


def test_a_ratio_of_gains_on_the_same_patients() -> None:
    reference = np.random.default_rng(0).normal(1.0, 0.5, 300)
    share = recovered(0.6 * reference, reference)
    assert (share.middle, share.low, share.high) == pytest.approx((0.6, 0.6, 0.6))
    other = recovered(np.random.default_rng(1).normal(0.6, 0.5, 300), reference)
    assert other.low < 0.6 < other.high and other.high - other.low < 0.3


def test_coherence_is_without_what_chance_makes_of_it() -> None:
    random = np.random.default_rng(0)
    direction = np.zeros(P)
    direction[0] = 1.0
    assert coherence_of(random.standard_normal((300, P)), 1e-3) < 0.05  # 0.058 with it
    mixed = random.standard_normal((4000, P)) / np.sqrt(P) + 0.2 * direction
    unit = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    expected = float(unit.mean(axis=0)[0])
    assert coherence_of(mixed, 1e-6) == pytest.approx(expected, rel=0.05)


def test_sites_are_of_the_hospitals_kinds_in_turn() -> None:
    assert list(by_hospital([10, 20, 30, 40]).values()) == [50, 20, 30]
    assert list(by_hospital([10, 20]).values()) == [10, 20]


def test_fewer_patients_are_the_first_of_each_site() -> None:
    owners = torch.tensor([0, 0, 1, 2, 3, 4])
    tiles = EncodedTiles(
        latents=torch.arange(6.0).reshape(6, 1, 1, 1),
        text=torch.zeros(1, 1, 1),
        caption_of=torch.zeros(6, dtype=torch.int64),
        patient_of=owners,
    )
    found = fewer(PooledSites(tiles, (3, 2), tiles, ()), (2, 1))
    assert found.sizes == (2, 1)
    assert found.train.patient_of.tolist() == [0, 0, 1, 2]
    assert found.train.latents.flatten().tolist() == [0.0, 1.0, 2.0, 4.0]


@pytest.mark.slow
def test_a_plan_is_rehearsed(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAFTSFL_CACHE", str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    asked = ["--sites", "3", "--patients", "10", "--steps", "2", "--layout", "last-self-attention"]
    try:
        done = CliRunner().invoke(app, ["rounds", "plan", *asked, "--rehearse"])
    finally:
        torch.set_num_threads(threads)
    assert done.exit_code == 0, done.output
    assert "Rehearsed: " in done.output and "held-out patients" in done.output
