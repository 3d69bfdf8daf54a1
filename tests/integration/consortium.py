"""Running the demo as a user does, in its own process, and searching what it left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil

from tests.traps import set_traps, sprung

ROOT = Path(__file__).parents[2]
# As the command line, but for the shortest reply slot: training takes
# seconds alone, and several times that while the small tests run at the same time.
COMMAND = """
from craftsfl.cli import main
from craftsfl.demo import pace
pace.SHORTEST = 30.0
main()
"""
REAL_SITES = ROOT.parent / "shared" / "data" / "sites"


def write_hospitals(folder: Path, *, patients: int = 12, more: Sequence[str] = ()) -> Path:
    """Write three small hospitals of synthetic tissue, and `more`, as a user's own data."""
    from model.lab.tissue import HOSPITALS
    from model.lab.tissue.imagefolder import write_site

    looks = list(HOSPITALS.values())
    for number, name in enumerate([*HOSPITALS, *more]):
        write_site(
            folder / name,
            site=name,
            patients=patients,
            most_tiles=2,
            appearance=looks[number % len(looks)],
            seed=number,
        )
    return folder


class Demo:
    """A running `craftsfl demo`."""

    def __init__(self, folder: Path, data: Path, *, rounds: int) -> None:
        self.folder = folder
        self.output = folder.parent / f"{folder.name}.out"
        self.working_folder = set_traps(folder.parent / f"{folder.name}.traps")
        arguments = ["demo", "--dir", str(folder), "--data", str(data), "--rounds", str(rounds)]
        with self.output.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", COMMAND, *arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=self.working_folder,
                start_new_session=True,
                env={**os.environ, "COLUMNS": "200"},
            )

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.output.read_text("utf-8", errors="replace")

    def wait_for(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until `ready`, or fail with the output."""
        deadline = time.monotonic() + seconds
        while not ready():
            assert self.process.poll() is None, f"it ended early:\n{self.text}"
            assert time.monotonic() < deadline, f"not within {seconds} s:\n{self.text}"
            time.sleep(0.2)

    def family(self) -> list[psutil.Process]:
        """Every living process that belongs to this demo, whatever its parent."""
        marks = {str(self.folder)}
        found = []
        for process in psutil.process_iter():
            if process.pid in (os.getpid(), self.process.pid):
                continue
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                with contextlib.suppress(psutil.AccessDenied):  # an agent shows it to nobody
                    words.append(process.environ().get("FLWR_HOME", ""))
                if process.status() != psutil.STATUS_ZOMBIE and any(
                    mark in word for mark in marks for word in words
                ):
                    found.append(process)
        return found

    def port(self) -> int:
        """The SuperLink's port."""
        text = (self.folder / "coordinator" / "consortium.toml").read_text()
        match = re.search(r"^port = (\d+)$", text, re.MULTILINE)
        assert match
        return int(match[1])


@contextlib.contextmanager
def demo(folder: Path, data: Path, *, rounds: int) -> Iterator[Demo]:
    """Start a demo; at the end kill what is left, so that a failed test does not affect others."""
    running = Demo(folder, data, rounds=rounds)
    try:
        yield running
        assert sprung(running.working_folder) == []
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(30)
        for process in running.family():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if running.process.poll() is None:
            running.process.kill()


def is_picture(path: Path) -> bool:
    """Whether `path` is an image with some contrast."""
    from PIL import Image

    with Image.open(path) as image:
        return bool(np.asarray(image.convert("L")).std() > 5)
