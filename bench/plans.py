"""Does the planner's verdict agree with rehearsal?

Twenty plans, spread over sites, patients, numbers trained and epsilon. Each is planned as `craftsfl
rounds plan` does, then trained on drawn patients with its noise and its learning rate, and compared
with the best run without noise on all drawn patients. Patients, draws and noise are of a seed that
no rehearsal of the shipped table used. A plan of more patients than `--pool` draws its steps from
so many; its noise is that of its own number.

Rows: `sites`, `patients`, `parameters`, `epsilon`, `verdict`, `planned` (share), `recovered`, `low`
and `high` (95 % over held-out patients), `rehearsed` (what that would be called), `agrees` (called
the same, or the border between the two lies within the rehearsal's own interval). The last row
counts. A killed bench goes on: `--dir` keeps what is finished. `--plans N`: the first N, as spread.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from bench.output import BenchRow, parser, print_rows
from craftsfl.planning.plan import StudyPlan
from craftsfl.planning.recovery import RecoveredShare
from craftsfl.planning.stage import HELD_OUT, Gains, RehearsalStage, recovered, steps_of
from craftsfl.planning.tissue import PooledSites, drawn_sites
from craftsfl.rounds.planning import PlanOptions, plan_of
from model.base import Pipeline, load_base
from model.cache import locate_base
from model.lab.tissue import HOSPITALS

_SMALL, _LARGE = "last-self-attention", "attentions"
_STEPS: Final = 40
_POOL: Final = 480


@dataclass(frozen=True)
class JudgedPlan:
    """A plan to be judged: `each` patients at every site."""

    sites: int
    each: int
    layout: str
    epsilon: float

    @property
    def name(self) -> str:
        """Of the file that keeps it."""
        return f"{self.layout}-{self.sites}-{self.each}-{self.epsilon:g}"


# In an order in which the first few are spread as well.
PLANS: Final = (
    JudgedPlan(3, 160, _SMALL, 8.0),
    JudgedPlan(3, 20, _SMALL, 8.0),
    JudgedPlan(3, 160, _LARGE, 8.0),
    JudgedPlan(12, 80, _SMALL, 3.0),
    JudgedPlan(3, 160, _LARGE, 3.0),
    JudgedPlan(12, 250, _LARGE, 8.0),
    JudgedPlan(3, 80, _SMALL, 8.0),
    JudgedPlan(3, 160, _SMALL, 1.0),
    JudgedPlan(6, 160, _LARGE, 8.0),
    JudgedPlan(6, 160, _SMALL, 8.0),
    JudgedPlan(3, 80, _LARGE, 8.0),
    JudgedPlan(3, 160, _SMALL, 3.0),
    JudgedPlan(12, 250, _LARGE, 3.0),
    JudgedPlan(3, 40, _SMALL, 3.0),
    JudgedPlan(6, 250, _LARGE, 3.0),
    JudgedPlan(12, 250, _SMALL, 1.0),
    JudgedPlan(3, 40, _SMALL, 8.0),
    JudgedPlan(6, 250, _LARGE, 8.0),
    JudgedPlan(20, 100, _SMALL, 3.0),
    JudgedPlan(3, 20, _LARGE, 8.0),
)


class PlanJudge:
    """Trains plans on one seed's patients; `folder` keeps what is finished."""

    def __init__(self, folder: Path, seed: int, pool: int, steps: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._seed, self._pool, self._steps = folder, seed, pool, steps
        self._pipeline: Pipeline | None = None
        self._sites: PooledSites | None = None
        self._base: Gains | None = None

    def row(self, judged: JudgedPlan) -> BenchRow:
        """StudyPlan and rehearsal of one study."""
        options = PlanOptions(
            studies=1,  # as measured
            sites=judged.sites,
            patients=judged.each,
            layout=judged.layout,
            epsilon=judged.epsilon,
            steps=self._steps,
            gradient_seconds=1.0,  # time is not judged
        )
        plan = plan_of(options)
        share = recovered(self._gains(plan, judged.name), self._reference(plan))
        return _row(plan, share)

    def _gains(self, plan: StudyPlan, name: str) -> Gains:
        path = self._folder / f"{self._seed}-{name}-{plan.learning_rate:g}.json"
        if not path.exists():
            print(name, file=sys.stderr)
            self._keep(path, self._stage(plan).private(steps_of(plan), _quiet).gains)
        return np.array(json.loads(path.read_text(encoding="utf-8")))

    def _reference(self, plan: StudyPlan) -> Gains:
        known = plan.known
        path = self._folder / f"{self._seed}-{known.layout.name}.json"
        if not path.exists():
            print(path.stem, file=sys.stderr)
            rate, clip = known.layout.reference_rate, known.clipping_norm
            found = self._stage(plan).noise_off(rate, clip, self._steps, _quiet)
            self._keep(path, found)
        return np.array(json.loads(path.read_text(encoding="utf-8")))

    def _keep(self, path: Path, gains: Gains) -> None:
        whole = path.with_suffix(".new")
        whole.write_text(json.dumps(gains.tolist()), encoding="utf-8")
        whole.rename(path)

    def _stage(self, plan: StudyPlan) -> RehearsalStage:
        if self._pipeline is None:
            self._pipeline = load_base(locate_base("tiny"))
            self._pipeline.unet.to(memory_format=torch.channels_last)
        if self._sites is None:
            patients = dict.fromkeys(HOSPITALS, self._pool // len(HOSPITALS))
            cache = self._folder / "tiles"
            self._sites = drawn_sites(self._pipeline, patients, HELD_OUT, self._seed, cache)
        adapter = plan.asked.adapter
        stage = RehearsalStage(self._pipeline, adapter, self._sites, self._seed, self._base)
        self._base = stage.base_losses
        return stage


def _row(plan: StudyPlan, share: RecoveredShare) -> BenchRow:
    recovery = plan.known.recovery
    return {
        "sites": len(plan.asked.sites),
        "patients": plan.asked.patients,
        "parameters": plan.asked.parameters,
        "epsilon": plan.asked.epsilon,
        "verdict": plan.pooled.lesson,
        "planned": round(plan.pooled.share.middle, 3),
        "recovered": round(share.middle, 3),
        "low": round(share.low, 3),
        "high": round(share.high, 3),
        "rehearsed": recovery.lesson(share.middle),
        "agrees": recovery.agrees(plan.pooled.lesson, share),
    }


def judged_rows(judge: PlanJudge, plans: Sequence[JudgedPlan]) -> Iterator[BenchRow]:
    """A row for each plan, and one that counts."""
    rows = []
    for judged in plans:
        rows.append(judge.row(judged))
        yield rows[-1]
    alike = sum(row["verdict"] == row["rehearsed"] for row in rows)
    yield {"plans": len(rows), "agree": sum(bool(row["agrees"]) for row in rows), "alike": alike}


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m bench.plans [--json] [--plans N] [--seed S] [--pool N] [--dir DIR]`."""
    options = parser("plans", __doc__ or "")
    options.add_argument("--plans", type=int, default=len(PLANS), help="how many of them")
    options.add_argument("--seed", type=int, default=0, help="of patients, draws and noise")
    options.add_argument("--pool", type=int, default=_POOL, help="patients that are drawn")
    options.add_argument("--steps", type=int, default=_STEPS, help="of each plan")
    options.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "craftsfl-plans")
    chosen = options.parse_args(arguments)
    torch.set_num_threads(1)
    judge = PlanJudge(chosen.dir, chosen.seed, chosen.pool, chosen.steps)
    *rows, count = judged_rows(judge, PLANS[: chosen.plans])
    if chosen.json:
        print_rows("plans", [*rows, count], as_json=True)
        return
    print_rows("plans", rows, as_json=False)
    print_rows("plans: verdicts", [count], as_json=False)


def _quiet(step: int, steps: int) -> None:
    """Nobody watches."""


if __name__ == "__main__":
    main()
