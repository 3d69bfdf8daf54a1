"""One synthetic hospital's tiles: `python -P -m craftsfl.demo.tiles FOLDER NAME`, and its caller.

Each hospital has its own process: they share the cores, and end at once on Ctrl-C.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from craftsfl.processes.environment import environment
from craftsfl.processes.supervisor import Command, Supervisor
from privacy.errors import DeploymentError

MOST_TILES = 2  # per patient; every other patient has a single tile
HELD_OUT_PATIENTS = 40
HELD_OUT_SEED = 1000
# Rare cancers, which the base has never seen or read of; each looks like one thing. By name, so
# that the study's prompts need no laboratory. The base knows other stains than H&E, too, so
# captions name it: without that most of an adapter goes into colours.
RARE_CANCERS = (
    "H&E section, choroid plexus carcinoma.",
    "H&E section, chordoma.",
    "H&E section, liposarcoma.",
)
COMPLETE = ".complete-4"  # the number is the version of how they are drawn
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Synthetic:
    """A procedural hospital; `model.lab.tissue.HOSPITALS` holds its stain and scanner by name."""

    name: str
    patients: int
    seed: int


SYNTHETIC_HOSPITALS = {
    hospital.name: hospital
    for hospital in (
        Synthetic("north", 160, 1),
        Synthetic("harbour", 170, 2),
        Synthetic("hillside", 180, 3),
    )
}


def data_folder(folder: Path, name: str) -> Path:
    """What the hospital trains on."""
    return folder / "data" / name


def held_out_folder(folder: Path, name: str) -> Path:
    """Tiles of other patients of the same hospital, for the public before-and-after comparison."""
    return folder / "data" / f"{name}-held-out"


def are_made(folder: Path, name: str) -> bool:
    """Whether both sets of tiles of a hospital are complete."""
    folders = data_folder(folder, name), held_out_folder(folder, name)
    return all((one / COMPLETE).exists() for one in folders)


def make_tiles(folder: Path, name: str) -> None:
    """Write both sets of tiles of a hospital; a complete set from an earlier demo is reused."""
    hospital = SYNTHETIC_HOSPITALS[name]
    _make(data_folder(folder, name), hospital, hospital.patients, hospital.seed)
    held_out_seed = hospital.seed + HELD_OUT_SEED
    _make(held_out_folder(folder, name), hospital, HELD_OUT_PATIENTS, held_out_seed)


def _make(target: Path, hospital: Synthetic, patients: int, seed: int) -> None:
    if (target / COMPLETE).exists():
        return
    from model.lab.tissue import HOSPITALS
    from model.lab.tissue.domain import RARE_TYPES
    from model.lab.tissue.imagefolder import rare_caption, write_site

    write_site(
        target,
        site=hospital.name,
        patients=patients,
        most_tiles=MOST_TILES,
        appearance=HOSPITALS[hospital.name],
        seed=seed,
        rare=[rare for rare in RARE_TYPES if rare_caption(rare) in RARE_CANCERS],
    )
    (target / COMPLETE).touch()


def tiles_command(folder: Path, name: str, logs: Path) -> Command:
    """The process that makes the tiles of the hospital `name` below `folder`."""
    return Command(
        f"{name} tiles",
        (sys.executable, "-P", "-m", "craftsfl.demo.tiles", str(folder), name),
        environment(Path("/nonexistent"), {"OMP_NUM_THREADS": "1"}),
        logs / f"{name}-tiles.log",
    )


class TileMaker:
    """Makes the tiles of all hospitals in the background, as soon as it exists.

    A hospital whose tiles are there gets no process: at a start, cores are what everybody lacks.
    """

    def __init__(self, folder: Path, logs: Path) -> None:
        self._supervisor = Supervisor()
        self._running = [
            self._supervisor.start(tiles_command(folder, name, logs))
            for name in SYNTHETIC_HOSPITALS
            if not are_made(folder, name)
        ]

    def wait(self, tick: Callable[[], None]) -> None:
        """Wait for all tiles, calling `tick` in between; raises `DeploymentError` on failure."""
        for running in self._running:
            while running.exit_code() is None:
                tick()
                time.sleep(_POLL_SECONDS)
            if running.exit_code() != 0:
                raise DeploymentError(
                    f"{running.name} could not be made:\n{running.log_tail()}",
                    "Are there some 50 MB of free space for the demo's folder?",
                )

    def close(self) -> None:
        """End what is still running."""
        self._supervisor.stop()


if __name__ == "__main__":
    make_tiles(Path(sys.argv[1]), sys.argv[2])
