"""Does a base obey its captions? `python -m model.lab.pretraining.evaluate FOLDER`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.base import load_base
from model.devices import pick_device
from model.lab.judges import Score, accuracy, caption_score, load_judges
from model.lab.pretraining.corpus import draw_caption
from model.lab.tissue.tile import MORPHOLOGIES
from model.sampling import DEFAULT_GUIDANCE, sample


@dataclass(frozen=True)
class Evaluation:
    """images uint8 [n, 64, 64, 3] in order of MORPHOLOGIES; scores and hit rates per judge."""

    images: NDArray[np.uint8]
    scores: dict[str, list[Score]]
    hits: dict[str, dict[str, float]]


def evaluate_captions(
    folder: Path, *, per_morphology: int = 16, guidance: float = DEFAULT_GUIDANCE, seed: int = 7
) -> Evaluation:
    """Sample captions of every morphology; score them against a shuffled one, by both judges.

    The shuffled caption of an image is that of another morphology, drawn evenly.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(MORPHOLOGIES)), per_morphology)
    others = (labels + rng.integers(1, len(MORPHOLOGIES), len(labels))) % len(MORPHOLOGIES)
    prompts = [draw_caption(int(label), rng) for label in labels]
    seeds = [seed * 100_000 + index for index in range(len(labels))]
    drawn = sample(load_base(folder, pick_device()), prompts, seeds, guidance=guidance)
    images = np.stack([np.asarray(image.convert("RGB")) for image in drawn])
    own, shuffled = ([MORPHOLOGIES[i] for i in which] for which in (labels, others))
    judges = load_judges(folder / "judges")
    return Evaluation(
        images,
        {judge.name: caption_score(judge, images, own, shuffled) for judge in judges},
        {judge.name: accuracy(judge, images, labels) for judge in judges},
    )


def morphology_sheet(images: NDArray[np.uint8], per_morphology: int, scale: int = 2) -> Image.Image:
    """All images, a row (of two halves) per morphology."""
    rows = images.reshape(len(MORPHOLOGIES), per_morphology, 64, 64, 3)
    padded = np.pad(rows, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    sheet = padded.transpose(0, 2, 1, 3, 4).reshape(len(MORPHOLOGIES) * 66, per_morphology * 66, 3)
    return Image.fromarray(sheet).resize((sheet.shape[1] * scale, sheet.shape[0] * scale))


def score_table(evaluation: Evaluation) -> str:
    """A table of scores in nats with 95 % intervals, and of hit rates."""
    lines = [f"{'morphology':<15}{'judge':<6}{'own - shuffled':>16}{'95 % interval':>18}{'hit':>7}"]
    for name, scores in evaluation.scores.items():
        for s in scores:
            interval = f"{s.low:+.2f} .. {s.high:+.2f}"
            hit = evaluation.hits[name][s.morphology]
            mark = "" if s.positive else "  includes 0"
            lines.append(
                f"{s.morphology:<15}{name:<6}{s.mean:>+16.2f}{interval:>18}{hit:>7.2f}{mark}"
            )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the report; exit status 0 if every interval lies above 0, else 1."""
    parser = argparse.ArgumentParser(prog="python -m model.lab.pretraining.evaluate")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-morphology", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=DEFAULT_GUIDANCE)
    parser.add_argument("--sheet", type=Path, help="write the samples to this picture")
    parser.add_argument("--json", type=Path, help="write the hit rates and scores to this file")
    options = parser.parse_args(arguments)
    done = evaluate_captions(
        options.folder, per_morphology=options.per_morphology, guidance=options.guidance
    )
    sys.stdout.write(score_table(done) + "\n")
    if options.sheet is not None:
        morphology_sheet(done.images, options.per_morphology).save(options.sheet)
    if options.json is not None:
        scores = {name: [vars(s) for s in table] for name, table in done.scores.items()}
        options.json.write_text(json.dumps({"scores": scores, "hits": done.hits}, indent=1) + "\n")
    return 0 if all(s.positive for table in done.scores.values() for s in table) else 1


if __name__ == "__main__":
    sys.exit(main())
