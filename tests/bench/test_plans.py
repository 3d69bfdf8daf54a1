"""The benchmarks of the planner: what is judged, how rows are made of gains, and going on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import plans, rehearsals
from bench.plans import PLANS, JudgedPlan, PlanJudge, judged_rows
from bench.rehearsals import mean_layout
from craftsfl.planning.recovery import RecoveredShare, fitted
from craftsfl.planning.rehearsed import load_rehearsals, shipped_rehearsals
from craftsfl.rounds.planning import PlanOptions, plan_of
from privacy.errors import ConfigError

GAINS = np.random.default_rng(0).normal(0.2, 0.05, 100)


def kept(folder: Path, judged: JudgedPlan, share: float) -> None:
    """What a killed bench left of one plan: the run, and the run without noise."""
    options = PlanOptions(
        sites=judged.sites, patients=judged.each, layout=judged.layout, epsilon=judged.epsilon
    )
    rate = plan_of(options).learning_rate
    (folder / f"0-{judged.layout}.json").write_text(json.dumps(GAINS.tolist()))
    run = folder / f"0-{judged.name}-{rate:g}.json"
    run.write_text(json.dumps((share * GAINS).tolist()))


def test_twenty_plans_are_spread() -> None:
    assert len(PLANS) == 20 == len({judged.name for judged in PLANS})
    for first in (PLANS[:6], PLANS):
        assert len({judged.sites for judged in first}) >= 2
        assert len({judged.layout for judged in first}) == 2
        assert len({judged.epsilon for judged in first}) >= 2
    assert {judged.epsilon for judged in PLANS} == {1.0, 3.0, 8.0}


@pytest.mark.slow
def test_verdicts_of_all_kinds_are_judged() -> None:
    found = set()
    for judged in PLANS:
        options = PlanOptions(
            sites=judged.sites, patients=judged.each, layout=judged.layout, epsilon=judged.epsilon
        )
        found.add(plan_of(options).pooled.lesson)
    assert found == {"nothing", "part", "most"}


@pytest.mark.parametrize(("share", "agrees"), [(0.9, True), (0.0, False)])
def test_a_row_compares_the_plan_with_what_was_trained(
    tmp_path: Path, share: float, agrees: bool
) -> None:
    good = JudgedPlan(12, 250, "last-self-attention", 8.0)
    kept(tmp_path, good, share)
    row, count = judged_rows(PlanJudge(tmp_path, 0, 480, 40), [good])
    assert row["recovered"] == pytest.approx(share)
    assert (row["sites"], row["patients"], row["parameters"]) == (12, 3000, 192)
    assert row["verdict"] == "most" and row["agrees"] is agrees
    assert count == {"plans": 1, "agree": int(agrees), "alike": int(agrees)}


def test_an_adapter_is_the_mean_of_what_seeds_found() -> None:
    one = shipped_rehearsals().layouts[0]
    twice = one.model_copy(
        update={
            "norms": tuple(3 * norm for norm in one.norms),
            "coherence": tuple((clip, 3 * g) for clip, g in one.coherence),
            "reference": 3 * one.reference,
        }
    )
    mean = mean_layout([one, twice])
    assert mean.norms == pytest.approx([2 * norm for norm in one.norms], rel=0.005)
    assert [clip for clip, _ in mean.coherence] == [clip for clip, _ in one.coherence]
    found = [g for _, g in mean.coherence]
    assert found == pytest.approx([2 * g for _, g in one.coherence], abs=1e-4)
    assert mean.reference == pytest.approx(2 * one.reference, abs=1e-4)


def test_a_rehearsal_agrees_where_it_cannot_tell_two_verdicts_apart() -> None:
    table = shipped_rehearsals()
    curve = fitted(table, table.layouts[0])
    assert curve.agrees("most", RecoveredShare(0.45, 0.3, 0.6))
    assert not curve.agrees("most", RecoveredShare(0.45, 0.4, 0.49))
    assert curve.agrees("part", RecoveredShare(0.55, 0.4, 0.7))
    assert not curve.agrees("nothing", RecoveredShare(0.55, -0.5, 1.5))  # two verdicts away


def test_a_table_of_ones_own_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(shipped_rehearsals().model_dump_json())
    assert load_rehearsals(path) == shipped_rehearsals()
    path.write_text("{}")
    with pytest.raises(ConfigError, match="is missing"):
        load_rehearsals(path)
    path.write_text("[")
    with pytest.raises(ConfigError, match="is not JSON"):
        load_rehearsals(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_rehearsals(tmp_path / "none.json")


@pytest.mark.slow
def test_the_quick_rehearsals_make_a_table(tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    rehearsals.main(["--quick", "--dir", str(tmp_path), "--write", str(out)])
    found = load_rehearsals(out)
    assert [layout.parameters for layout in found.layouts] == [192] and len(found.runs) == 1


@pytest.mark.slow
def test_a_plan_is_trained_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--plans", "1", "--steps", "1", "--pool", "12", "--dir", str(tmp_path), "--json"]
    plans.main(asked)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {"sites", "patients", "parameters", "epsilon", "verdict", "recovered", "agrees"} <= {
        *rows[0]
    }
    assert rows[-1]["plans"] == 1
