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
from bench.pooled_arms import begun
from bench.pooled_compare import (
    PooledRun,
    PooledRuns,
    difference_of_gains,
    pooled_comparisons,
)
from bench.pooled_gradients import GradientsAt, SharedRows
from bench.pooled_held_out import held_out_losses
from bench.pooled_setting import (
    ARMS,
    EVERY_ATTENTION,
    LAST_SELF_ATTENTION,
    POOLED,
    QUICK_POOLED,
    PooledSetting,
    schedule,
)
from bench.pooled_sites import real_sites, synthetic_sites
from bench.pooled_together import PooledPlan, SumsKept, train_together
from craftsfl.planning.gradients import StepOf
from model.base import load_base
from model.cache import locate_base
from model.lab.tissue import HOSPITALS
from model.lab.tissue.imagefolder import write_site
from model.quality.denoising import held_out_loss
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
    """Stands in for `SharedRows`: every patient's clipped gradient is a constant of its own."""

    parameters = 40
    sites = (range(160), range(160, 320), range(320, 480))

    def __init__(self, patients: int) -> None:
        drawn = np.random.default_rng(1).standard_normal((patients, self.parameters)) + 0.4
        self.gradients = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        self.asked: list[tuple[StepOf, int, int]] = []

    def clipped_sums(
        self, wanted: Sequence[GradientsAt], step: StepOf, patients: Sequence[int]
    ) -> list[NDArray[np.float64]]:
        for at in wanted:
            assert at.adapter.shape == (self.parameters,) and at.adapter.dtype == np.float32
            self.asked.append((step, patients[0], len(patients)))
        return [self.gradients[list(patients)].sum(axis=0) for _ in wanted]


def made(arm: str, seed: int, trained: tuple[float, ...]) -> PooledRun:
    return PooledRun(arm, seed, (1.0,) * len(trained), trained, (0.5,))


def along(setting: PooledSetting, arm: str, seeds: int, folder: Path) -> NDArray[np.float64]:
    """Adapters [seeds, P] that an arm of constant gradients ends at."""
    rows, found = Linear(480), []
    for seed in range(seeds):
        plan = PooledPlan(arm, setting, seed)
        kept = SumsKept(folder / f"{arm}-{seed}.jsonl")
        found.append(train_together([plan], rows, kept, lambda *_: None)[plan].adapter)
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
    gains = {row["arm"]: row["gain"] for row in runs}
    apart = abs(gains["pooled"] - gains["central"])
    assert abs(gains["pooled"] - gains["coupled"]) < 0.1 * apart  # the same luck
    names = {row["comparison"] for row in against}
    assert {"recovered", "pooled/central", "pooled-local", "pooled-alone"} <= names

    path = tmp_path / "runs.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + lines[-1][:40])  # killed while it wrote the last
    monkeypatch.setattr(SharedRows, "clipped_sums", None)  # its sums are there
    pooled.main(["--quick", "--json", "--dir", str(tmp_path)])
    again = json.loads(capsys.readouterr().out)["rows"]
    assert [row.pop("alignment", None) for row in again] == pytest.approx(
        [row.pop("alignment", None) for row in rows], abs=1e-4
    )  # of drawn images: nothing makes their arithmetic round alike twice
    assert again == rows  # the same draws, the same adapters, the same figures


def test_a_run_of_another_setting_is_not_taken_for_this_one(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    PooledRuns(path).add(QUICK_POOLED.digest("central"), made("central", 0, (0.9,)))
    found = PooledRuns(path).finished()
    assert (QUICK_POOLED.digest("central"), 0) in found
    assert (replace(QUICK_POOLED, steps=3).digest("central"), 0) not in found
    # Constants of the other arms do not matter to a run.
    other = replace(QUICK_POOLED, reference=replace(QUICK_POOLED.reference, clipping_norm=1.0))
    assert (other.digest("central"), 0) in found
    assert other.digest("noise-off") != QUICK_POOLED.digest("noise-off")


def test_a_killed_run_goes_on_at_its_step(tmp_path: Path) -> None:
    plans = [PooledPlan(arm, replace(POOLED, steps=4), 3) for arm in ("coupled", "alone")]
    whole = train_together(plans, Linear(480), SumsKept(tmp_path / "whole"), lambda *_: None)

    def killed(step: int, steps: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_together(plans, Linear(480), SumsKept(tmp_path / "cut"), killed)
    with (tmp_path / "cut").open("a") as file:
        file.write('\n["0123", 3, 2, 0, 0.1, "AAA')  # a line that was cut short
    rows = Linear(480)
    again = train_together(plans, rows, SumsKept(tmp_path / "cut"), lambda *_: None)
    assert {step.number for step, _, _ in rows.asked} == {2, 3}
    assert {step.seed for step, _, _ in rows.asked} == {3}
    for plan in plans:
        assert np.array_equal(again[plan].adapter, whole[plan].adapter)


def test_an_arm_is_the_same_whatever_is_trained_beside_it(tmp_path: Path) -> None:
    setting = replace(POOLED, steps=4)
    together = [PooledPlan(arm, setting, 1) for arm in ARMS]
    found = train_together(together, Linear(480), SumsKept(tmp_path / "all"), lambda *_: None)
    for plan in together:
        kept = SumsKept(tmp_path / plan.arm)
        alone = train_together([plan], Linear(480), kept, lambda *_: None)
        assert np.array_equal(alone[plan].adapter, found[plan].adapter)
        assert alone.keys() == {plan}


def test_comparisons_by_hand() -> None:
    runs = [
        made("noise-off", 0, (0.6, 0.8)),
        made("pooled", 0, (0.8, 0.9)),
        made("coupled", 0, (0.7, 0.9)),
        made("local", 0, (0.9, 0.9)),
        made("noise-off", 1, (0.7, 0.7)),
        made("pooled", 1, (0.85, 0.85)),
        made("pooled", 2, (0.0, 0.0)),  # no other arm has this seed
    ]
    rows = {row["comparison"]: row for row in pooled_comparisons(runs)}
    assert rows.keys() == {"recovered", "pooled/central", "pooled-central", "pooled-local"}
    assert rows["pooled/central"]["ratio"] == pytest.approx(0.15 / 0.2)  # with the coupled run
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


@pytest.mark.parametrize("arm", ["central", "coupled", "pooled"])
def test_pooled_and_central_have_the_same_signal_and_the_same_noise(
    arm: str, tmp_path: Path
) -> None:
    plain = replace(POOLED.private, rule=UpdateRule("momentum", 1.0))
    setting = replace(POOLED, steps=4, private=plain, reference=plain, local=plain)
    still = along(setting, "noise-off", 1, tmp_path)[0]
    found = along(setting, arm, 60, tmp_path) - still
    weights = [sum(0.1 * 0.9**i for i in range(4 - t)) for t in range(4)]
    wanted = setting.noise(arm) / 480 * np.linalg.norm(weights)
    assert found.std() == pytest.approx(wanted, rel=0.05)
    assert abs(found.mean()) < 4 * wanted / math.sqrt(found.size)


def test_runs_have_the_luck_of_the_pooled_one(tmp_path: Path) -> None:
    plain = replace(POOLED.private, rule=UpdateRule("momentum", 1.0))
    setting = replace(POOLED, steps=4, private=plain, reference=plain, local=plain)
    still = along(setting, "noise-off", 1, tmp_path)[0]
    pooled_noise, coupled, local = (
        along(setting, arm, 8, tmp_path) - still for arm in ("pooled", "coupled", "local")
    )
    # Within half a unit, uniformly: sqrt(1/12) of the sum's deviation of sqrt(3) x 8 units.
    apart = (pooled_noise - coupled).std() / coupled.std()
    assert apart == pytest.approx(math.sqrt(1 / 12) / (math.sqrt(3) * 8), rel=0.1)
    larger = math.sqrt(2)  # sqrt(3) sigma, over sqrt(3 / 2) sigma
    assert local == pytest.approx(larger * coupled, rel=1e-3, abs=1e-5)


def test_fewer_patients_in_more_steps_cost_the_same_and_are_seen_as_often(tmp_path: Path) -> None:
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

    rows, plan = Linear(480), PooledPlan("central", replace(many, steps=100), 3)
    train_together([plan], rows, SumsKept(tmp_path / "sums"), lambda *_: None)
    assert np.mean([count for _, _, count in rows.asked]) == pytest.approx(48, rel=0.1)
    assert len({count for _, _, count in rows.asked}) > 5


def test_tuning_prints_each_arm_at_each_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[PooledPlan] = []

    def measured(
        plans: Sequence[PooledPlan], folder: Path, tiles: Path | None = None
    ) -> list[PooledRun]:
        asked.extend(plans)
        rates = [p.setting.constants(p.arm).rule.learning_rate for p in plans]
        return [made(p.arm, p.seed, (1 - r,)) for p, r in zip(plans, rates, strict=True)]

    monkeypatch.setattr(pooled, "measure", measured)
    options = ["--arms", "local,central", "--rates", "0.5,0.25", "--first-seed", "100"]
    pooled.main(["--json", *options, "--tiles", str(tmp_path)])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {(row["arm"], row["gain"], row["epsilon"]) for row in rows} == {
        ("local, rate 0.5", 0.5, 8.0),
        ("local, rate 0.25", 0.25, 8.0),
        ("central, rate 0.5", 0.5, 8.0),
        ("central, rate 0.25", 0.25, 8.0),
        ("central, rate 0.5, real tiles", 0.5, None),
        ("central, rate 0.25, real tiles", 0.25, None),
    }
    assert {plan.seed for plan in asked} == set(range(100, 105))
    # The arm's own rate alone: the noise of "local" stays that of one pooled run.
    assert {plan.setting.private for plan in asked if plan.arm == "local"} == {POOLED.private}


def test_a_difference_of_two_lists_of_runs() -> None:
    better = [made("central", 0, (0.8, 0.9)), made("central", 5, (0.0, 0.0))]
    row = difference_of_gains("a less b", better, [made("central", 0, (0.9, 1.0))])
    assert (row["comparison"], row["seeds"]) == ("a less b", 1)
    assert row["difference"] == pytest.approx(0.1)


def test_a_site_alone_sees_its_own_patients_only() -> None:
    rows = Linear(480)
    found = [begun("alone", POOLED, rows, seed).groups(0) for seed in range(4)]
    sites = [[tuple(site)] for site in rows.sites]
    assert found == [*sites, sites[0]]


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


@pytest.mark.slow
@pytest.mark.parametrize("targets", [LAST_SELF_ATTENTION, EVERY_ATTENTION])
def test_gradients_and_losses_do_not_depend_on_the_adapters_beside(
    targets: tuple[str, ...], tmp_path: Path
) -> None:
    pipeline = load_base(locate_base("tiny"))
    setting = replace(QUICK_POOLED, targets=targets)
    sites = synthetic_sites(setting, pipeline, 0, tmp_path)
    rows = SharedRows(pipeline, setting.adapter, sites, draws=1)
    random = np.random.default_rng(0)
    drawn = [0.3 * random.standard_normal(rows.parameters) for _ in range(3)]
    wanted = [GradientsAt(vector.astype(np.float32), 0.0005) for vector in drawn]
    vectors = [at.adapter for at in wanted]

    def sums(wanted: Sequence[GradientsAt]) -> list[NDArray[np.float64]]:
        return rows.clipped_sums(wanted, StepOf(0, 1), rows.sites[0])

    found = sums(wanted)
    losses = held_out_losses(pipeline, setting.adapter, vectors, sites.held_out, 5, 2)
    for at, together, own in zip(wanted, found, losses, strict=True):
        assert np.array_equal(sums([at])[0], together)  # to the last bit
        plain = held_out_loss(
            pipeline, setting.adapter, at.adapter, sites.held_out, seed=5, draws=2
        )
        assert np.array_equal(plain, own)
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(losses[0], losses[1])
    assert not any("forward" in vars(module) for module in pipeline.unet.modules())
