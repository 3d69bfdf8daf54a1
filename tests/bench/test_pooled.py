"""The benchmark of pooled noise: complete in its quick form, resumable, its arithmetic by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench import pooled
from bench.pooled_arms import trained
from bench.pooled_compare import (
    PooledRun,
    PooledRuns,
    difference_of_gains,
    pooled_comparisons,
)
from bench.pooled_setting import ARMS, POOLED, QUICK_POOLED, schedule
from bench.pooled_sites import real_sites
from craftsfl.planning.gradients import StepOf
from model.base import load_base
from model.cache import locate_base
from model.lab.tissue import HOSPITALS
from model.lab.tissue.imagefolder import write_site
from privacy.accounting import epsilon
from privacy.mechanisms.local.event import PoissonGaussian
from privacy.mechanisms.pooled import PooledGaussian
from strategies.rule import UpdateRule


@pytest.fixture(autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class Linear:
    """Stands in for `PatientRows`: every patient's clipped gradient is a constant of its own."""

    parameters = 40
    sites = (range(160), range(160, 320), range(320, 480))

    def __init__(self, patients: int) -> None:
        drawn = np.random.default_rng(1).standard_normal((patients, self.parameters)) + 0.4
        self.gradients = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        self.asked: list[tuple[StepOf, int, int]] = []

    def clipped_sum(
        self,
        vector: NDArray[np.float32],
        step: StepOf,
        clipping_norm: float,
        patients: Sequence[int],
    ) -> NDArray[np.float64]:
        assert vector.shape == (self.parameters,) and vector.dtype == np.float32
        self.asked.append((step, patients[0], len(patients)))
        return np.asarray(self.gradients[list(patients)].sum(axis=0))


def made(arm: str, seed: int, trained: tuple[float, ...]) -> PooledRun:
    return PooledRun(arm, seed, (1.0,) * len(trained), trained, (0.5,))


def along(setting: object, arm: str, seeds: int) -> NDArray[np.float64]:
    """Adapters [seeds, P] that an arm of constant gradients ends at."""
    rows = Linear(480)
    found = [trained(arm, setting, rows, seed, lambda *_: None) for seed in range(seeds)]  # type: ignore[arg-type]
    return np.stack(found).astype(np.float64)


@pytest.mark.slow
@pytest.mark.ci
def test_the_quick_bench_has_every_row_and_goes_on_after_a_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled.main(["--quick", "--json", "--dir", str(tmp_path)])
    rows = json.loads(capsys.readouterr().out)["rows"]
    runs, against = rows[: len(ARMS)], rows[len(ARMS) :]
    assert [row["arm"] for row in runs] == list(ARMS)
    assert {tuple(row) for row in runs} == {("arm", "seed", "epsilon", "gain", "alignment")}
    assert [row["epsilon"] is None for row in runs] == [arm == "noise-off" for arm in ARMS]
    assert all(np.isfinite([row["gain"], row["alignment"]]).all() for row in runs)
    assert len({row["gain"] for row in runs}) == len(ARMS)  # every arm has trained in its own way
    names = {row["comparison"] for row in against}
    assert {"recovered", "pooled/central", "pooled-local", "pooled-alone"} <= names

    path = tmp_path / "runs.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + lines[-1][:40])  # killed while it wrote the last
    again: list[tuple[str, int]] = []
    original = pooled._runs

    def counted(setting, left, *rest):  # type: ignore[no-untyped-def]
        again.extend(left)
        return original(setting, left, *rest)

    monkeypatch.setattr(pooled, "_runs", counted)
    pooled.main(["--quick", "--json", "--dir", str(tmp_path)])
    assert again == [(ARMS[-1], 0)]
    assert json.loads(capsys.readouterr().out)["rows"] == rows  # the same draws, the same figures


def test_a_run_of_another_setting_is_not_taken_for_this_one(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    PooledRuns(path, QUICK_POOLED.digest).add(made("central", 0, (0.9,)))
    assert ("central", 0) in PooledRuns(path, QUICK_POOLED.digest).finished()
    assert not PooledRuns(path, replace(QUICK_POOLED, steps=3).digest).finished()
    # RunConstants of the other arms do not matter to a run.
    other = replace(QUICK_POOLED, reference=replace(QUICK_POOLED.reference, clipping_norm=1.0))
    assert ("central", 0) in PooledRuns(path, other.digest).finished()


def test_comparisons_by_hand() -> None:
    runs = [
        made("noise-off", 0, (0.6, 0.8)),
        made("pooled", 0, (0.8, 0.9)),
        made("local", 0, (0.9, 0.9)),
        made("noise-off", 1, (0.7, 0.7)),
        made("pooled", 1, (0.85, 0.85)),
        made("pooled", 2, (0.0, 0.0)),  # no other arm has this seed
    ]
    rows = {row["comparison"]: row for row in pooled_comparisons(runs)}
    assert rows.keys() == {"recovered", "pooled-local"}
    recovered, difference = rows["recovered"], rows["pooled-local"]
    assert recovered["ratio"] == pytest.approx(0.5)  # 0.15 of 0.3, in both seeds
    assert recovered["low"] == pytest.approx(0.5)  # every patient's own ratio is a half
    assert recovered["high"] == pytest.approx(0.5)
    assert difference["difference"] == pytest.approx(0.05)  # 0.15 - 0.1
    assert difference["low"] == pytest.approx(0.0)
    assert difference["high"] == pytest.approx(0.1)
    assert (recovered["seeds"], difference["seeds"]) == (2, 1)


def test_the_interval_of_a_ratio_is_wide_where_seeds_differ_and_patients_do_not() -> None:
    runs = [
        made("noise-off", 0, (0.5,) * 30),
        made("pooled", 0, (1.0,) * 30),
        made("noise-off", 1, (0.5,) * 30),
        made("pooled", 1, (0.5,) * 30),
    ]
    (row,) = pooled_comparisons(runs)
    assert (row["ratio"], row["low"], row["high"]) == (0.5, 0.0, 1.0)


def test_noise_of_every_arm_keeps_the_same_promise() -> None:
    terms = {
        "steps": POOLED.steps,
        "clipping_norm": 1.0,
        "parameters": 1536,
        "grid": POOLED.grid,
    }
    sites = len(POOLED.sites)
    pooled_noise = PooledGaussian(
        sampling_rate=1.0,
        noise_multiplier=POOLED.noise("pooled") * math.sqrt((sites - POOLED.colluders) / sites),
        cohort=sites,
        smallest_cohort=sites,
        noise_colluders=POOLED.colluders,
        **terms,  # type: ignore[arg-type]
    )
    assert epsilon([pooled_noise], POOLED.delta) == pytest.approx(POOLED.epsilon, rel=0.01)
    assert POOLED.noise("central") == POOLED.noise("pooled") == pytest.approx(4.650, abs=0.001)
    assert POOLED.noise("local") == pytest.approx(POOLED.sigma * math.sqrt(3))
    assert POOLED.noise("alone") == POOLED.noise("calibrated") == POOLED.sigma
    assert POOLED.noise("noise-off") == 0


def test_pooled_and_central_have_the_same_signal_and_the_same_noise() -> None:
    plain = replace(POOLED.private, rule=UpdateRule("momentum", 1.0))
    setting = replace(POOLED, steps=4, private=plain, reference=plain)
    still = along(setting, "noise-off", 1)[0]
    for arm in ("central", "pooled"):
        found = along(setting, arm, 60) - still
        weights = [sum(0.1 * 0.9**i for i in range(4 - t)) for t in range(4)]
        wanted = setting.noise(arm) / 480 * np.linalg.norm(weights)
        assert found.std() == pytest.approx(wanted, rel=0.05)
        assert abs(found.mean()) < 4 * wanted / math.sqrt(found.size)


def test_fewer_patients_in_more_steps_cost_the_same_and_are_seen_as_often() -> None:
    few, many = schedule(POOLED, 1.0), schedule(POOLED, 0.1)
    assert (few.steps, many.steps) == (50, 500)
    assert few.private == POOLED.private  # the same constants where nothing else differs
    spent = PoissonGaussian(0.1, many.sigma, 1.0, many.steps)
    assert epsilon([spent], POOLED.delta) == pytest.approx(POOLED.epsilon, rel=0.01)
    assert many.noise_to_clip > 1.1 * few.noise_to_clip  # what sampling wastes
    # A run moves as far: T steps of the rate over a step's noise, by which Adam divides.
    assert many.private.rule.learning_rate * math.sqrt(many.steps) == pytest.approx(
        few.private.rule.learning_rate
        * math.sqrt(few.steps)
        * many.noise_to_clip
        / few.noise_to_clip
    )

    rows = Linear(480)
    trained("central", replace(many, steps=100), rows, 3, lambda *_: None)  # type: ignore[arg-type]
    assert np.mean([count for _, _, count in rows.asked]) == pytest.approx(48, rel=0.1)
    assert len({count for _, _, count in rows.asked}) > 5


def test_a_difference_of_two_lists_of_runs() -> None:
    better = [made("central", 0, (0.8, 0.9)), made("central", 5, (0.0, 0.0))]
    row = difference_of_gains("a less b", better, [made("central", 0, (0.9, 1.0))])
    assert (row["comparison"], row["seeds"]) == ("a less b", 1)
    assert row["difference"] == pytest.approx(0.1)


def test_a_site_alone_sees_its_own_patients_only() -> None:
    rows = Linear(480)
    for seed in range(4):
        trained("alone", replace(POOLED, steps=1), rows, seed, lambda *_: None)  # type: ignore[arg-type]
    assert [(start, count) for _, start, count in rows.asked] == [
        (0, 160),
        (160, 160),
        (320, 160),
        (0, 160),
    ]


def test_an_arm_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pooled.main(["--arms", "central,magic"])
    assert "no such arm: magic" in capsys.readouterr().err


def test_without_real_tiles_the_bench_says_why_it_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "sites"
    assert pooled.on_real_tiles(QUICK_POOLED, 0, tmp_path, missing) == []
    assert f"{missing} is not a folder" in capsys.readouterr().err


@pytest.mark.slow
def test_no_patient_of_real_tiles_is_both_trained_on_and_held_out(tmp_path: Path) -> None:
    for number, name in enumerate(("north", "harbour")):
        write_site(
            tmp_path / "sites" / name,
            site=name,
            patients=4,
            most_tiles=2,
            appearance=HOSPITALS[name],
            seed=number,
        )
    pipeline = load_base(locate_base("tiny"))
    found = [real_sites(tmp_path / "sites", pipeline, seed, tmp_path / "cache") for seed in (0, 1)]
    for sites in found:
        assert sites.sizes == (3, 3)
        assert len(sites.train.by_patient()) == 6
        assert len(sites.held_out.by_patient()) == 2
        assert len(sites.train) + len(sites.held_out) == 12
        assert len(sites.captions) == len(sites.held_out)
        both = torch.cdist(sites.train.latents.flatten(1), sites.held_out.latents.flatten(1))
        assert both.min() > 0  # no tile on both sides
    assert not torch.equal(found[0].held_out.latents[:1], found[1].held_out.latents[:1])
