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

Rows: `arm`, `seed`, `epsilon` (of a patient, against the other sites in league with n_c of them),
`gain` (share of the base's held-out denoising loss that the adapter takes away), `alignment`
(of drawn images with their captions). Then `comparison` with `ratio` or `difference`, `low` and
`high`. "recovered" is pooled / noise-off. A killed bench resumes: `--dir` keeps finished runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.output import parser, print_rows
from bench.pooled_compare import PooledRun, PooledRuns, pooled_comparisons
from bench.pooled_run import PooledLaboratory
from bench.pooled_setting import ARMS, FULL, QUICK, PooledSetting
from model.base import load_base
from model.cache import locate_base
from model.encoders import load_image_text_encoder

SEEDS = 5
_EVALUATOR = "tiny-evaluator"  # never used in training


def measure(
    setting: PooledSetting, arms: Sequence[str], seeds: Sequence[int], folder: Path
) -> list[PooledRun]:
    """All runs of these arms and seeds; those already in `folder` are not repeated."""
    kept = PooledRuns(folder / "runs.jsonl", cache(setting.digest))
    wanted = [(arm, seed) for seed in seeds for arm in arms]
    left = [key for key in wanted if key not in kept.finished()]
    if left:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"))
        shown = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
        with shown as progress:
            task = progress.add_task("", total=len(wanted), completed=len(wanted) - len(left))
            for run in _runs(setting, left, folder, progress, task):
                kept.add(run)
                progress.advance(task)
    done = kept.finished()
    return [done[key] for key in wanted]


def _runs(
    setting: PooledSetting,
    left: Sequence[tuple[str, int]],
    folder: Path,
    progress: Progress,
    task: TaskID,
) -> Iterator[PooledRun]:
    evaluator = load_image_text_encoder(_EVALUATOR)
    base = load_base(locate_base("tiny"))
    laboratory = PooledLaboratory(setting, base, evaluator, folder / "tiles")
    for arm, seed in left:
        progress.update(task, description=f"seed {seed}: {arm}")
        yield laboratory.run(
            arm,
            seed,
            lambda step, steps, name=f"seed {seed}: {arm}": progress.update(  # type: ignore[misc]
                task, description=f"{name}, step {step} of {steps}"
            ),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m bench.pooled [--json] [--quick] [--arms A,B] [--seeds N] [--dir DIR]`."""
    options = parser("pooled", __doc__ or "")
    options.add_argument("--quick", action="store_true", help="one seed of next to nothing")
    options.add_argument("--arms", default=",".join(ARMS), help="with commas: %(default)s")
    options.add_argument("--seeds", type=int, default=SEEDS)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--threads", type=int, default=1, help="of torch")
    options.add_argument(
        "--dir", type=Path, default=Path(tempfile.gettempdir()) / "craftsfl-pooled"
    )
    chosen = options.parse_args(arguments)
    arms = chosen.arms.split(",")
    if unknown := sorted(set(arms) - set(ARMS)):
        options.error(f"no such arm: {', '.join(unknown)}; there are {', '.join(ARMS)}")
    torch.set_num_threads(chosen.threads)
    setting, count = (QUICK, 1) if chosen.quick else (FULL, chosen.seeds)
    runs = measure(setting, arms, range(chosen.first_seed, chosen.first_seed + count), chosen.dir)
    rows = [run.row(setting.epsilon) for run in runs]
    against = pooled_comparisons(runs)
    if chosen.json:
        print_rows("pooled", [*rows, *against], as_json=True)
        return
    print_rows("pooled", rows, as_json=False)
    if against:
        print_rows("pooled: how arms compare", against, as_json=False)


if __name__ == "__main__":
    main()
