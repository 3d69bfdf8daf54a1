"""The demo's hospitals: synthetic ones with patients enough to learn from, or a folder's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from craftsfl.demo.workspace import Member, declare
from privacy.errors import ConfigError, DataError

TILES_PER_PATIENT = 2
HELD_OUT_PATIENTS = 40
HELD_OUT_TILES = 1
COMPLETE = ".complete"
LONGEST_NAME = 32


@dataclass(frozen=True)
class Synthetic:
    """One procedural hospital: `appearance` names its stain and scanner in `model.tissue`."""

    name: str
    appearance: str
    patients: int
    seed: int


SYNTHETIC = (
    Synthetic("north", "north", 500, 1),
    Synthetic("harbour", "harbour", 550, 2),
    Synthetic("hillside", "hillside", 600, 3),
)


def synthetic_members(folder: Path) -> list[Member]:
    """The synthetic hospitals, their data below `folder`/data (made by `TileMaker`)."""
    return [Member(s.name, folder / "data" / s.name, s.patients) for s in SYNTHETIC]


def held_out_folder(folder: Path, name: str) -> Path:
    """Tiles of other patients of the same hospital, for the public before/after comparison."""
    return folder / "data" / f"{name}-held-out"


class TileMaker:
    """Makes the synthetic tiles in two other processes; each hospital's are awaited by name."""

    def __init__(self, folder: Path) -> None:
        self._pool = ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn"))
        self._data = [self._submit(folder / "data" / s.name, s, False) for s in SYNTHETIC]
        self._held_out = [self._submit(held_out_folder(folder, s.name), s, True) for s in SYNTHETIC]

    def _submit(self, target: Path, hospital: Synthetic, held_out: bool) -> Future[None]:
        return self._pool.submit(_make_tiles, target, hospital, held_out)

    def wait(self, tick: Callable[[], None]) -> None:
        """Wait for every hospital's tiles, calling `tick` meanwhile."""
        for future in self._data:
            _wait(future, tick)

    def held_out(self) -> None:
        """Wait for the held-out tiles."""
        for future in self._held_out:
            future.result()

    def close(self) -> None:
        """Drop what is not begun and end the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _wait(future: Future[None], tick: Callable[[], None]) -> None:
    while True:
        try:
            return future.result(timeout=0.25)
        except TimeoutError:
            tick()


def _make_tiles(target: Path, hospital: Synthetic, held_out: bool) -> None:
    """Write one imagefolder; a complete one of an earlier demo is used again (same seeds)."""
    from model.tissue.imagefolder import write_site

    from model.tissue import HOSPITALS

    if (target / COMPLETE).exists():
        return
    write_site(
        target,
        site=hospital.name,
        patients=HELD_OUT_PATIENTS if held_out else hospital.patients,
        tiles_per_patient=HELD_OUT_TILES if held_out else TILES_PER_PATIENT,
        appearance=HOSPITALS[hospital.appearance],
        seed=hospital.seed + (1000 if held_out else 0),
    )
    (target / COMPLETE).touch()


def real_members(folder: Path) -> list[Member]:
    """One hospital for each sub-folder of `folder`; cohort sizes are counted and rounded up.

    Raises `ConfigError` for a folder without hospitals, `DataError` for an unusable hospital.
    """
    from client.data import load_site_data

    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder.", "Give a folder with one per hospital.")
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    if len(folders) < 2:
        raise ConfigError(
            f"{folder} has {len(folders)} sub-folders; a federation needs two hospitals or more.",
            "Make one sub-folder per hospital, each with images and a metadata.csv.",
        )
    members = []
    for path in folders:
        data = load_site_data(path)
        if not data.patients:
            raise DataError(f"{path} holds no usable tile.", "See the reasons in its metadata.")
        members.append(Member(_site_name(path), path, declare(data.patients)))
    names = [member.name for member in members]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"Two sub-folders of {folder} would both be called {twice[0]}.",
            "Rename one: site names are lower-case letters, digits and hyphens.",
        )
    return members


def _site_name(folder: Path) -> str:
    text = "".join(c if c.isascii() and c.isalnum() else "-" for c in folder.name.lower())
    name = text.strip("-")[:LONGEST_NAME].strip("-")
    if not name:
        raise ConfigError(f"{folder} has no usable name.", "Name it in letters and digits.")
    return name
