"""Does pooled noise learn as well as one central data set would?

Three synthetic hospitals train a small adapter of the tiny base together, all patients in every
step. For every seed (other patients, other draws, other noise) each arm is trained by the trainer's
gradients and clip, and measured on patients that it never saw:

- noise-off: the same steps without noise, with constants of its own that were tuned without noise;
- central: noise as large as that which the sites open, added in one place;
- pooled: each site draws its share on the public grid, and the chain of opened sums moves the
  adapter: everything of a pooled study but masks and messages, which change no bit of a sum;
- local: each site adds noise enough for its own patients;
- alone: a single site, the sites in turn;
- calibrated: noise as a data centre would add that everybody trusts.

Then the real tiles of `--tiles`, if they are there: "noise-off, real tiles", and "central, real
tiles" with the noise that as many patients as above would get. They are far fewer, so that this is
no promise to them (their tiles are public): it tells whether real tissue can be learned from at all
through such noise.

Rows: `arm`, `seed`, `epsilon` (of a patient, against the other sites in league with n_c of them),
`gain` (share of the base's held-out denoising loss that the adapter takes away), `alignment`
(of drawn images with their captions). Then `comparison` with `ratio` or `difference`, `low` and
`high`. "recovered" is pooled / noise-off. A killed bench resumes: `--dir` keeps finished runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
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
    RunConstants,
    schedule,
)
from model.base import load_base
from model.cache import locate_base
from model.encoders import load_image_text_encoder

POOLED_SEEDS = 5
SAMPLING_RATES = (1.0, 0.5, 0.1)  # the first is what the others are compared with
_EVALUATOR = "tiny-evaluator"  # never used in training
_ON_REAL = ("noise-off", "central")


def measure(
    setting: PooledSetting,
    arms: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    tiles: Path | None = None,
) -> list[PooledRun]:
    """All runs of these arms and seeds; those already in `folder` are not repeated.

    On synthetic patients, or on those of the real `tiles`.
    """
    name = "runs.jsonl" if tiles is None else "real.jsonl"
    kept = PooledRuns(folder / name, cache(setting.digest))
    wanted = [(arm, seed) for seed in seeds for arm in arms]
    left = [key for key in wanted if key not in kept.finished()]
    if left:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"))
        shown = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
        with shown as progress:
            task = progress.add_task("", total=len(wanted), completed=len(wanted) - len(left))
            for run in _runs(setting, left, folder, tiles, progress, task):
                kept.add(run)
                progress.advance(task)
    done = kept.finished()
    return [done[key] for key in wanted]


def _runs(
    setting: PooledSetting,
    left: Sequence[tuple[str, int]],
    folder: Path,
    tiles: Path | None,
    progress: Progress,
    task: TaskID,
) -> Iterator[PooledRun]:
    evaluator = load_image_text_encoder(_EVALUATOR)
    base = load_base(locate_base("tiny"))
    laboratory = PooledLaboratory(setting, base, evaluator, folder / "tiles", tiles)
    for arm, seed in left:
        progress.update(task, description=f"seed {seed}: {arm}")
        yield laboratory.run(
            arm,
            seed,
            lambda step, steps, name=f"seed {seed}: {arm}": progress.update(  # type: ignore[misc]
                task, description=f"{name}, step {step} of {steps}"
            ),
        )


def on_real_tiles(setting: PooledSetting, seed: int, folder: Path, tiles: Path) -> list[BenchRow]:
    """Rows of the real tiles, and how their arms compare; none where there are no tiles."""
    if not tiles.is_dir():
        print(f"No real tiles: {tiles} is not a folder (--tiles names another).", file=sys.stderr)
        return []
    runs = measure(setting, _ON_REAL, (seed,), folder, tiles)
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
    runs = [(measure(planned, ("central",), seeds, folder), planned) for planned in plans]
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
    setting, count = (QUICK_POOLED, 1) if chosen.quick else (_varied(chosen), chosen.seeds)
    seeds = range(chosen.first_seed, chosen.first_seed + count)
    runs = measure(setting, arms, seeds, chosen.dir)
    rows: list[BenchRow] = [run.row(setting.epsilon) for run in runs]
    rows += pooled_comparisons(runs)
    if chosen.sampling_rates:
        rows += by_sampling_rate(setting, seeds, chosen.dir)
    if not chosen.quick:
        rows += on_real_tiles(setting, chosen.first_seed, chosen.dir, chosen.tiles)
    if chosen.json:
        print_rows("pooled", rows, as_json=True)
        return
    for kind, title in (("arm", "pooled"), ("comparison", "pooled: how arms compare")):
        if own := [row for row in rows if kind in row]:
            print_rows(title, own, as_json=False)


def _options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    options = parser("pooled", __doc__ or "")
    options.add_argument("--quick", action="store_true", help="one seed of next to nothing")
    options.add_argument("--arms", default=",".join(ARMS), help="with commas: %(default)s")
    options.add_argument("--seeds", type=int, default=POOLED_SEEDS)
    options.add_argument("--first-seed", type=int, default=0, help="100 and above are for tuning")
    options.add_argument("--larger", action="store_true", help="3 x 500 patients, in 12 steps")
    options.add_argument("--clipping-norm", type=float, help="another one, for tuning")
    options.add_argument("--rate", type=float, help="another learning rate, for tuning")
    options.add_argument(
        "--sampling-rates", action="store_true", help="also fewer patients in more steps"
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


def _varied(chosen: argparse.Namespace) -> PooledSetting:
    """The bench's setting with the constants that were asked for, in all arms."""

    def other(constants: RunConstants) -> RunConstants:
        rule = constants.rule
        if chosen.rate is not None:
            rule = replace(rule, learning_rate=chosen.rate)
        norm = constants.clipping_norm if chosen.clipping_norm is None else chosen.clipping_norm
        return replace(constants, rule=rule, clipping_norm=norm)

    own = LARGER_POOLED if chosen.larger else POOLED
    return replace(own, private=other(own.private), reference=other(own.reference))


if __name__ == "__main__":
    main()
