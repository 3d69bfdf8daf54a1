"""The benchmark of stage two: complete in its quick form, resumable, and its arithmetic by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import stage_two
from bench.stage_two_compare import (
    STAGE_TWO_METRICS,
    Finished,
    StageTwoRun,
    comparisons,
    missing,
    paired,
)
from bench.stage_two_setting import (
    BASELINE,
    DOMAIN_CAPTIONS,
    FULL,
    QUICK,
    SHUFFLED,
    STAGE_TWO_LOSSES,
    StageTwoSetting,
)

KEYS = ["loss", "private", "seed", *STAGE_TWO_METRICS]


@pytest.fixture(autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-3, abs=1e-6)


def made(
    loss: str, seed: int, alignment: tuple[float, ...], *, private: bool = False
) -> StageTwoRun:
    return StageTwoRun(loss, private, seed, alignment, (0.5,) * len(alignment), (0.1, 0.3), (2.0,))


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
    pairs = {(r["loss"], r["private"], r["metric"]) for r in against}
    assert len(pairs) == len(against) == 2 * (len(STAGE_TWO_LOSSES) - 1) * len(STAGE_TWO_METRICS)
    assert {row["epsilon"] for row in against if row["private"]} == {QUICK.epsilon()}

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
    assert again == [(SHUFFLED, True, 0)]
    repeated = json.loads(capsys.readouterr().out)["rows"]
    for row, before in zip(repeated, rows, strict=True):  # the same draws, the same figures
        assert row == {k: near(v) if isinstance(v, float) else v for k, v in before.items()}


def test_a_comparison_by_hand() -> None:
    runs = [
        made(BASELINE, 0, (0.1, 0.3)),
        made(BASELINE, 1, (0.2, 0.2)),
        made("+drift", 0, (0.2, 0.5)),
        made("+drift", 1, (0.3, 0.4)),
        made("+drift", 2, (9.0, 9.0)),  # no baseline of this seed
        made("+drift", 0, (9.0, 9.0), private=True),  # no private baseline
    ]
    rows = comparisons(runs, epsilon=3.0)
    assert [row["metric"] for row in rows] == list(STAGE_TWO_METRICS)
    alignment = rows[0]
    assert alignment["difference"] == pytest.approx(0.15)  # (0.1 + 0.2 + 0.1 + 0.2) / 4
    assert alignment["low"] == pytest.approx(0.1)
    assert alignment["high"] == pytest.approx(0.2)
    assert alignment["seeds"] == 2
    assert rows[2] == {
        "loss": "+drift",
        "against": BASELINE,
        "private": False,
        "epsilon": None,
        "metric": "drift",
        "seeds": 2,
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
    }


def test_the_interval_is_wide_where_seeds_differ_and_patients_do_not() -> None:
    # Resampling patients alone would say [0.5, 0.5].
    found = paired([np.zeros(50), np.ones(50)])
    assert found == {"difference": 0.5, "low": 0.0, "high": 1.0}


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
    assert paired([np.array([1.0, 2.0])]) == {"difference": 1.5, "low": None, "high": None}


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
    assert (
        len({digest(FULL, loss, private=p) for loss in STAGE_TWO_LOSSES for p in (True, False)})
        == 10
    )
    noisier = replace(FULL, private=replace(FULL.private, noise_multiplier=2.0))
    assert digest(noisier) == digest(FULL)
    assert digest(noisier, private=True) != digest(FULL, private=True)


def test_the_losses_differ_in_one_term_each() -> None:
    terms = [FULL.terms(loss, private=False) for loss in STAGE_TWO_LOSSES]
    assert terms[0] is None
    assert [t.correlation is not None for t in terms[1:] if t] == [True] * 4
    assert [t.grounding is not None for t in terms[1:] if t] == [False, False, True, True]
    assert [t.drift is not None for t in terms[1:] if t] == [False, True, True, True]
    assert terms[3] == terms[4]  # the control differs in its references alone
    assert len(set(DOMAIN_CAPTIONS)) == 40


def test_without_privacy_there_is_no_noise_and_no_clip() -> None:
    plain, private = (FULL.study(BASELINE, private=p).training for p in (False, True))
    assert plain.noise_multiplier == 0
    assert plain.clipping_norm > 1e5
    assert private.noise_multiplier > 0.5
    assert plain.steps * plain.sampling_rate == pytest.approx(private.steps * private.sampling_rate)
