"""Does pooled noise learn as well as one central data set would?

Three synthetic hospitals train a small adapter of the tiny base together, all patients in every
step. For every seed (other patients, other draws, other noise) each arm is trained by the trainer's
gradients and clip, and measured on patients that it never saw:

- noise-off: the same steps without noise;
- pooled: each site draws its share on the public grid, and the chain of opened sums moves the
  adapter: everything of a pooled study but masks and messages, which change no bit of a sum;
- central: noise as large as that which the sites open, Gaussian, added in one place;
- coupled: the same, but drawn as near as may be to the noise of the pooled run;
- local: each site adds noise enough for its own patients;
- alone: a single site, the sites in turn;
- calibrated: noise as a data centre would add that everybody trusts.

noise-off, local and alone have learning rates of their own, each tuned on seeds that are not shown.

Arms of a seed share their luck, so that a difference between them is not one of luck: they meet the
same draws of the same patients, and local, alone and calibrated get the coupled run's noise times a
constant. The law of each arm's noise is its own all the same. central's noise is independent.

**pooled/central** compares with "coupled". Pooled noise is central noise but for the grid: the
opened mean has the same centre and the same variance, on integers instead of on the line. What is
asked is how much *that* costs, and what one run's luck does is many times as large: with other
noise, the gain of the same arm on the same patients scatters by a fifth. So both runs get the same
luck (`bench.pooled_coupling`): the coupled run's noise is exactly normal and independent from step
to step, as that of "central" is, so its gain has the same distribution, and the ratio of the two
means is the same figure with a far smaller error. "pooled/central, other noise" is the ratio with
independent noise; it needs many seeds to say as much.

Then the real tiles of `--tiles`, if they are there: "noise-off, real tiles", and "central, real
tiles" with the noise that as many patients as above would get. They are far fewer, so that this is
no promise to them (their tiles are public): it tells whether real tissue can be learned from at all
through such noise.

Rows: `arm`, `seed`, `epsilon` (of a patient, against the other sites in league with n_c of them),
`gain` (share of the base's held-out denoising loss that the adapter takes away), `alignment`
(of drawn images with their captions). Then `comparison` with `ratio` or `difference`, `low` and
`high`. "recovered" is pooled / noise-off. Arms of one seed are trained side by side, because what
comes before the adapter is the same for all of them and computed once. A killed bench resumes at
the step where it was: `--dir` keeps finished runs, and the sums of those that are not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.output import BenchRow, parser, print_rows
from bench.pooled_compare import (
    PooledRun,
    PooledRuns,
    difference_of_gains,
    pooled_comparisons,
)
from bench.pooled_run import PooledLaboratory
from bench.pooled_setting import (
    ARMS,
    LARGER_POOLED,
    POOLED,
    QUICK_POOLED,
    PooledSetting,
    schedule,
)
from bench.pooled_together import PooledPlan, SumsKept
from model.base import load_base
from model.cache import locate_base
from model.encoders import load_image_text_encoder

POOLED_SEEDS = 5
SAMPLING_RATES = (1.0, 0.5, 0.1)  # the first is what the others are compared with
_EVALUATOR = "tiny-evaluator"  # never used in training
_ON_REAL = ("noise-off", "central")


def measure(
    plans: Sequence[PooledPlan], folder: Path, tiles: Path | None = None
) -> list[PooledRun]:
    """The runs of `plans`, in their order; those already in `folder` are not repeated.

    On synthetic patients, or on those of the real `tiles`. The settings of the plans differ in
    constants and schedules alone; those of one seed are trained together.
    """
    name = "runs" if tiles is None else "real"
    kept = PooledRuns(folder / f"{name}.jsonl")
    done = kept.finished()
    left = [plan for plan in plans if (plan.digest, plan.seed) not in done]
    if left:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"))
        shown = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
        with shown as progress:
            task = progress.add_task("", total=len(plans), completed=len(plans) - len(left))
            sums = SumsKept(folder / f"{name}-sums.jsonl")
            for plan, run in _runs(left, sums, folder, tiles, progress, task):
                kept.add(plan.digest, run)
                progress.advance(task)
    done = kept.finished()
    return [done[plan.digest, plan.seed] for plan in plans]


def _runs(
    left: Sequence[PooledPlan],
    sums: SumsKept,
    folder: Path,
    tiles: Path | None,
    progress: Progress,
    task: TaskID,
) -> Iterator[tuple[PooledPlan, PooledRun]]:
    evaluator = load_image_text_encoder(_EVALUATOR)
    base = load_base(locate_base("tiny"))
    laboratory = PooledLaboratory(left[0].setting, base, evaluator, folder / "tiles", tiles)
    for seed in dict.fromkeys(plan.seed for plan in left):
        yield from laboratory.run(
            [plan for plan in left if plan.seed == seed],
            sums,
            lambda step, steps, seed=seed: progress.update(  # type: ignore[misc]
                task, description=f"seed {seed}, step {step} of {steps}"
            ),
        )


def _plans(setting: PooledSetting, arms: Sequence[str], seeds: Sequence[int]) -> list[PooledPlan]:
    return [PooledPlan(arm, setting, seed) for seed in seeds for arm in arms]


def by_rate(
    plans: Sequence[PooledPlan], rates: Sequence[float], folder: Path, tiles: Path | None = None
) -> list[BenchRow]:
    """Each of `plans` at each learning rate, for tuning."""
    varied = [
        replace(plan, setting=plan.setting.at_rate(plan.arm, rate))
        for plan in plans
        for rate in rates
    ]
    rows: list[BenchRow] = []
    for plan, run in zip(varied, measure(varied, folder, tiles), strict=True):
        rate = plan.setting.constants(plan.arm).rule.learning_rate
        name = f"{run.arm}, rate {rate:g}"
        own = run.row(plan.setting.epsilon)
        # Public tiles, and far fewer than the noise is for: no promise to anybody.
        real = {"arm": f"{name}, real tiles", "epsilon": None}
        rows.append({**own, "arm": name} if tiles is None else {**own, **real})
    return rows


def on_real_tiles(setting: PooledSetting, seed: int, folder: Path, tiles: Path) -> list[BenchRow]:
    """Rows of the real tiles, and how their arms compare; none where there are no tiles."""
    if not tiles.is_dir():
        print(f"No real tiles: {tiles} is not a folder (--tiles names another).", file=sys.stderr)
        return []
    runs = measure(_plans(setting, _ON_REAL, (seed,)), folder, tiles)
    rows = [{**run.row(setting.epsilon), "epsilon": None} for run in runs]
    for row in rows:
        row["arm"] = f"{row['arm']}, real tiles"
    against = [dict(row) for row in pooled_comparisons(runs)]
    for comparison in against:
        comparison["comparison"] = f"{comparison['comparison']}, real tiles"
    return [*rows, *against]


def by_sampling_rate(setting: PooledSetting, seeds: Sequence[int], folder: Path) -> list[BenchRow]:
    """All patients in few steps, and fewer in more: at equal epsilon, and as often each."""
    plans = [schedule(setting, rate) for rate in SAMPLING_RATES]
    measure([plan for own in plans for plan in _plans(own, ("central",), seeds)], folder)
    runs = [(measure(_plans(own, ("central",), seeds), folder), own) for own in plans]
    rows: list[BenchRow] = [
        {**run.row(planned.epsilon), "arm": f"central, {_schedule_name(planned)}"}
        for own, planned in runs
        for run in own
    ]
    (everybody, first), *others = runs
    for own, planned in others:
        name = f"{_schedule_name(first)} less {_schedule_name(planned)}"
        rows.append(difference_of_gains(name, everybody, own))
    return rows


def _schedule_name(setting: PooledSetting) -> str:
    return f"q = {setting.sampling_rate:g} T = {setting.steps}"


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m bench.pooled [--json] [--quick] [--arms A,B] [--seeds N] [--dir DIR] ...`."""
    chosen, arms = _options(arguments)
    torch.set_num_threads(chosen.threads)
    setting, count = (_sized(chosen), chosen.seeds) if not chosen.quick else (QUICK_POOLED, 1)
    seeds = range(chosen.first_seed, chosen.first_seed + count)
    rows = _rows(chosen, _clipped(setting, chosen.clipping_norm), arms, seeds)
    if chosen.json:
        print_rows("pooled", rows, as_json=True)
        return
    for kind, title in (("arm", "pooled"), ("comparison", "pooled: how arms compare")):
        if own := [row for row in rows if kind in row]:
            print_rows(title, own, as_json=False)


def _rows(
    chosen: argparse.Namespace, setting: PooledSetting, arms: Sequence[str], seeds: Sequence[int]
) -> list[BenchRow]:
    folder = chosen.dir
    plans = _plans(setting, arms, seeds)
    if chosen.rates:
        rates = by_rate(plans, chosen.rates, folder)
        real = [plan for plan in plans if plan.arm in _ON_REAL and chosen.tiles.is_dir()]
        return rates + by_rate(real, chosen.rates, folder, chosen.tiles)
    if chosen.sampling_rates:
        return by_sampling_rate(setting, seeds, folder)
    runs = measure(plans, folder)
    rows: list[BenchRow] = [run.row(setting.epsilon) for run in runs]
    rows += pooled_comparisons(runs)
    if not chosen.quick:
        rows += on_real_tiles(setting, chosen.first_seed, folder, chosen.tiles)
    return rows


def _options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    options = parser("pooled", __doc__ or "")
    options.add_argument("--quick", action="store_true", help="one seed of next to nothing")
    options.add_argument("--arms", default=",".join(ARMS), help="with commas: %(default)s")
    options.add_argument("--seeds", type=int, default=POOLED_SEEDS)
    options.add_argument("--first-seed", type=int, default=0, help="100 and above are for tuning")
    options.add_argument("--larger", action="store_true", help="3 x 500 patients, in 12 steps")
    options.add_argument("--clipping-norm", type=float, help="another one, for tuning")
    options.add_argument(
        "--rates", type=_numbers, help="with commas: only each arm at these, for tuning"
    )
    options.add_argument(
        "--sampling-rates", action="store_true", help="only fewer patients in more steps"
    )
    options.add_argument("--threads", type=int, default=1, help="of torch")
    options.add_argument("--tiles", type=Path, default=Path("../shared/data/sites"))
    options.add_argument(
        "--dir", type=Path, default=Path(tempfile.gettempdir()) / "craftsfl-pooled"
    )
    chosen = options.parse_args(arguments)
    arms = chosen.arms.split(",")
    if unknown := sorted(set(arms) - set(ARMS)):
        options.error(f"no such arm: {', '.join(unknown)}; there are {', '.join(ARMS)}")
    return chosen, arms


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _sized(chosen: argparse.Namespace) -> PooledSetting:
    return LARGER_POOLED if chosen.larger else POOLED


def _clipped(setting: PooledSetting, norm: float | None) -> PooledSetting:
    """`setting` with another clipping norm in all arms."""
    if norm is None:
        return setting
    return replace(
        setting,
        private=replace(setting.private, clipping_norm=norm),
        reference=replace(setting.reference, clipping_norm=norm),
        local=replace(setting.local, clipping_norm=norm),
        alone=replace(setting.alone, clipping_norm=norm),
    )


if __name__ == "__main__":
    main()
