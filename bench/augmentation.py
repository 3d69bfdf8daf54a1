"""What are drawn pictures good for? Real tiles alone against real and drawn ones.

Planted patients: nine common cancers of which the base has read, and three rare ones that it never
saw, in three hospitals' own H&E. A private adapter (epsilon 8, noise as three hospitals' sealed
steps would open it) learns the rare ones from patients of the consortium. Somebody else, with other
patients and few labels, trains on

- real: the labelled tiles alone;
- private: those, and pictures drawn with the private adapter;
- base: those, and pictures drawn by the base alone;
- synthetic: only pictures drawn with the private adapter.

All drawn pictures pass the same judge (`tiny-evaluator`), which trains and scores nothing. Tasks:
the type of cancer and the morphology (a small network from pixels), retrieval of captions and
pictures (a dual encoder), pretraining without labels (SimCLR, linear probe), questions (frozen
trunk, small heads). No learner has seen anything before, so none knows the rare types already.
`share` of each content's patients are labelled, one at least: at 0.05 it is one of each.

Rows: `task`, `share`, `arm`, `seed`, `score` (mean over contents of the share that came out
right, on patients of whom nothing was seen); then `task`, `share`, `comparison`, `difference`,
`low` and `high` (95 %, over seeds and patients). With --amounts, arms such as "private, 4" have so
many drawn pictures of each content. A killed bench resumes: --dir keeps runs and pictures. With
--tiles the rows are of real tiles: see bench.augmentation_real.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from bench.augmentation_patients import (
    ContentTiles,
    labelled_patients,
    labelled_share,
    unseen_patients,
)
from bench.augmentation_pictures import Studio
from bench.augmentation_real import real_rows, tiles_of_folders
from bench.augmentation_setting import (
    AUGMENTED,
    AUGMENTED_ARMS,
    AUGMENTED_DIFFERENCES,
    BASE_ARM,
    LABELLED_SHARES,
    PRIVATE_ARM,
    QUICK_AUGMENTED,
    REAL_ARM,
    AugmentedSetting,
)
from bench.augmentation_tasks import AUGMENTED_TASKS, Solved, material, with_rare
from bench.output import BenchRow, parser, print_rows
from model.base import load_base
from model.cache import locate_base
from model.digest import folder_digest
from model.encoders import load_image_text_encoder
from model.lab.augmentation.outcomes import Outcome, difference

AUGMENTED_SEEDS = 5
_JUDGE = "tiny-evaluator"


@dataclass(frozen=True)
class AugmentedRun:
    """One task, share, arm and seed; amount: drawn pictures of each content, None for all."""

    task: str
    share: float
    arm: str
    seed: int
    amount: int | None = None

    @property
    def named(self) -> str:
        """The arm as rows call it."""
        return self.arm if self.amount is None else f"{self.arm}, {self.amount}"


class SolvedRuns:
    """Finished runs on disk, one line of JSON each; a line cut short by a kill is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def finished(self, digest: str) -> dict[AugmentedRun, Solved]:
        """Those of a setting."""
        found = {}
        lines = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
        for line in lines:
            try:
                values = json.loads(line)
                if values["setting"] == digest:
                    found[AugmentedRun(*values["run"])] = _solved(values["solved"])
            except (ValueError, KeyError, TypeError):
                continue  # cut short by a kill
        return found

    def add(self, digest: str, run: AugmentedRun, solved: Solved) -> None:
        """Append one, on its own line even after one that was cut short."""
        parts = [run.task, run.share, run.arm, run.seed, run.amount]
        values = {"setting": digest, "run": parts, "solved": _plain(solved)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(values))


def _plain(solved: Solved) -> dict[str, list[list[float]]]:
    return {
        name: [found.right.tolist(), found.classes.tolist(), found.patients.tolist()]
        for name, found in solved.items()
    }


def _solved(values: dict[str, list[list[float]]]) -> Solved:
    return {
        name: Outcome(np.array(right), np.array(classes, np.int64), np.array(patients, np.int64))
        for name, (right, classes, patients) in values.items()
    }


def runs_of(chosen: argparse.Namespace) -> list[AugmentedRun]:
    """What is asked for, seed after seed, so that a killed bench has whole seeds."""
    runs = []
    for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
        for name in chosen.only:
            task = AUGMENTED_TASKS[name]
            if task.seeds is not None and seed - chosen.first_seed >= task.seeds:
                continue
            shares = [share for share in task.shares if share in chosen.shares]
            for share in shares:
                runs += [AugmentedRun(name, share, arm, seed) for arm in AUGMENTED_ARMS]
                runs += [
                    AugmentedRun(name, share, PRIVATE_ARM, seed, amount)
                    for amount in chosen.amounts
                ]
    return runs


def measure_augmentation(
    runs: Sequence[AugmentedRun],
    setting: AugmentedSetting,
    folder: Path,
    say: Callable[[str], None],
) -> dict[AugmentedRun, Solved]:
    """All of `runs`; those already in `folder` are not repeated."""
    base = locate_base("tiny")
    kept, digest = SolvedRuns(folder / "runs.jsonl"), setting.digest(folder_digest(base))
    done = kept.finished(digest)
    left = [run for run in runs if run not in done]
    if left:
        studio = Studio(
            load_base(base), folder_digest(base), load_image_text_encoder(_JUDGE), folder
        )
        # Only the layout in memory changes: convolutions take less time on a CPU.
        studio.pipeline.unet.to(memory_format=torch.channels_last)
        for number, (run, solved) in enumerate(_solve_all(left, setting, studio, say), 1):
            kept.add(digest, run, solved)
            done[run] = solved
            say(f"{number} of {len(left)}: {run.task}, {run.share}, {run.named}, seed {run.seed}")
    return {run: done[run] for run in runs}


def _solve_all(
    runs: Sequence[AugmentedRun],
    setting: AugmentedSetting,
    studio: Studio,
    say: Callable[[str], None],
) -> Iterator[tuple[AugmentedRun, Solved]]:
    for seed in dict.fromkeys(run.seed for run in runs):
        labelled, tested = labelled_patients(setting, seed), unseen_patients(setting, seed)
        for run in (run for run in runs if run.seed == seed):
            task, synthetic = AUGMENTED_TASKS[run.task], None
            if run.arm != REAL_ARM:
                model = BASE_ARM if run.arm == BASE_ARM else PRIVATE_ARM
                synthetic = _first(studio.pictures(setting, model, seed, say), run.amount)
            shared = labelled_share(labelled, run.share, seed)
            given = material(setting, run.arm, shared, synthetic, tested, seed)
            yield run, task.solve(given.of(task.contents))


def _first(tiles: ContentTiles, amount: int | None) -> ContentTiles:
    """At most `amount` of each content."""
    if amount is None:
        return tiles
    rows = [np.flatnonzero(tiles.contents == content)[:amount] for content in set(tiles.contents)]
    return tiles.chosen(np.sort(np.concatenate(rows)))


def augmentation_rows(found: dict[AugmentedRun, Solved]) -> list[BenchRow]:
    """Rows of both kinds."""
    rows: list[BenchRow] = []
    table: dict[tuple[str, float, str], dict[int, tuple[Outcome, frozenset[int]]]] = {}
    for run, solved in found.items():
        for name, (outcome, of) in with_rare(AUGMENTED_TASKS[run.task], solved).items():
            row: dict[str, str | int | float | None] = {
                "task": name,
                "share": run.share,
                "arm": run.named,
                "seed": run.seed,
            }
            rows.append({**row, "score": outcome.score(of)})
            table.setdefault((name, run.share, run.named), {})[run.seed] = (outcome, of)
    return rows + list(_comparisons(table))


def _comparisons(
    table: dict[tuple[str, float, str], dict[int, tuple[Outcome, frozenset[int]]]],
) -> Iterator[BenchRow]:
    for name, share in dict.fromkeys((name, share) for name, share, _ in table):
        arms = [arm for task, own, arm in table if (task, own) == (name, share)]
        pairs = list(AUGMENTED_DIFFERENCES)
        pairs += [(arm, REAL_ARM) for arm in arms if arm not in AUGMENTED_ARMS]
        for first, second in pairs:
            one, other = (table.get((name, share, arm), {}) for arm in (first, second))
            seeds = sorted(one.keys() & other.keys())
            if seeds:
                of = one[seeds[0]][1]
                sides = ([side[seed][0] for seed in seeds] for side in (one, other))
                value, low, high = difference(*sides, of=of)
                pair = f"{first}-{second}"
                row: dict[str, str | float] = {"task": name, "share": share, "comparison": pair}
                yield {**row, "difference": value, "low": low, "high": high}


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m bench.augmentation [--json] [--quick] [--only TASK,…] [--seeds N] [--dir DIR]`."""
    chosen = _options(arguments)
    torch.set_num_threads(chosen.threads)
    console = Console(stderr=True)
    setting = QUICK_AUGMENTED if chosen.quick else AUGMENTED
    if chosen.tiles:
        seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
        own = tiles_of_folders(chosen.tiles, "diagnosis")
        _print(list(real_rows(own, setting.pictures, seeds)), as_json=chosen.json)
        return
    found = measure_augmentation(runs_of(chosen), setting, chosen.dir, console.print)
    rows = augmentation_rows(found)
    _print(rows, as_json=chosen.json)


def _print(rows: list[BenchRow], *, as_json: bool) -> None:
    if as_json:
        print_rows("augmentation", rows, as_json=True)
        return
    titles = {"judge": ": the judge", "arm": "", "comparison": ": how arms compare"}
    for kind, title in titles.items():
        if own := [row for row in rows if kind in row]:
            print_rows(f"augmentation{title}", own, as_json=False)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    options = parser("augmentation", __doc__ or "")
    options.add_argument("--quick", action="store_true", help="one seed of next to nothing")
    options.add_argument(
        "--only", type=_tasks, default=list(AUGMENTED_TASKS), help="tasks, with commas"
    )
    options.add_argument(
        "--shares", type=_numbers, default=list(LABELLED_SHARES), help="with commas: 0.05,0.25,1"
    )
    options.add_argument(
        "--amounts", type=_whole, default=[], help="also with so many drawn, with commas"
    )
    options.add_argument("--seeds", type=int, default=AUGMENTED_SEEDS)
    options.add_argument("--first-seed", type=int, default=0, help="100 and above are for tuning")
    options.add_argument("--tiles", type=Path, nargs="+", default=[], help="real ones: folders")
    options.add_argument("--threads", type=int, default=1, help="of torch")
    options.add_argument(
        "--dir", type=Path, default=Path(tempfile.gettempdir()) / "craftsfl-augmentation"
    )
    chosen = options.parse_args(arguments)
    if chosen.quick:
        chosen.seeds = 1
    return chosen


def _tasks(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(AUGMENTED_TASKS)):
        known = ", ".join(AUGMENTED_TASKS)
        raise argparse.ArgumentTypeError(f"no such task: {', '.join(unknown)}; known: {known}")
    return names


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _whole(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
