"""Does the stage-two loss align? On the tiny base with a planted semantic drift.

Patients have rare cancers in stains that stage one never saw, and captions that name no
morphology. For every seed (other patients, other draws) an adapter is trained with each loss,
without privacy and with patient-level DP-SGD, by a site's trainer and engine, and measured on
patients that it never saw:

- alignment (the primary metric, chosen before the first run): an image is drawn for each held-out
  patient's caption; cosine of image and own caption, less the mean over all other captions of the
  domain, by an encoder that no training uses;
- denoising: the loss of held-out patients' tiles;
- drift: |eps_theta - eps_base|^2 on public stage-one tiles under public stage-one captions; the
  denoiser's own figure, because the judges of obeyed captions are saturated on the base;
- frechet: distance of generated and real held-out tiles in the same encoder's features.

Rows: a run each, and then a row for each comparison with denoising alone (`difference`, `low`,
`high`; hierarchical bootstrap over seeds and patients). "+drift" has the correlation too,
"+grounding" is the full loss, "shuffled reference" is the full loss with the reference
correlations of other tiles. A killed bench resumes where it was: `--dir` keeps finished runs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.output import parser, print_rows
from bench.stage_two_compare import Finished, StageTwoRun, comparisons, missing
from bench.stage_two_run import Laboratory
from bench.stage_two_setting import (
    BASELINE,
    EVALUATOR,
    FULL,
    QUICK,
    REPORTED_SEEDS,
    STAGE_TWO_LOSSES,
    StageTwoSetting,
)
from model.base import load_base
from model.cache import locate_base
from model.encoders import load_image_text_encoder

_FIRST = (BASELINE, "+grounding")
_PRIVACIES = {"plain": (False,), "private": (True,), "both": (False, True)}


def measure(
    setting: StageTwoSetting, seeds: Sequence[int], folder: Path, privacies: Sequence[bool]
) -> list[StageTwoRun]:
    """All runs of these seeds; those already in `folder` are not repeated.

    The full loss and denoising alone come first, for all seeds: whoever stops early has the
    comparison.
    """
    finished = Finished(
        folder / "runs.jsonl", cache(lambda loss, private: setting.digest(loss, private=private))
    )
    wanted = [(loss, p, seed) for seed in seeds for p in privacies for loss in STAGE_TWO_LOSSES]
    left = sorted(missing(finished.runs(), wanted), key=lambda key: key[0] not in _FIRST)
    if left:
        with _bar() as progress:
            task = progress.add_task("", total=len(wanted), completed=len(wanted) - len(left))
            for run in _runs(setting, left, progress, task):
                finished.add(run)
                progress.advance(task)
    done = {(run.loss, run.private, run.seed): run for run in finished.runs()}
    return [done[key] for key in wanted]


def _runs(
    setting: StageTwoSetting,
    left: Sequence[tuple[str, bool, int]],
    progress: Progress,
    task: TaskID,
) -> Iterator[StageTwoRun]:
    laboratory = Laboratory(
        setting, load_base(locate_base("tiny")), load_image_text_encoder(EVALUATOR)
    )
    for seed, keys in groupby(left, key=lambda key: key[2]):
        progress.update(task, description=f"seed {seed}: patients")
        site = laboratory.site(seed)
        for loss, private, _ in keys:
            name = f"seed {seed}: {loss}{', private' if private else ''}"
            start = time.perf_counter()
            found = laboratory.run(
                site,
                loss,
                seed,
                private=private,
                on_step=lambda step, steps, name=name: progress.update(  # type: ignore[misc]
                    task, description=f"{name}, step {step} of {steps}"
                ),
            )
            yield StageTwoRun(
                loss,
                private,
                seed,
                alignment=tuple(found.alignment),
                denoising=tuple(found.denoising),
                drift=tuple(found.drift),
                frechet=(found.frechet,),
                seconds=time.perf_counter() - start,
            )


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"))
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m bench.stage_two [--json] [--quick] [--seeds N] [--dir DIR]`."""
    options = parser("stage_two", __doc__ or "")
    options.add_argument("--quick", action="store_true", help="one seed of next to nothing")
    options.add_argument("--seeds", type=int, default=len(REPORTED_SEEDS))
    options.add_argument("--first-seed", type=int, default=REPORTED_SEEDS[0])
    options.add_argument("--privacy", choices=_PRIVACIES, default="both")
    options.add_argument(
        "--threads", type=int, default=1, help="of torch; more than 1 gains little"
    )
    options.add_argument(
        "--dir", type=Path, default=Path(tempfile.gettempdir()) / "craftsfl-stage-two"
    )
    chosen = options.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    setting, count = (QUICK, 1) if chosen.quick else (FULL, chosen.seeds)
    seeds = range(chosen.first_seed, chosen.first_seed + count)
    runs = measure(setting, seeds, chosen.dir, _PRIVACIES[chosen.privacy])
    rows = [run.row() for run in runs]
    against = comparisons(runs, setting.epsilon())
    if chosen.json:
        print_rows("stage_two", [*rows, *against], as_json=True)
    else:
        print_rows("stage_two", rows, as_json=False)
        print_rows("stage_two against denoising", against, as_json=False)


if __name__ == "__main__":
    main()
