"""How long a step takes here, and what of the captions the model reads. Nothing is released.

The model is the study's, the rows are made up: no patient's tile goes through it. Captions go
through the tokenizer alone, which counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from client.agent.boundary import silence_libraries
from client.agent.startup import RuledSite
from client.data import SiteData
from client.data.imagefolder import SiteTile
from craftsfl.site.check.data import rows_text
from craftsfl.site.check.finding import Checked, CheckId, Fact, Finding
from model.importing import quick_imports
from privacy.errors import CraftsflError

if TYPE_CHECKING:
    from client.training import LocalTrainer
    from model.base import Pipeline


def check_pace(site: RuledSite, base: Path, tiles: Iterable[SiteTile]) -> Iterator[Checked]:
    """Load the base in the folder `base`, count the captions' tokens, and time a batch."""
    try:
        pipeline, trainer = _loaded(site, base)
        seconds = trainer.seconds_a_batch()
    except CraftsflError as error:
        yield Finding(CheckId.DEVICE, error.message, error.hint)
        return
    yield from cut_captions(pipeline.tokenizer, tiles)
    study = site.rules.study
    yield from judged_pace(
        seconds * trainer.batches_a_step, study.training.steps, study.cohort.reply_slot
    )


def judged_pace(step: float, steps: int, slot: float) -> Iterator[Checked]:
    """What it means that a step takes `step` seconds at the most, of `steps` in a round."""
    whole = step * steps
    words = f"at most {step:.3g} s a step, {whole:.3g} s a round of {steps}; its slot is {slot:g} s"
    if whole > slot:
        yield Finding(CheckId.TOO_SLOW, f"Training takes {words}.")
    else:
        yield Fact("pace", words)


def cut_captions(tokenizer: Pipeline, tiles: Iterable[SiteTile]) -> Iterator[Checked]:
    """The rows whose caption has more tokens than the model reads."""
    rows: dict[str, list[int]] = {}
    for tile in tiles:
        rows.setdefault(tile.caption, []).append(tile.row)
    if not rows:
        return
    most = int(tokenizer.model_max_length)
    found = tokenizer(list(rows), truncation=False, padding=False, verbose=False)["input_ids"]
    cut = [
        number
        for tokens, numbers in zip(found, rows.values(), strict=True)
        if len(tokens) > most
        for number in numbers
    ]
    if cut:
        words = f"{len(cut)} captions are longer than the {most} tokens that the model reads"
        yield Finding(CheckId.CAPTIONS_CUT, f"{words}: {rows_text(cut)}.")
    elif math.isfinite(most):
        yield Fact("longest caption", f"{max(map(len, found))} of {most} tokens")


def _loaded(site: RuledSite, base: Path) -> tuple[Pipeline, LocalTrainer]:
    """The base and the study's trainer on it, without anybody's tiles. Raises `ModelError`."""
    with quick_imports():
        from client.training import LocalTrainer, encode_site, phrases_of, reference_of
        from client.training.precision import precision_for
        from model.base import load_base
        from model.devices import pick_device

        silence_libraries()
        pipeline = load_base(base, pick_device(site.settings.agent.device))
    study, root = site.rules.study, site.settings.study.parent
    nobody = encode_site(
        pipeline,
        SiteData((), 0, ()),
        base_digest=study.base.digest,
        reference=reference_of(study, pipeline, root=root),
        phrases=phrases_of(study, pipeline.device, root=root),
    )
    precision = precision_for(site.settings.agent.precision, pipeline.unet, study)
    return pipeline, LocalTrainer(study, site.rules.name, pipeline, nobody, precision=precision)
