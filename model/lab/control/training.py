"""Train a control on public pairs; the base stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from model.base import Pipeline, load_base
from model.digest import folder_digest
from model.lab.control.card import control_card
from model.lab.control.drawn import draw_pairs
from model.lab.control.fidelity import Fidelity
from model.lab.control.network import (
    Control,
    ControlNet,
    load_control,
    make_control_network,
    save_control,
    spec_for,
)
from model.lab.control.pairs import Pairs, divided, read_pair_folder, stacked_pairs
from model.lab.control.reading import ConditionKind
from model.lab.control.recipe import ControlRecipe
from model.lab.control.spec import UNTYPED, ControlSpec
from model.lab.control.trial import TrialSettings, drawn_cases, file_cases, run_trial
from model.lab.pretraining.autoencoder import to_tensors
from model.lab.pretraining.networks import parameter_count, training_device
from model.lab.pretraining.optimisation import Schedule, Task, TaskTrainer, TensorBatch
from model.lab.pretraining.recipe import CHECKPOINTS, Progress
from model.lab.stage_one.workspace import claim
from model.lab.tissue.canvas import SIZE
from model.losses import NoiseSchedule, Rows
from privacy.errors import ModelError

_SNR_CAP = 5.0
_FOCUS = 3.0
_CAPTIONS_KEPT = 4096  # embeddings of captions; 77 x 768 floats each on the largest base


def pretrain_control(
    out: Path, base: Path, recipe: ControlRecipe, on_progress: Progress
) -> ControlSpec:
    """Train a control for the base in folder `base` and write it, with its card, to `out`.

    A killed run continues from its last checkpoint when called again with the same arguments.
    Raises `ModelError` for pairs or a base that cannot be used, and if `out` holds another run's
    checkpoints.
    """
    place = out / CHECKPOINTS
    place.mkdir(parents=True, exist_ok=True)
    pipeline = load_base(base, training_device())
    spec = spec_for(pipeline, recipe.types, recipe.markers, folder_digest(base))
    pairs = _pairs(recipe, spec)
    claim(place, {"control of": spec.base, **recipe.outcome()})
    torch.manual_seed(recipe.seed)
    network = make_control_network(pipeline, spec)
    _train(pipeline, network, pairs, recipe, (place, on_progress))
    save_control(network, spec, out)
    measured = _measure(pipeline, load_control(out, pipeline.device), recipe)
    card = control_card(spec, recipe, parameter_count(network), measured)
    (out / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(place)
    return spec


def _pairs(recipe: ControlRecipe, spec: ControlSpec) -> Pairs:
    if recipe.source is None:
        if spec.size != SIZE or recipe.types != UNTYPED:
            raise ModelError(
                f"Drawn tissue is {SIZE} px and untyped; the base draws {spec.size} px.",
                "Name a folder of public pairs with --data.",
            )
        drawn = draw_pairs(recipe.seed, recipe.tiles, free_share=recipe.free_share)
        return stacked_pairs(drawn, spec, recipe.tiles)
    count = len(divided(recipe.source)[0]) * recipe.source.crops
    return stacked_pairs(read_pair_folder(recipe.source, spec.size, recipe.seed), spec, count)


def _measure(pipeline: Pipeline, control: Control, recipe: ControlRecipe) -> dict[str, Fidelity]:
    """The fidelity under each condition of the trial: a folder's has no fluorescence."""
    spec, kinds = control.spec, list[ConditionKind]()
    if spec.types:
        kinds.append("mask")
    if spec.markers and recipe.source is None:
        kinds.append("fluorescence")
    measured: dict[str, Fidelity] = {}
    for kind in kinds:
        if recipe.source is None:
            cases = list(drawn_cases(spec, kind, recipe.trial))
        else:
            cases = list(file_cases(divided(recipe.source)[1], spec, kind, ""))
        how = TrialSettings(steps=recipe.trial_steps)
        measured[kind] = run_trial(pipeline, control, cases, how).fidelity
    return measured


@torch.no_grad()
def encoded(pipeline: Pipeline, pairs: Pairs, batch: int = 32) -> torch.Tensor:
    """Latents z [n, c, h, w] of all images, scaled as the UNet expects, on the CPU."""
    vae = pipeline.vae
    parts = []
    for start in range(0, len(pairs.images), batch):
        images = to_tensors(pairs.images[start : start + batch]).to(vae.device)
        parts.append(vae.encode(images).latent_dist.mean.cpu())
    return torch.cat(parts) * float(vae.config.scaling_factor)


def _embedder(pipeline: Pipeline) -> Callable[[str], torch.Tensor]:
    tokenizer, encoder = pipeline.tokenizer, pipeline.text_encoder

    @lru_cache(_CAPTIONS_KEPT)
    @torch.no_grad()
    def embed(text: str) -> torch.Tensor:
        length = tokenizer.model_max_length
        filled = tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        hidden: torch.Tensor = encoder(filled["input_ids"].to(encoder.device))[0]
        return hidden[0]

    return embed


def _batches(
    pipeline: Pipeline, pairs: Pairs, recipe: ControlRecipe
) -> Callable[[int], TensorBatch]:
    latents, embed = encoded(pipeline, pairs), _embedder(pipeline)
    on = pipeline.unet.device
    horizon = len(NoiseSchedule.of(pipeline.scheduler))
    ways = pairs.conditions.shape[1]

    def batch(step: int) -> TensorBatch:
        rng = np.random.default_rng([recipe.seed, 6, step])
        chosen = rng.integers(len(latents), size=recipe.batch)
        condition = pairs.condition(chosen, rng.integers(ways, size=recipe.batch))
        z = latents[chosen]
        noise = torch.from_numpy(rng.standard_normal(z.shape, np.float32))
        timesteps = torch.from_numpy(rng.integers(horizon, size=recipe.batch))
        dropped = rng.random(recipe.batch) < recipe.caption_dropout
        texts = ["" if d else pairs.captions[i] for i, d in zip(chosen, dropped, strict=True)]
        hidden = torch.stack([embed(text) for text in texts])
        return z.to(on), noise.to(on), timesteps.to(on), hidden, condition.to(on)

    return batch


def controlled_loss(
    unet: torch.nn.Module, network: ControlNet, schedule: NoiseSchedule, shard: TensorBatch
) -> torch.Tensor:
    """Mean square error of the prediction under control, weighted by min(SNR, 5) / SNR.

    Weights: Hang et al. 2023, "Efficient diffusion training via Min-SNR", as in stage one. Latent
    pixels that the condition marks count more: otherwise the few nuclei of fat or stroma,
    a hundredth of the tile, could be left out at no cost.
    """
    latents, noise, timesteps, hidden, condition = shard
    rows = Rows(latents, timesteps, noise, hidden)
    noised = schedule.noised(rows)
    down, mid = network(noised, timesteps, hidden, controlnet_cond=condition, return_dict=False)
    predicted = unet(
        noised,
        timesteps,
        hidden,
        down_block_additional_residuals=down,
        mid_block_additional_residual=mid,
        return_dict=False,
    )[0]
    kept = schedule.alphas_cumprod[timesteps]
    snr = kept / (1 - kept)
    marked = condition.amax(dim=1, keepdim=True)
    focus = 1 + _FOCUS * functional.adaptive_max_pool2d(marked, latents.shape[-2:])
    error = (focus * (predicted - schedule.target(rows)).square()).mean(dim=(1, 2, 3))
    scale = snr if schedule.prediction_type == "epsilon" else snr + 1
    return torch.as_tensor((error * snr.clamp(max=_SNR_CAP) / scale).mean())


def _train(
    pipeline: Pipeline,
    network: ControlNet,
    pairs: Pairs,
    recipe: ControlRecipe,
    run: tuple[Path, Progress],
) -> None:
    place, on_progress = run
    unet = pipeline.unet.to(memory_format=torch.channels_last)
    network.to(unet.device, memory_format=torch.channels_last).train()
    noise = NoiseSchedule.of(pipeline.scheduler, unet.device)
    schedule = Schedule(
        recipe.steps,
        recipe.rate,
        ema_decay=recipe.ema_decay,
        checkpoint_every=recipe.checkpoint_every,
    )
    batch = _batches(pipeline, pairs, recipe)
    task = Task("control", network, batch, lambda s: controlled_loss(unet, network, noise, s))
    TaskTrainer(task, schedule, place, recipe.shards).run(on_progress)
