"""The page of a demo's folder: where it lies, what belongs on it, and who may look at once."""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from craftsfl.demo.figures import PublicFigure
from craftsfl.demo.learning import LOSS, OBEDIENCE, Compared
from craftsfl.demo.page.facts import Change
from craftsfl.demo.page.live import LivePage
from craftsfl.demo.page.wire import WirePictures
from craftsfl.demo.tiles import COMPLETE, held_out_folder
from craftsfl.demo.workspace import Workspace
from craftsfl.rounds.run_display import EventTail
from privacy.errors import DeploymentError
from server.clock import SystemClock
from server.database import read_database
from server.run_name import RunName
from server.settings import ConsortiumSettings
from server.step_store import StepStore

PAGE_FOLDER: Final = "page"
_TABLE: Final = "metadata.csv"
_ARMS: Final = {"noise-off": "no noise", "central": "one data set", "alone": "one alone"}


def live_page(
    workspace: Workspace,
    consortium: ConsortiumSettings,
    began: float,
    *,
    synthetic: bool,
    compared: Compared | None = None,
) -> LivePage:
    """The page of this demo. `began`: monotonic. `synthetic`: whether its patients are made up."""
    study, folder = workspace.study, workspace.folder / PAGE_FOLDER
    folder.mkdir(exist_ok=True)
    hospitals = [hospital.name for hospital in workspace.hospitals]
    tables = [held_out_folder(workspace.folder, name) for name in hospitals] if synthetic else []

    def wire(run: str) -> WirePictures:
        engine = read_database(consortium.database_url())
        if engine is None:
            raise DeploymentError("The coordinator has no round state.", "Start the demo again.")
        key = RunName(study.digest(), int(run)).key
        store = StepStore(consortium.database_url(), engine, key, SystemClock())
        return WirePictures(study, store, folder)

    return LivePage(
        folder=folder,
        events=EventTail(consortium.events_file()),
        pictures=consortium.pictures_folder(),
        prompts=study.samples.prompts,
        real=lambda: real_tiles(study.samples.prompts, tables, folder),
        began=began,
        patients={site.name: site.declared_patients for site in study.sites},
        wire=wire if study.pools_noise else None,
        references={} if compared is None else reference_marks(compared, study.rounds),
        compared="" if compared is None else reference_words(compared),
    )


def reference_marks(compared: Compared, step: int) -> dict[str, dict[str, Change]]:
    """The reference arms as marks behind the last `step`, by metric and name; none without them."""
    found = compared.references
    if found is None:
        return {}
    losses = {_ARMS.get(name, name): arm.loss for name, arm in found.arms.items()}
    obedience = {_ARMS.get(name, name): arm.obedience for name, arm in found.arms.items()}
    return {
        LOSS: {name: _mark(step, own, own.base) for name, own in losses.items()},
        OBEDIENCE: {name: _mark(step, own, 1.0) for name, own in obedience.items()},
    }


def reference_words(compared: Compared) -> str:
    """Where the marks come from, or why there are none."""
    found = compared.references
    if found is None:
        return compared.why_not
    return (
        "The marks on the right are other ways of training the same, with the same patients, steps "
        "and measure: without noise at its best rate, all patients as one data set, and one "
        f"hospital alone. They were measured once, on {found.date}, by {found.command}."
    )


def _mark(step: int, figure: PublicFigure, unit: float) -> Change:
    return Change(step, figure.change / unit, figure.low / unit, figure.high / unit)


def real_tiles(
    prompts: Sequence[str], folders: Sequence[Path], target: Path
) -> tuple[str, ...] | None:
    """For each prompt a copy, in `target`, of the tile whose caption shares most words with it.

    "" where no caption shares any; None while a folder is still being filled.
    """
    if not all((folder / COMPLETE).exists() for folder in folders):
        return None
    captioned = [row for folder in folders for row in _captioned(folder)]
    return tuple(
        _copied(prompt, number, captioned, target) for number, prompt in enumerate(prompts)
    )


def _copied(prompt: str, number: int, captioned: Sequence[tuple[str, Path]], target: Path) -> str:
    words = _words(prompt)
    best = max(captioned, key=lambda row: len(words & _words(row[0])), default=None)
    if best is None or not words & _words(best[0]):
        return ""
    name = f"real-{number + 1}{best[1].suffix}"
    shutil.copyfile(best[1], target / name)
    return name


def _captioned(folder: Path) -> Iterator[tuple[str, Path]]:
    with (folder / _TABLE).open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            yield row["text"], folder / row["file_name"]


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", text.lower()))


def open_in_browser(page: Path) -> bool:
    """Show `page` to whoever started the demo, where there is a screen; whether it was tried."""
    if not sys.stdout.isatty():
        return False
    if sys.platform not in ("darwin", "win32") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    return webbrowser.open(page.as_uri())
