"""All of stage one in order: data, base, latents, training, the new base."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

# Read when tokenizers is first imported: there are many reading processes already.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# ruff: isort: split
from model.base import load_base
from model.digest import folder_digest
from model.lab.stage_one.card import Facts, stage_one_card
from model.lab.stage_one.checkpoints import newest_checkpoint, require_space
from model.lab.stage_one.denoiser import Denoiser
from model.lab.stage_one.devices import make_accelerator
from model.lab.stage_one.examples import Examples, PictureContent, Pixels, example_batches
from model.lab.stage_one.export import export_base
from model.lab.stage_one.job import StageOneRun, check_stage_one_base, identity
from model.lab.stage_one.latents import Cache, Cached, LatentSpace
from model.lab.stage_one.order import PictureOrder
from model.lab.stage_one.quarantine import Quarantine, merge, survey
from model.lab.stage_one.settings import StageOneSettings
from model.lab.stage_one.source import open_sources
from model.lab.stage_one.trainer import BatchesFrom, Frozen, StageOneTrainer, TrainingReport
from model.lab.stage_one.workspace import claim
from model.losses import NoiseSchedule

# on_cached(pictures done, pictures); on_report(report): both only in the main process
OnCached: TypeAlias = Callable[[int, int], None]
OnReport: TypeAlias = Callable[[TrainingReport], None]


@dataclass(frozen=True, slots=True)
class Show:
    """What to call as a run proceeds; only in the main process."""

    cached: OnCached = lambda done, total: None
    trained: OnReport = lambda report: None


@dataclass(frozen=True, slots=True)
class Data:
    """Folders and shards, and whether their owner says that they are public."""

    places: Sequence[str]
    public: bool = False


def train_base(
    base: Path, data: Data, out: Path, settings: StageOneSettings, show: Show | None = None
) -> str | None:
    """Train the pipeline in `base` on public `data`; write the new one to `out`, return its digest.

    A killed run continues from its newest checkpoint when called again with the same arguments; on
    one CPU the result is then the same, bit for bit. Every process of a launch calls this;
    the digest comes back in the main one, None in the others. Raises `CraftsflError`.
    """
    show = show or Show()
    accelerator, layout = make_accelerator(settings)
    source = open_sources(data.places, settings.caption, public=data.public)
    pipeline = load_base(base)
    run = StageOneRun(out, settings, source, pipeline, accelerator, layout)
    check_stage_one_base(run)
    survey(source, run.size)
    known = identity(run, base)
    if accelerator.is_main_process:
        claim(run.workspace, known)
    accelerator.wait_for_everyone()
    quarantine = Quarantine(run.workspace, accelerator.process_index, source, settings.broken_limit)
    _train(run, quarantine, show)
    digest = _finish(run, known) if accelerator.is_main_process else None
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return digest


def _train(run: StageOneRun, quarantine: Quarantine, show: Show) -> None:
    """Train UNet (and text encoder), and leave the averaged weights in the pipeline."""
    settings, pipeline = run.settings, run.pipeline
    device = run.accelerator.device
    trained = [pipeline.unet, *([pipeline.text_encoder] if settings.text_encoder else [])]
    for part in trained:
        part.requires_grad_(True)
    if run.accelerator.is_main_process and newest_checkpoint(run.workspace) is None:
        require_space(run.workspace, (p for part in trained for p in part.parameters()))
    if settings.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
        if settings.text_encoder:
            pipeline.text_encoder.gradient_checkpointing_enable()
    space = LatentSpace(pipeline.vae.to(device))
    text_encoder = pipeline.text_encoder.to(device)
    content = _content(run, space, quarantine, show)
    schedule = NoiseSchedule.of(pipeline.scheduler, device)
    denoiser = Denoiser(pipeline.unet, text_encoder if settings.text_encoder else None, schedule)
    frozen = Frozen(
        space, settings.latents == "cached", None if settings.text_encoder else text_encoder
    )
    trainer = StageOneTrainer(denoiser, frozen, schedule, settings, run.accelerator)
    batches_from = _batches_from(run, content, len(schedule))
    trainer.run(batches_from, run.workspace, quarantine, show.trained)
    trainer.use_averages()


def _content(
    run: StageOneRun, space: LatentSpace, quarantine: Quarantine, show: Show
) -> PictureContent:
    """Pixels to encode every time, or the filled cache of latents."""
    settings = run.settings
    if settings.latents == "encoded":
        return Pixels(run.source, run.size, settings.flips)
    channels, *side = run.latent
    shape = (2 * channels, side[0], side[1])
    cache = Cache(run.workspace / "latents", space, shape, run.accelerator, settings)
    count = len(run.source)

    def on_step(done: int) -> None:
        if run.accelerator.is_main_process:
            show.cached(done, count)

    cache.fill(Pixels(run.source, run.size), count, quarantine, on_step)
    return Cached(cache.folder)


def _batches_from(run: StageOneRun, content: PictureContent, timesteps: int) -> BatchesFrom:
    order = PictureOrder(run.settings.seed, len(run.source))
    examples = Examples(
        run.source, content, order, run.latent, timesteps, run.settings.caption_dropout
    )
    return lambda first: example_batches(
        examples, run.pipeline.tokenizer, run.layout, first, run.settings
    )


def _finish(run: StageOneRun, known: dict[str, object]) -> str:
    """Write base, card, losses and the list of broken pictures; remove the checkpoints."""
    export_base(run.pipeline, run.out, run.workspace, half=run.settings.weights == "float16")
    broken = merge(run.workspace, run.out / "quarantine.csv")
    facts = Facts(
        base=str(known["base"]),
        digest=folder_digest(run.out),
        fingerprint=str(known["data"]),
        pictures=len(run.source),
        broken=broken,
        size=run.size,
        prediction=str(run.pipeline.scheduler.config.prediction_type),
        precision=str(known["precision"]),
        processes=run.accelerator.num_processes,
    )
    (run.out / "README.md").write_text(stage_one_card(facts, run.settings), encoding="utf-8")
    shutil.copyfile(run.workspace / "training.jsonl", run.out / "training.jsonl")
    shutil.rmtree(run.workspace)
    return facts.digest
