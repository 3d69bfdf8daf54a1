"""Does the demo teach its pictures what the captions say, run after run?

Each run is the demo's own study on the demo's own synthetic hospitals: real agents, ledgers, sealed
steps and a real coordinator, with keys and noise of its own, but in one process and without slots
(the simulator's "pooled" arm). Its last adapter is measured as a live run's is: on the same
held-out tiles, captions and seeds, by an encoder that trained nothing.

Rows: `run`, `epsilon` (of each hospital's ledger), `loss` (relative change of the held-out
denoising loss), `obedience` (the base's), `change`, `low`, `high` (95 %, over patients), `differs`
(the interval excludes 0). Then one row with `runs` and how many of them `differ`.

--pairs DIR also writes a sheet a run for blinded readers: three real tiles, and on either side
three pictures of the same captions and seeds, one side drawn by the base and the other by the run's
adapter, sides at random; `key.json` says which. A killed bench resumes in its --dir.
"""

from __future__ import annotations

import argparse
import json
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from rich.console import Console

from bench.output import BenchRow, parser, print_rows
from client.data import load_site_data
from client.data.images import read_tile
from craftsfl.demo.figures import PublicFigure, referred_study
from craftsfl.demo.measuring import DemoMeasurement, encoded_hospitals, tiles_made
from craftsfl.demo.tiles import RARE_CANCERS, held_out_folder
from craftsfl.simulation.config import SimulationConfig
from craftsfl.simulation.federated import run_federated
from craftsfl.simulation.folder import ArmFolder, SimulationFolder
from craftsfl.simulation.studies import SimulatedStudy, simulated_study
from craftsfl.simulation.tissue import SimulatedTiles
from craftsfl.simulation.tracked import NewestStatus
from craftsfl.simulation.trainers import SharedModel, single_thread
from model.adapters import attach, write_vector
from model.cache import install_base, shipped_base
from model.layout import initial_vector
from model.sampling import sample
from privacy.study.manifest import Study
from privacy.wire.codec import Vector

_RUNS: Final = 10
_ARM: Final = "pooled"
_GAP: Final = 16  # px between tiles, and around them
_SIDE: Final = 192  # px of a tile on a sheet
_PAPER: Final = (255, 255, 255)
_DONE: Final = "obedience.json"


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What one run changed. `epsilon`: what each hospital's ledger has charged."""

    number: int
    epsilon: float
    loss: PublicFigure
    obedience: PublicFigure

    def row(self) -> BenchRow:
        """As the table has it."""
        obeyed = self.obedience
        return {
            "run": self.number,
            "epsilon": self.epsilon,
            "loss": self.loss.change / self.loss.base,
            "obedience": obeyed.base,
            "change": obeyed.change,
            "low": obeyed.low,
            "high": obeyed.high,
            "differs": obeyed.excludes_zero,
        }


@dataclass(frozen=True)
class DemoRuns:
    """The demo's study in `folder`, as often as is asked; what has finished is not repeated."""

    folder: Path
    study: Study
    measurement: DemoMeasurement
    console: Console

    def run(self, number: int) -> tuple[DemoRun, Vector]:
        """One run's figures, and its adapter [P]."""
        place = SimulationFolder(self.folder / "runs").arm(_ARM, f"run {number}")
        done = place.folder / _DONE
        if not done.is_file():
            place.folder.mkdir(parents=True, exist_ok=True)
            done.write_text(json.dumps(self._trained(number, place)), "utf-8")
        values = json.loads(done.read_text("utf-8"))
        figures = {name: PublicFigure(**values[name]) for name in ("loss", "obedience")}
        return DemoRun(number, values["epsilon"], **figures), np.asarray(
            values["adapter"], np.float32
        )

    def _trained(self, number: int, place: ArmFolder) -> dict[str, object]:
        def tell(what: str, done: int, of: int) -> None:
            if done == 0:
                self.console.print(f"run {number}: {what}", highlight=False)

        config = SimulationConfig(study=self.study, folder=self.folder, arm=_ARM)
        sizes = {site.name: site.declared_patients for site in self.study.sites}
        simulated: SimulatedStudy = simulated_study(config, self.study, self.folder, sizes)
        measured = self.measurement
        sites = encoded_hospitals(measured.pipeline, self.folder, self.study)
        # No agent looks at held-out tiles: those are measured on afterwards.
        tiles = SimulatedTiles(sites, next(iter(sites.values())))
        model = SharedModel(simulated.study, measured.pipeline, None, tell)
        found = run_federated(config, simulated, model, tiles, place, NewestStatus())
        return {
            "epsilon": found.epsilon,
            "loss": asdict(measured.loss(found.adapter)),
            "obedience": asdict(measured.obedience(found.adapter)),
            "adapter": found.adapter.tolist(),
        }

    def sheet(self, number: int, adapter: Vector, trained_left: bool) -> Image.Image:
        """Real tiles between pictures of the base and of the adapter, one caption a line."""
        pipeline, study = self.measurement.pipeline, self.study
        layout = attach(pipeline.unet, study.adapter)
        start = initial_vector(layout, study.digest())
        columns = []
        for vector in (adapter, start) if trained_left else (start, adapter):
            write_vector(pipeline.unet, layout, vector)
            seeds = [1000 * number + line for line in range(len(RARE_CANCERS))]
            steps, guidance = study.samples.steps, study.samples.guidance
            columns.append(
                sample(pipeline, list(RARE_CANCERS), seeds, steps=steps, guidance=guidance)
            )
        write_vector(pipeline.unet, layout, start)
        left, right = columns
        return _beside([left, self._real(number), right])

    def _real(self, number: int) -> list[Image.Image]:
        """A held-out tile of each caption, others in every run."""
        site = self.study.sites[number % len(self.study.sites)].name
        data = load_site_data(held_out_folder(self.folder, site))
        found = []
        for caption in RARE_CANCERS:
            own = [tile.path for tile in data.tiles if tile.caption == caption]
            found.append(Image.fromarray(read_tile(own[number % len(own)], _SIDE)))
        return found


def _beside(columns: list[list[Image.Image]]) -> Image.Image:
    lines = len(columns[0])
    size = [_GAP + count * (_SIDE + _GAP) for count in (len(columns), lines)]
    sheet = Image.new("RGB", (size[0], size[1]), _PAPER)
    for across, column in enumerate(columns):
        for down, picture in enumerate(column):
            place = (_GAP + across * (_SIDE + _GAP), _GAP + down * (_SIDE + _GAP))
            sheet.paste(picture.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), place)
    return sheet


def obedience_rows(runs: DemoRuns, count: int, pairs: Path | None) -> Iterator[BenchRow]:
    """A row a run, then how many differ; sheets and their key below `pairs`."""
    differ, key = 0, {}
    for number in range(1, count + 1):
        found, adapter = runs.run(number)
        differ += found.obedience.excludes_zero
        yield found.row()
        if pairs is not None:
            left = secrets.choice((True, False))
            runs.sheet(number, adapter, left).save(pairs / f"pair-{number:02d}.png")
            key[f"pair-{number:02d}"] = "left" if left else "right"
    if pairs is not None:
        (pairs / "key.json").write_text(json.dumps(key, indent=2) + "\n", "utf-8")
    yield {"runs": count, "differ": differ}


def main() -> None:
    """`python -m bench.obedience [--json] [--runs N] [--pairs DIR] [--dir DIR]`."""
    options = parser("obedience", __doc__ or "")
    options.add_argument("--runs", type=int, default=_RUNS)
    options.add_argument("--pairs", type=Path, help="where to write sheets for blinded readers")
    options.add_argument(
        "--dir", type=Path, default=Path(tempfile.gettempdir()) / "craftsfl-obedience"
    )
    chosen = options.parse_args()
    rows = list(_measured(chosen))
    if chosen.json:
        print_rows("obedience", rows, as_json=True)
        return
    print_rows("obedience", rows[:-1], as_json=False)
    print_rows("obedience: in how many runs", rows[-1:], as_json=False)


def _measured(chosen: argparse.Namespace) -> Iterator[BenchRow]:
    console = Console(stderr=True)
    base = shipped_base()
    if base is None:
        raise SystemExit("The embedded tiny base does not come with this installation.")
    folder = tiles_made(chosen.dir, console.print)
    study = referred_study(install_base(base))
    if chosen.pairs is not None:
        chosen.pairs.mkdir(parents=True, exist_ok=True)
    with single_thread():
        runs = DemoRuns(folder, study, DemoMeasurement.begin(folder, study), console)
        yield from obedience_rows(runs, chosen.runs, chosen.pairs)


if __name__ == "__main__":
    main()
