"""Which stage-two loss aligns? On the tiny base with a planted semantic drift.

Patients have rare cancers in stains that stage one never saw, and captions that name no
morphology. For every seed (other patients, other draws) an adapter is trained with each loss,
without privacy and through the noise that the sealed steps of three hospitals would open, by a
trainer's gradients and clip, and measured on patients that it never saw:

- alignment (the primary metric, chosen before the first run): an image is drawn for each held-out
  patient's caption; cosine of image and own caption, less the mean over all other captions of the
  domain, by an encoder that no training uses;
- obedience: share of stage one's captions that still give the morphology that they name, by two
  unlike judges of H&E: what an adapter forgets;
- denoising: the loss of held-out patients' tiles;
- drift: |eps_theta - eps_base|^2 on public stage-one tiles under public stage-one captions;
- frechet: distance of generated and real held-out tiles in the same encoder's features.

Losses: "structure" is the Gram of places; "grounding" has the drift suppressor with it, under
public captions; "effects" is the correlation of effects, "effects, shuffled" the same with every
caption given another one's phrases, "effects, squared error" the same without the correlation.

Rows: a run each, and then a row for each comparison (`difference`; `low` and `high`: bootstrap over
seeds and patients; `t_low` and `t_high`: Student's t over seeds). `--coherence` measures how well
patients' clipped gradients agree under each loss, `--references` prints which phrases the captions
would be compared with, and trains nothing. A killed bench resumes where it was: `--dir` keeps
finished runs. Two processes may share a `--dir` if their seeds differ (`--first-seed`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.output import BenchRow, parser, print_rows
from bench.stage_two_coherence import coherence_rows
from bench.stage_two_compare import Finished, StageTwoRun, comparisons, missing
from bench.stage_two_references import reference_rows
from bench.stage_two_run import Laboratory
from bench.stage_two_setting import (
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
from model.heap import keep_freed_memory
from model.lab.judges import load_judges

_PRIVACIES = {"plain": (False,), "private": (True,), "both": (False, True)}


def measure(
    setting: StageTwoSetting,
    losses: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    privacies: Sequence[bool],
) -> list[StageTwoRun]:
    """All runs of these losses and seeds; those already in `folder` are not repeated.

    One seed after the other, each with all losses: they share what the base says of its patients,
    and whoever stops early has all comparisons of fewer seeds.
    """
    finished = Finished(
        folder / "runs.jsonl", cache(lambda loss, private: setting.digest(loss, private=private))
    )
    wanted = [(loss, p, seed) for seed in seeds for p in privacies for loss in losses]
    left = missing(finished.runs(), wanted)
    if left:
        with _bar() as progress:
            task = progress.add_task("", total=len(wanted), completed=len(wanted) - len(left))
            for run in _runs(laboratory(setting, folder), left, progress, task):
                finished.add(run)
                progress.advance(task)
    done = {(run.loss, run.private, run.seed): run for run in finished.runs()}
    return [done[key] for key in wanted]


def laboratory(setting: StageTwoSetting, folder: Path) -> Laboratory:
    """Base, encoders and judges; encoded tiles are kept in `folder`."""
    base = locate_base("tiny")
    evaluator, judges = load_image_text_encoder(EVALUATOR), load_judges(base / "judges")
    return Laboratory(setting, load_base(base), evaluator, judges, folder / "tiles")


def _runs(
    made: Laboratory,
    left: Sequence[tuple[str, bool, int]],
    progress: Progress,
    task: TaskID,
) -> Iterator[StageTwoRun]:
    for seed, keys in groupby(left, key=lambda key: key[2]):
        progress.update(task, description=f"seed {seed}: patients")
        site = made.site(seed)
        for loss, private, _ in keys:
            name = f"seed {seed}: {loss}{', private' if private else ''}"
            start = time.perf_counter()
            found = made.run(
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
                obedience=tuple(found.obedience),
                denoising=tuple(found.denoising),
                drift=tuple(found.drift),
                frechet=(found.frechet,),
                seconds=time.perf_counter() - start,
            )


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"))
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m bench.stage_two [--json] [--quick] [--seeds N] [--losses A;B] [--dir DIR]`."""
    chosen, losses = _options(arguments)
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    setting, count = (QUICK, 1) if chosen.quick else (FULL, chosen.seeds)
    seeds = range(chosen.first_seed, chosen.first_seed + count)
    if chosen.references:
        print_rows("captions and phrases", reference_rows(setting), as_json=chosen.json)
        return
    if chosen.coherence:
        rows = coherence_rows(laboratory(setting, chosen.dir), losses, seeds)
        print_rows("coherence of gradients", rows, as_json=chosen.json)
        return
    runs = measure(setting, losses, seeds, chosen.dir, _PRIVACIES[chosen.privacy])
    tables: dict[str, list[BenchRow]] = {
        "stage_two": [run.row() for run in runs],
        "stage_two compared": comparisons(runs, setting.private.epsilon or 0.0),
    }
    if chosen.json:
        print_rows("stage_two", [row for rows in tables.values() for row in rows], as_json=True)
        return
    for title, rows in tables.items():
        if rows:
            print_rows(title, rows, as_json=False)


def _options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    options = parser("stage_two", __doc__ or "")
    options.add_argument("--quick", action="store_true", help="one seed of next to nothing")
    options.add_argument("--seeds", type=int, default=len(REPORTED_SEEDS))
    options.add_argument("--first-seed", type=int, default=REPORTED_SEEDS[0])
    options.add_argument(
        "--losses", default=";".join(STAGE_TWO_LOSSES), help="with semicolons: %(default)s"
    )
    options.add_argument("--privacy", choices=_PRIVACIES, default="both")
    options.add_argument("--coherence", action="store_true", help="of gradients; no training")
    options.add_argument("--references", action="store_true", help="captions and their phrases")
    options.add_argument(
        "--threads", type=int, default=1, help="of torch; more than 1 gains little"
    )
    options.add_argument(
        "--dir", type=Path, default=Path(tempfile.gettempdir()) / "craftsfl-stage-two"
    )
    chosen = options.parse_args(arguments)
    losses = [name.strip() for name in chosen.losses.split(";")]
    if unknown := sorted(set(losses) - set(STAGE_TWO_LOSSES)):
        options.error(f"no such loss: {', '.join(unknown)}; {', '.join(STAGE_TWO_LOSSES)}")
    return chosen, losses


if __name__ == "__main__":
    main()
