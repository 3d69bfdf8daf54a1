"""The process that measures adapters on public tiles: `python -P -m craftsfl.rounds.quality`.

`server.quality` starts it and speaks to it: a line of JSON for each adapter on its standard input,
a line for each measured adapter on its standard output, the base (round 0) first. It runs at the
lowest priority and ends as soon as its standard input is closed.
"""

# Why: docs/adr/0037-mlflow-is-never-waited-for.md

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TextIO

from PIL import Image

from craftsfl.rounds.public_tiles import CaptionJudge, PublicTiles
from craftsfl.simulation.trainers import single_thread
from model.adapters import attach, write_vector
from model.arrays import Doubles
from model.base import Pipeline, load_base
from model.devices import pick_device
from model.heap import keep_freed_memory
from model.layout import initial_vector
from model.sampling import sample
from privacy.errors import CraftsflError, DeploymentError
from privacy.files import replacing
from privacy.study.manifest import Study, load_study
from privacy.wire.codec import Vector
from server.checkpoint import load_checkpoint
from server.quality import QualityOrder, picture_of, read_order

_LOWEST: Final = 19  # nice
_Measure = Callable[[Vector], Doubles]


class QualityMeter:
    """Measures adapters against the base, on the same images, noise and seeds."""

    def __init__(self, order: QualityOrder, pipeline: Pipeline, study: Study) -> None:
        self._pictures, self._pipeline, self._study = order.pictures, pipeline, study
        self._layout = attach(pipeline.unet, study.adapter)
        with single_thread():
            tiles = PublicTiles.read(
                pipeline, study, order.folders, cache=order.cache, most=order.tiles
            )
        self._tiles = tiles
        self._measures: dict[str, _Measure] = {"denoising": self._losses}
        self._patients = {"denoising": tiles.patients}
        if order.judge is not None:
            judge = CaptionJudge.load(order.judge, study, tiles, order.images)
            self._measures["alignment"] = lambda vector: judge.gains(pipeline, study, vector)
            self._patients["alignment"] = judge.patients
        self._start = initial_vector(self._layout, study.digest())
        self._base = {name: measure(self._start) for name, measure in self._measures.items()}

    def base(self) -> list[dict[str, object]]:
        """The figures of the base itself."""
        return [self._figure(name, values) for name, values in self._base.items()]

    def figures(self, adapter: Vector) -> list[dict[str, object]]:
        """The figures of `adapter`, each with its change since the base."""
        return [self._figure(name, measure(adapter)) for name, measure in self._measures.items()]

    def draw(self, adapter: Vector | None, round: int) -> None:
        """Draw the study's prompts with `adapter` [P] (None: the base), where they are wanted.

        Each with the study's first seed, so that pictures of different rounds differ by the adapter
        alone. Raises `DeploymentError` where they cannot be written.
        """
        if self._pictures is None:
            return
        wanted = self._study.samples
        write_vector(self._pipeline.unet, self._layout, self._start if adapter is None else adapter)
        drawn = sample(
            self._pipeline,
            wanted.prompts,
            [wanted.seeds[0]] * len(wanted.prompts),
            steps=wanted.steps,
            guidance=wanted.guidance,
        )
        for number, image in enumerate(drawn):
            _save(image, picture_of(self._pictures, round, number))

    def _losses(self, vector: Vector) -> Doubles:
        # At the lowest priority two threads are rarely there at once, and wait for each other:
        # three to ten times the processor time. (Pictures are drawn by threads of their own.)
        with single_thread():
            return self._tiles.losses(self._pipeline, self._study, vector)

    def _figure(self, name: str, values: Doubles) -> dict[str, object]:
        from model.quality.denoising import loss_change

        change = loss_change(self._base[name], values, self._patients[name])
        return {
            "metric": name,
            "value": float(values.mean()),
            "change": change.mean,
            "low": change.low,
            "high": change.high,
            "patients": change.patients,
            "images": len(values),
        }


def measure_all(source: TextIO, target: TextIO) -> None:
    """Answer line by line until `source` ends, which ends the process from wherever it is."""
    order = read_order(source.readline())
    lines: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read, args=(source, lines), daemon=True).start()
    study = load_study(order.study)
    pipeline = load_base(order.base, pick_device(order.device))
    meter = QualityMeter(order, pipeline, study)
    meter.draw(None, 0)
    _say(target, {"round": 0, "figures": meter.base()})
    while True:
        asked = json.loads(lines.get())
        adapter = load_checkpoint(Path(asked["path"]), asked["sha256"]).adapter
        meter.draw(adapter, asked["round"])  # first: whoever sees the figure finds the pictures
        _say(target, {"round": asked["round"], "figures": meter.figures(adapter)})


def _save(image: Image.Image, path: Path) -> None:
    """Write a PNG; whoever reads meanwhile sees no half of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, 0o644) as file:
            image.save(file, format="PNG")
    except OSError as error:
        raise DeploymentError(
            f"{path} cannot be written: {error.strerror}.", "Free some space there."
        ) from None


def _read(source: TextIO, lines: SimpleQueue[str]) -> None:
    for line in source:
        lines.put(line)
    os._exit(0)  # the coordinator has gone, or wants no more: whatever is under way is for nobody


def _say(target: TextIO, answer: dict[str, object]) -> None:
    target.write(json.dumps(answer, allow_nan=False) + "\n")
    target.flush()


def _main() -> None:
    os.nice(_LOWEST)
    keep_freed_memory()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    try:
        measure_all(sys.stdin, answers)
    except CraftsflError as error:
        _say(answers, {"error": error.message, "hint": error.hint})
        sys.exit(1)


if __name__ == "__main__":
    _main()
