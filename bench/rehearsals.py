"""The rehearsals from which the planner knows what a signal-to-noise ratio teaches.

For each adapter, with the patients, draws and noise of several seeds: gradients of drawn patients
at its start (lengths, coherence), the best run without noise, and runs with noise of several sizes,
each with the planner's own learning rate; all measured on patients that no run saw. `--write` puts
the table into a file, by default the one that ships; the planner's curves are fitted to it. A
killed bench goes on: `--dir` keeps what is finished.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from bench.output import BenchRow, parser, print_rows
from bench.pooled_setting import EVERY_ATTENTION, LAST_SELF_ATTENTION
from craftsfl.planning.probe import probe
from craftsfl.planning.recovery import Recovery, fitted
from craftsfl.planning.rehearsal import RehearsedSteps
from craftsfl.planning.rehearsed import RehearsalTable, RehearsedLayout, RehearsedRun
from craftsfl.planning.stage import HELD_OUT, Gains, RehearsalStage, coherence_of, recovered
from craftsfl.planning.tissue import PooledSites, drawn_sites
from model.base import Pipeline, load_base
from model.cache import locate_base
from model.digest import folder_digest
from model.lab.tissue import HOSPITALS
from privacy.study.manifest import Adapter
from strategies.rule import UpdateRule

_COMMAND: Final = "python -m bench.rehearsals --write craftsfl/planning/rehearsals.json"
_SEEDS: Final = (100, 101, 102)  # of tuning: bench.plans judges on others
_EACH: Final = 160  # patients of a hospital
_STEPS: Final = 40
_QUANTILES: Final = 21
_TIMES: Final = 5
_CLIPS: Final = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2)
_CLIP: Final = 5e-4
_RATIOS: Final = "5,2.5,10,1.2,0.6"  # g / rho


@dataclass(frozen=True)
class Tried:
    """An adapter, and what its runs' rates follow: what earlier ones led to."""

    name: str
    targets: tuple[str, ...]
    reference_rate: float
    guess: Recovery


LAYOUTS: Final = (
    Tried("last-self-attention", LAST_SELF_ATTENTION, 0.1, Recovery(2.5, 1.4, 0.1, 65.0, 0.14)),
    Tried("attentions", EVERY_ATTENTION, 0.04, Recovery(1.6, 1.0, 0.1, 271.0, 0.0)),
)


@dataclass(frozen=True)
class Rehearsed:
    """A run of one adapter, one seed and one g / rho."""

    tried: Tried
    layout: RehearsedLayout  # as that seed found it
    seed: int
    ratio: float

    @property
    def name(self) -> str:
        """Of the file that keeps it."""
        return run_name(self.tried, self.seed, self.ratio)


class Rehearsals:
    """All that is to be measured, each piece kept in `folder` once it is finished."""

    def __init__(
        self, folder: Path, each: int, steps: int, ratios: Sequence[float], seeds: Sequence[int]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._each, self._steps = folder, each, steps
        self._ratios, self._seeds = ratios, seeds
        self._pipeline: Pipeline | None = None
        self._sites: tuple[int, PooledSites] | None = None
        self._base: Gains | None = None

    def table(self, layouts: Sequence[Tried], finished: bool = False) -> RehearsalTable:
        """Everything, measured now or before; of the runs those alone that are `finished`."""
        measured = [self._layout(tried, seed) for seed in self._seeds for tried in layouts]
        pace = self._kept("pace", self._seconds)
        runs = [
            self._run(Rehearsed(tried, layout, seed, ratio))
            for (seed, tried), layout in zip(product(self._seeds, layouts), measured, strict=True)
            for ratio in self._ratios
            if not finished or self._path(run_name(tried, seed, ratio)).exists()
        ]
        return RehearsalTable(
            command=_COMMAND,
            base=folder_digest(locate_base("tiny")),
            gradient_seconds=pace["gradient"],
            probe_seconds=pace["probe"],
            layouts=tuple(mean_layout(measured[n :: len(layouts)]) for n in range(len(layouts))),
            runs=tuple(runs),
        )

    def _layout(self, tried: Tried, seed: int) -> RehearsedLayout:
        values = self._start(tried, seed)
        values.pop("gains")
        return RehearsedLayout.model_validate_json(json.dumps(values))

    def _start(self, tried: Tried, seed: int) -> dict[str, Any]:
        return self._kept(f"{tried.name}-{seed}", lambda: self._measured(tried, seed))

    def _measured(self, tried: Tried, seed: int) -> dict[str, object]:
        stage = self._stage(tried, seed)
        gradients = stage.gradients()
        gains = stage.noise_off(tried.reference_rate, _CLIP, self._steps, _quiet)
        lengths = np.linalg.norm(gradients, axis=1)
        return {
            "name": tried.name,
            "targets": tried.targets,
            "rank": 1,
            "parameters": stage.parameters,
            "norms": np.quantile(lengths, np.linspace(0, 1, _QUANTILES)).tolist(),
            "coherence": [[clip, coherence_of(gradients, clip)] for clip in _CLIPS],
            "reference": float(gains.mean()),
            "reference_rate": tried.reference_rate,
            "gains": gains.tolist(),
        }

    def _run(self, run: Rehearsed) -> RehearsedRun:
        values = self._kept(run.name, lambda: self._trained(run))
        return RehearsedRun.model_validate_json(json.dumps(values))

    def _trained(self, run: Rehearsed) -> dict[str, str | int | float]:
        tried, layout, seed, ratio = run.tried, run.layout, run.seed, run.ratio
        stage, size = self._stage(tried, seed), layout.parameters
        coherence = layout.coherence_at(_CLIP)
        rate = tried.guess.rate(ratio, coherence, self._steps, size)
        noise = coherence / ratio * math.sqrt(self._steps / size)
        plan = RehearsedSteps(UpdateRule("adam", rate), _CLIP, self._steps, noise)
        found = stage.private(plan, _quiet)
        share = recovered(found.gains, np.array(self._start(tried, seed)["gains"]))
        return {
            "layout": tried.name,
            "patients": self._each * len(HOSPITALS),
            "steps": self._steps,
            "snr": ratio,
            "rate": rate,
            "seed": seed,
            "recovered": round(share.middle, 3),
            "low": round(share.low, 3),
            "high": round(share.high, 3),
            "best_scale": round(found.best_scale, 3),
        }

    def _seconds(self) -> dict[str, float]:
        """Of a row's gradient and of the probe, on the same core one after the other."""
        stage = self._stage(LAYOUTS[-1], self._seeds[0])
        taken = [probe() for _ in range(_TIMES)], [stage.row_seconds() for _ in range(_TIMES)]
        probed, rows = (float(np.median(each)) for each in taken)
        return {"probe": round(probed, 4), "gradient": round(rows, 5)}

    def _stage(self, tried: Tried, seed: int) -> RehearsalStage:
        if self._pipeline is None:
            self._pipeline = load_base(locate_base("tiny"))
            self._pipeline.unet.to(memory_format=torch.channels_last)
        if self._sites is None or self._sites[0] != seed:
            patients = dict.fromkeys(HOSPITALS, self._each)
            cache = self._folder / "tiles"
            drawn = drawn_sites(self._pipeline, patients, HELD_OUT, seed, cache)
            self._sites, self._base = (seed, drawn), None
        adapter = Adapter(targets=tried.targets, rank=1, alpha=1.0, frozen_a=True)
        stage = RehearsalStage(self._pipeline, adapter, self._sites[1], seed, self._base)
        self._base = stage.base_losses
        return stage

    def _kept(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `measure` finds, or found before a kill."""
        path = self._path(name)
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
        print(name, file=sys.stderr)
        values = measure()
        whole = path.with_suffix(".new")
        whole.write_text(json.dumps(values), encoding="utf-8")
        whole.rename(path)
        return values

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def run_name(tried: Tried, seed: int, ratio: float) -> str:
    """Of the file that keeps a run."""
    return f"{tried.name}-{seed}-{ratio:g}"


def mean_layout(measured: Sequence[RehearsedLayout]) -> RehearsedLayout:
    """One adapter as several seeds found it: the mean of their figures, to three or four digits."""
    norms = np.mean([own.norms for own in measured], axis=0)
    coherence = np.mean([[g for _, g in own.coherence] for own in measured], axis=0).tolist()
    return measured[0].model_copy(
        update={
            "norms": tuple(float(f"{value:.3g}") for value in norms),
            "coherence": tuple(zip(_CLIPS, (round(g, 4) for g in coherence), strict=True)),
            "reference": round(float(np.mean([own.reference for own in measured])), 4),
        }
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m bench.rehearsals [--json] [--write FILE] [--quick] [--dir DIR]`."""
    options = parser("rehearsals", __doc__ or "")
    options.add_argument("--write", type=Path, help="put the table into this file")
    options.add_argument("--ratios", default=_RATIOS, help="g / rho of runs, with commas")
    options.add_argument("--finished", action="store_true", help="measure no further run")
    options.add_argument("--quick", action="store_true", help="next to nothing, to try it")
    options.add_argument(
        "--dir", type=Path, default=Path(tempfile.gettempdir()) / "craftsfl-rehearsals"
    )
    chosen = options.parse_args(arguments)
    torch.set_num_threads(1)
    if chosen.quick:
        found = Rehearsals(chosen.dir, 4, 2, (2.0,), _SEEDS[:1]).table(LAYOUTS[:1])
    else:
        ratios = [float(ratio) for ratio in chosen.ratios.split(",")]
        found = Rehearsals(chosen.dir, _EACH, _STEPS, ratios, _SEEDS).table(
            LAYOUTS, chosen.finished
        )
        if chosen.ratios != _RATIOS:
            command = f"{_COMMAND} --ratios {chosen.ratios}"
            found = found.model_copy(update={"command": command})
    if chosen.write is not None:
        text = json.dumps(found.model_dump(mode="json"), indent=1)
        chosen.write.write_text(text + "\n", encoding="utf-8")
    curves = {layout.name: fitted(found, layout) for layout in found.layouts}
    rows: list[BenchRow] = [
        {**run.model_dump(), "curve": curves[run.layout].share(run.snr).middle}
        for run in found.runs
    ]
    fits: list[BenchRow] = [{"layout": name, **asdict(curve)} for name, curve in curves.items()]
    if chosen.json:
        print_rows("rehearsals", [*rows, *fits], as_json=True)
        return
    print_rows("rehearsals", rows, as_json=False)
    print_rows("rehearsals: the curves", fits, as_json=False)


def _quiet(step: int, steps: int) -> None:
    """Nobody watches."""


if __name__ == "__main__":
    main()
