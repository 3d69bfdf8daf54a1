"""The benchmark of stage two: complete in its quick form, resumable, and its arithmetic by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import stage_two
from bench.stage_two_coherence import coherence
from bench.stage_two_compare import (
    STAGE_TWO_METRICS,
    Finished,
    StageTwoRun,
    comparisons,
    missing,
    paired,
)
from bench.stage_two_gradients import KnownPasses
from bench.stage_two_setting import (
    BASELINE,
    BOTH,
    DOMAIN_CAPTIONS,
    EFFECTS,
    FULL,
    GROUNDING,
    QUICK,
    REPORTED_SEEDS,
    SHUFFLED,
    SQUARED,
    STAGE_TWO_LOSSES,
    TUNING_SEEDS,
    StageTwoSetting,
)
from bench.stage_two_train import bench_tiles, trained_adapter
from client.training import EncodedTiles
from model.encoders.files import shipped_encoder

KEYS = ["loss", "private", "seed", *STAGE_TWO_METRICS]


@pytest.fixture(autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def near(value: float, least: float = 1e-6) -> object:
    return pytest.approx(value, rel=1e-3, abs=least)


def made(
    loss: str, seed: int, alignment: tuple[float, ...], *, private: bool = False
) -> StageTwoRun:
    others = ((0.5, 1.0), (0.5,) * len(alignment), (0.1, 0.3), (2.0,))
    return StageTwoRun(loss, private, seed, alignment, *others)


@pytest.mark.slow
def test_the_quick_bench_has_every_row_and_goes_on_after_a_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_two.main(["--quick", "--json", "--dir", str(tmp_path)])
    rows = json.loads(capsys.readouterr().out)["rows"]
    runs, against = rows[: 2 * len(STAGE_TWO_LOSSES)], rows[2 * len(STAGE_TWO_LOSSES) :]
    assert [list(row) for row in runs] == [KEYS] * len(runs)
    assert {(r["loss"], r["private"]) for r in runs} == {
        (n, p) for n in STAGE_TWO_LOSSES for p in (0, 1)
    }
    assert all(np.isfinite([row[metric] for metric in STAGE_TWO_METRICS]).all() for row in runs)
    assert all(row["drift"] > 0 for row in runs)  # every one has trained
    pairs = {(r["loss"], r["against"], r["private"], r["metric"]) for r in against}
    # each with denoising; effects with grounding and their control, both together with grounding
    compared = len(STAGE_TWO_LOSSES) - 1 + 3
    assert len(pairs) == len(against) == 2 * compared * len(STAGE_TWO_METRICS)
    assert {row["epsilon"] for row in against if row["private"]} == {8.0}

    path = tmp_path / "runs.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + lines[-1][:40])  # killed while it wrote the last
    again: list[tuple[str, bool, int]] = []
    original = stage_two._runs

    def counted(setting, left, *rest):  # type: ignore[no-untyped-def]
        again.extend(left)
        return original(setting, left, *rest)

    monkeypatch.setattr(stage_two, "_runs", counted)
    stage_two.main(["--quick", "--json", "--dir", str(tmp_path)])
    assert again == [(SQUARED, True, REPORTED_SEEDS[0])]
    repeated = json.loads(capsys.readouterr().out)["rows"]
    for row, before in zip(repeated, rows, strict=True):  # the same draws, the same figures
        # Of four pictures, Frechet's distance changes by 2e-5 where one pixel rounds differently.
        least = 1e-4 if before.get("metric") == "frechet" else 1e-6
        assert row == {k: near(v, least) if isinstance(v, float) else v for k, v in before.items()}


def test_a_comparison_by_hand() -> None:
    runs = [
        made(BASELINE, 0, (0.1, 0.3)),
        made(BASELINE, 1, (0.2, 0.2)),
        made(GROUNDING, 0, (0.2, 0.5)),
        made(GROUNDING, 1, (0.3, 0.4)),
        made(GROUNDING, 2, (9.0, 9.0)),  # no baseline of this seed
        made(GROUNDING, 0, (9.0, 9.0), private=True),  # no private baseline
    ]
    rows = comparisons(runs, epsilon=3.0)
    assert [row["metric"] for row in rows] == list(STAGE_TWO_METRICS)
    alignment = rows[0]
    assert alignment["difference"] == pytest.approx(0.15)  # (0.1 + 0.2 + 0.1 + 0.2) / 4
    assert alignment["low"] == pytest.approx(0.1)
    assert alignment["high"] == pytest.approx(0.2)
    assert alignment["seeds"] == 2
    assert alignment["t_low"] == pytest.approx(0.15)  # both seeds differ by as much
    assert rows[3] == {
        "loss": GROUNDING,
        "against": BASELINE,
        "private": False,
        "epsilon": None,
        "metric": "drift",
        "seeds": 2,
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
        "t_low": 0.0,
        "t_high": 0.0,
    }


def test_effects_are_also_compared_with_their_rivals() -> None:
    runs = [made(EFFECTS, s, (0.5, 0.5)) for s in (0, 1)]
    runs += [made(SHUFFLED, s, (0.1, 0.3)) for s in (0, 1)]
    found = {(r["against"], r["metric"]): r for r in comparisons(runs, epsilon=3.0)}
    assert {against for against, _ in found} == {SHUFFLED}  # of the others there is no run
    assert found[SHUFFLED, "alignment"]["difference"] == pytest.approx(0.3)


def test_the_interval_is_wide_where_seeds_differ_and_patients_do_not() -> None:
    # Resampling patients alone would say [0.5, 0.5].
    found = paired([np.zeros(50), np.ones(50)])
    assert (found["difference"], found["low"], found["high"]) == (0.5, 0.0, 1.0)
    # Student's with one degree of freedom: 12.71 s / sqrt(2), s = 1 / sqrt(2)
    assert found["t_high"] == pytest.approx(0.5 + 12.706 / 2, abs=1e-2)


def test_the_interval_of_many_patients_of_equal_seeds() -> None:
    random = np.random.default_rng(1)
    values = [random.standard_normal(400) for _ in range(50)]
    found = paired(values)
    assert found["low"] is not None and found["high"] is not None
    half = (found["high"] - found["low"]) / 2
    # The seeds' means as they are, and the patients within once more.
    variance = (np.var([v.mean() for v in values]) + 1 / 400) / 50
    assert half == pytest.approx(1.96 * np.sqrt(variance), rel=0.1)


def test_one_figure_a_seed_gets_students_interval() -> None:
    found = paired([np.array([1.0]), np.array([2.0]), np.array([3.0])])
    # mean 2, s = 1, t(0.975, 2) = 4.303
    assert found["low"] == pytest.approx(2 - 4.303 / np.sqrt(3), abs=1e-3)
    assert found["high"] == pytest.approx(2 + 4.303 / np.sqrt(3), abs=1e-3)


def test_one_seed_has_no_interval() -> None:
    found = paired([np.array([1.0, 2.0])])
    assert found.pop("difference") == 1.5
    assert set(found.values()) == {None}


def test_finished_runs_of_another_setting_are_none(tmp_path: Path) -> None:
    path, run = tmp_path / "runs.jsonl", made(BASELINE, 0, (1.0,))
    Finished(path, lambda *_: "one").add(run)
    Finished(path, lambda *_: "other").add(made(BASELINE, 1, (1.0,)))
    assert Finished(path, lambda *_: "one").runs() == [run]
    assert missing([run], [(BASELINE, False, 0), (BASELINE, True, 0)]) == [(BASELINE, True, 0)]


def test_settings_are_told_apart_by_what_a_run_depends_on() -> None:
    def digest(setting: StageTwoSetting, loss: str = BASELINE, *, private: bool = False) -> str:
        return setting.digest(loss, private=private)

    assert digest(FULL) != digest(QUICK)
    digests = {digest(FULL, loss, private=p) for loss in STAGE_TWO_LOSSES for p in (True, False)}
    assert len(digests) == 2 * len(STAGE_TWO_LOSSES)
    noisier = replace(FULL, private=replace(FULL.private, epsilon=4.0))
    assert digest(noisier) == digest(FULL)
    assert digest(noisier, private=True) != digest(FULL, private=True)


def test_what_each_loss_has() -> None:
    terms = {loss: FULL.terms(loss, private=False) for loss in STAGE_TWO_LOSSES}
    assert terms.pop(BASELINE) is None
    found = {
        loss: {name for name, term in dict(own).items() if term is not None}
        for loss, own in terms.items()
        if own is not None
    }
    assert found == {
        "structure": {"structure"},
        GROUNDING: {"drift", "grounding"},
        EFFECTS: {"effects"},
        SHUFFLED: {"effects"},
        BOTH: {"effects", "drift", "grounding"},
        SQUARED: {"effects"},
    }
    assert terms[EFFECTS] == terms[SHUFFLED]  # the control differs in its phrases alone
    assert len(set(DOMAIN_CAPTIONS)) == 40


def test_a_site_s_precision_is_trained_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.stage_two_setting.multiplies_bfloat16", lambda: True)
    found = {loss: FULL.precision(loss, private=True) for loss in STAGE_TWO_LOSSES}
    assert {loss for loss, how in found.items() if how == "bfloat16"} == {
        BASELINE,
        "structure",
        GROUNDING,
    }
    fast = FULL.digest(BASELINE, private=True)
    monkeypatch.setattr("bench.stage_two_setting.multiplies_bfloat16", lambda: False)
    assert FULL.precision(BASELINE, private=True) == "float32"
    assert FULL.digest(BASELINE, private=True) != fast


class Doubling:
    """Stands in for a UNet: counts its passes."""

    passes = 0

    def forward(self, noised: torch.Tensor, times: torch.Tensor, text: torch.Tensor) -> object:
        self.passes += 1
        return (2 * noised + text + times,)

    def __call__(self, *rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.forward(*rows)[0]  # type: ignore[index]
        return found


def test_the_same_pass_of_the_base_is_made_once() -> None:
    unet, known = Doubling(), KnownPasses()
    rows = (torch.arange(4.0), torch.tensor([3]), torch.ones(4))
    with torch.no_grad():
        wanted = unet(*rows)
        for precision in ("float32", "float32", "bfloat16"):
            with known.used(unet, precision):  # type: ignore[arg-type]
                assert torch.equal(unet(*rows), wanted)
                assert torch.equal(unet(rows[0], rows[1] + 1, rows[2]), wanted + 1)
    assert unet.passes == 1 + 2 * 2
    with known.used(unet, "float32"):  # type: ignore[arg-type]
        unet(*rows)  # with a gradient: of the adapter, which has moved meanwhile
    assert (unet.passes, len(known)) == (6, 4)
    unet(*rows)
    assert unet.passes == 7


def test_reported_seeds_are_many_and_nothing_is_tuned_on_them() -> None:
    assert len(REPORTED_SEEDS) >= 8
    assert not set(REPORTED_SEEDS) & set(TUNING_SEEDS)


def test_the_control_gives_every_caption_another_ones_phrases() -> None:
    likeness = torch.arange(12.0).reshape(4, 3)
    tiles = EncodedTiles(
        latents=torch.zeros(6, 1),
        text=torch.zeros(4, 1),
        caption_of=torch.tensor([0, 1, 2, 3, 0, 1]),
        patient_of=torch.arange(6),
        likeness=likeness,
    )
    plan = replace(FULL.plain, patients=5)
    moved = bench_tiles(SHUFFLED, tiles, plan, 7)
    assert moved.likeness is not None
    assert len(moved) == 5
    assert not (moved.likeness == likeness).all(dim=1).any()
    assert sorted(moved.likeness[:, 0].tolist()) == likeness[:, 0].tolist()
    untouched = bench_tiles(EFFECTS, tiles, plan, 7).likeness
    assert untouched is not None and torch.equal(untouched, likeness)


class Constant:
    """Stands in for `LossRows`: a gradient of its own for every patient."""

    parameters = 1536

    def __init__(self, patients: int) -> None:
        drawn = np.random.default_rng(1).standard_normal((patients, self.parameters))
        self.gradients = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        self.asked: list[int] = []

    def clipped_sum(
        self, vector: object, step: object, clipping_norm: float, patients: Sequence[int]
    ) -> np.ndarray:
        self.asked.append(len(patients))
        return self.gradients[patients].sum(axis=0)


def test_a_private_step_varies_as_one_over_everybody() -> None:
    """Noise and the draw of some together: sigma^2 n / (n - n_c) / N^2 in each number."""
    plan = FULL.private
    rows = Constant(plan.patients)
    # epsilon = 8 at delta = 1e-5 and 50 steps, as in docs/adr/0043: sigma about 4.24
    assert plan.sigma == pytest.approx(4.24, rel=0.01)
    assert plan.opened_deviation == pytest.approx(4.24 * np.sqrt(1.5) / 510, rel=0.01)
    random, parts = np.random.default_rng(3), []
    for _ in range(400):
        drawn = random.choice(plan.patients, plan.drawn, replace=False)
        noise = plan.added_deviation(rows.parameters) * random.standard_normal(rows.parameters)
        parts.append(rows.gradients[drawn].mean(axis=0) + noise)
    wanted = plan.opened_deviation**2
    assert np.var(np.stack(parts), axis=0).mean() == pytest.approx(wanted, rel=0.02)


def test_every_loss_of_a_seed_meets_the_same_draws_and_noise() -> None:
    plan = replace(FULL.private, steps=3)
    start = np.zeros(Constant.parameters, np.float32)

    def run(seed: int) -> np.ndarray:
        rows = Constant(plan.patients)
        found = trained_adapter(rows, plan, start, seed, lambda *_: None)  # type: ignore[arg-type]
        assert rows.asked == [plan.drawn] * 3
        return found

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))
    quiet = replace(plan, epsilon=None)
    assert quiet.added_deviation(1536) == 0


def test_coherence_knows_directions_in_common_from_chance() -> None:
    random = np.random.default_rng(0)
    noise = random.standard_normal((300, 500))
    apart = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    assert coherence(apart)[0] < 0.02  # the mean itself is 1 / sqrt(300) = 0.06 long
    common = np.zeros(500)
    common[0] = 0.5
    value, error = coherence(common + np.sqrt(0.75) * apart)
    assert value == pytest.approx(0.5, abs=3 * error + 0.01)
    spread = [coherence(common + np.sqrt(0.75) * draws(seed))[0] for seed in range(40)]
    assert np.std(spread) == pytest.approx(error, rel=0.5)


def draws(seed: int) -> np.ndarray:
    noise = np.random.default_rng(100 + seed).standard_normal((300, 500))
    return noise / np.linalg.norm(noise, axis=1, keepdims=True)


@pytest.mark.skipif(shipped_encoder("tiny") is None, reason="no tiny encoder here")
def test_the_references_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    stage_two.main(["--references", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 3 * len(DOMAIN_CAPTIONS) + 1
    assert {row["caption"] for row in rows[:-1]} == set(DOMAIN_CAPTIONS)
    assert all(-1 <= row["r"] <= 1 for row in rows)
    assert rows[-1]["right"] == pytest.approx(np.mean([row["right"] for row in rows[:-1]]))
