"""The rehearsals from which the planner knows what a signal-to-noise ratio teaches.

For each adapter: gradients of drawn patients at its start (lengths, coherence), the best run
without noise, and runs with noise of several sizes, each with the planner's own learning rate; all
measured on patients that no run saw. `--write` puts the table into a file, by default the one that
ships; the planner's curve is fitted to it. A killed bench goes on: `--dir` keeps what is finished.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
_SEED: Final = 100  # of tuning: bench.plans judges on others
_EACH: Final = 160  # patients of a hospital
_STEPS: Final = 40
_QUANTILES: Final = 21
_TIMES: Final = 5
_CLIPS: Final = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2)
_CLIP: Final = 5e-4
_RATIOS: Final = "5,2.5,10,1.2"  # g / rho


@dataclass(frozen=True)
class Tried:
    """An adapter, and where its runs begin: later ones are corrected by the curve's fit."""

    name: str
    targets: tuple[str, ...]
    reference_rate: float
    pace: float


LAYOUTS: Final = (
    Tried("last-self-attention", LAST_SELF_ATTENTION, 0.1, 48.0),
    Tried("attentions", EVERY_ATTENTION, 0.04, 250.0),
)
_HALF, _POWER = 3.0, 2.0  # of the first guess


class Rehearsals:
    """All that is to be measured, each piece kept in `folder` once it is finished."""

    def __init__(self, folder: Path, each: int, steps: int, ratios: Sequence[float]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._each, self._steps, self._ratios = folder, each, steps, ratios
        self._pipeline: Pipeline | None = None
        self._sites: PooledSites | None = None
        self._base: Gains | None = None

    def table(self, layouts: Sequence[Tried], finished: bool = False) -> RehearsalTable:
        """Everything, measured now or before; of the runs those alone that are `finished`."""
        found = [self._layout(tried) for tried in layouts]
        pace = self._kept("pace", self._seconds)
        runs = [
            self._run(tried, layout, ratio)
            for ratio in self._ratios
            for tried, layout in zip(layouts, found, strict=True)
            if not finished or self._path(_run_name(tried, ratio)).exists()
        ]
        return RehearsalTable(
            command=_COMMAND,
            base=folder_digest(locate_base("tiny")),
            gradient_seconds=pace["gradient"],
            probe_seconds=pace["probe"],
            layouts=tuple(found),
            runs=tuple(runs),
        )

    def _layout(self, tried: Tried) -> RehearsedLayout:
        values = self._kept(f"{tried.name}-layout", lambda: self._measured(tried))
        values.pop("gains")
        return RehearsedLayout.model_validate_json(json.dumps(values))

    def _measured(self, tried: Tried) -> dict[str, object]:
        stage = self._stage(tried)
        gradients = stage.gradients()
        gains = stage.noise_off(tried.reference_rate, _CLIP, self._steps, _quiet)
        lengths = np.linalg.norm(gradients, axis=1)
        quantiles = np.quantile(lengths, np.linspace(0, 1, _QUANTILES))
        return {
            "name": tried.name,
            "targets": tried.targets,
            "rank": 1,
            "parameters": stage.parameters,
            "norms": [float(f"{value:.3g}") for value in quantiles],
            "coherence": [[clip, round(coherence_of(gradients, clip), 4)] for clip in _CLIPS],
            "reference": round(float(gains.mean()), 4),
            "reference_rate": tried.reference_rate,
            "gains": gains.tolist(),
        }

    def _run(self, tried: Tried, layout: RehearsedLayout, ratio: float) -> RehearsedRun:
        values = self._kept(_run_name(tried, ratio), lambda: self._trained(tried, layout, ratio))
        return RehearsedRun.model_validate_json(json.dumps(values))

    def _trained(
        self, tried: Tried, layout: RehearsedLayout, ratio: float
    ) -> dict[str, str | int | float]:
        stage, size = self._stage(tried), layout.parameters
        coherence = layout.coherence_at(_CLIP)
        guess = Recovery(_HALF, _POWER, 0.1, {tried.name: tried.pace})
        rate = guess.rate(tried.name, ratio, coherence, self._steps, size)
        noise = coherence / ratio * math.sqrt(self._steps / size)
        plan = RehearsedSteps(UpdateRule("adam", rate), _CLIP, self._steps, noise)
        found = stage.private(plan, _quiet)
        share = recovered(found.gains, self._reference(tried))
        return {
            "layout": tried.name,
            "patients": self._each * len(HOSPITALS),
            "steps": self._steps,
            "snr": ratio,
            "rate": rate,
            "seed": _SEED,
            "recovered": round(share.middle, 3),
            "low": round(share.low, 3),
            "high": round(share.high, 3),
            "best_scale": round(found.best_scale, 3),
        }

    def _reference(self, tried: Tried) -> Gains:
        return np.array(self._kept(f"{tried.name}-layout", lambda: self._measured(tried))["gains"])

    def _seconds(self) -> dict[str, float]:
        """Of a row's gradient and of the probe, on the same core one after the other."""
        stage = self._stage(LAYOUTS[-1])
        taken = [probe() for _ in range(_TIMES)], [stage.row_seconds() for _ in range(_TIMES)]
        probed, rows = (float(np.median(each)) for each in taken)
        return {"probe": round(probed, 4), "gradient": round(rows, 5)}

    def _stage(self, tried: Tried) -> RehearsalStage:
        if self._pipeline is None:
            self._pipeline = load_base(locate_base("tiny"))
            self._pipeline.unet.to(memory_format=torch.channels_last)
        if self._sites is None:
            patients = dict.fromkeys(HOSPITALS, self._each)
            cache = self._folder / "tiles"
            self._sites = drawn_sites(self._pipeline, patients, HELD_OUT, _SEED, cache)
        adapter = Adapter(targets=tried.targets, rank=1, alpha=1.0, frozen_a=True)
        stage = RehearsalStage(self._pipeline, adapter, self._sites, _SEED, self._base)
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


def _run_name(tried: Tried, ratio: float) -> str:
    return f"{tried.name}-{ratio:g}"


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
        found = Rehearsals(chosen.dir, 4, 2, (2.0,)).table(LAYOUTS[:1])
    else:
        ratios = [float(ratio) for ratio in chosen.ratios.split(",")]
        found = Rehearsals(chosen.dir, _EACH, _STEPS, ratios).table(LAYOUTS, chosen.finished)
        if chosen.ratios != _RATIOS:
            command = f"{_COMMAND} --ratios {chosen.ratios}"
            found = found.model_copy(update={"command": command})
    if chosen.write is not None:
        text = json.dumps(found.model_dump(mode="json"), indent=1)
        chosen.write.write_text(text + "\n", encoding="utf-8")
    curve = fitted(found)
    rows: list[BenchRow] = [
        {**run.model_dump(), "curve": curve.share(run.snr).middle} for run in found.runs
    ]
    fit: BenchRow = {
        "half": curve.half,
        "power": curve.power,
        "spread": curve.spread,
        **curve.paces,
    }
    if chosen.json:
        print_rows("rehearsals", [*rows, fit], as_json=True)
        return
    print_rows("rehearsals", rows, as_json=False)
    print_rows("rehearsals: the curve", [fit], as_json=False)


def _quiet(step: int, steps: int) -> None:
    """Nobody watches."""


if __name__ == "__main__":
    main()
