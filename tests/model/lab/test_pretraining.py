"""Pretraining: tokenizer, schedule, resumption, a smoke run; the shipped weights obey captions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model.base import load_base
from model.digest import folder_digest
from model.lab.pretraining import Recipe, pretrain_tiny_base
from model.lab.pretraining.autoencoder import (
    encode,
    reconstruct,
    standardise,
    train_autoencoder,
)
from model.lab.pretraining.corpus import caption_corpus, draw_caption, draw_corpus
from model.lab.pretraining.evaluate import evaluate_captions, morphology_sheet, score_table
from model.lab.pretraining.networks import make_autoencoder, parameter_count
from model.lab.pretraining.optimisation import Schedule, Task, TaskTrainer, TensorBatch
from model.lab.pretraining.tokenizer import MAX_LENGTH, train_tokenizer
from model.lab.tissue import MORPHOLOGIES
from model.lab.tissue.palette import draw_palettes, palette_of
from model.lab.tissue.tile import draw_series
from model.sampling import sample

TINY = Path(__file__).parents[3] / "weights" / "tiny"
needs_weights = pytest.mark.skipif(not TINY.is_dir(), reason="weights/tiny is not checked out")


def ignore(stage: str, step: int, steps: int) -> None:
    del stage, step, steps


def test_the_tokenizer_knows_any_text_and_fits_every_caption() -> None:
    tokenizer = train_tokenizer(caption_corpus(1, 600), 1200)
    assert len(tokenizer) <= 1200 and tokenizer.model_max_length == MAX_LENGTH
    for text in ("", "Zebra 42", "Übergrößenträger 漢字 \U0001f52c", "a" * 60):
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in ids[1:-1]  # which is CLIP's unknown token, too
    longest = max(len(tokenizer(text)["input_ids"]) for text in caption_corpus(2, 2000))
    assert longest <= MAX_LENGTH


def test_the_corpus_has_every_morphology_and_is_kept(tmp_path: Path) -> None:
    recipe = Recipe(tiles=24, palettes=12, held_out=12)
    corpus = draw_corpus(recipe, tmp_path, ignore)
    assert corpus.images.shape == (48, 64, 64, 3)
    assert (corpus.slides, corpus.train) == (24, 36)
    assert np.bincount(corpus.labels).tolist() == [4] * 12
    held_out = draw_series(recipe.seed, 24, 12)
    assert np.array_equal(corpus.images[corpus.train :], held_out)
    assert np.array_equal(corpus.images[24:36], draw_palettes(recipe.seed, 0, 12))
    stamp = (tmp_path / "tiles.npy").stat().st_mtime_ns
    again = draw_corpus(recipe, tmp_path, ignore)
    assert np.array_equal(again.images, corpus.images)
    assert (tmp_path / "tiles.npy").stat().st_mtime_ns == stamp


def test_processes_draw_what_one_process_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.lab.pretraining.corpus._CHUNK", 12)
    steps: list[int] = []
    recipe = Recipe(tiles=24, palettes=13, held_out=6)
    corpus = draw_corpus(recipe, tmp_path, lambda stage, step, total: steps.append(step))
    slides = np.concatenate([corpus.images[:24], corpus.images[corpus.train :]])
    assert np.array_equal(slides, draw_series(recipe.seed, 0, 30))
    assert np.array_equal(corpus.images[24 : corpus.train], draw_palettes(recipe.seed, 0, 13))
    assert steps == [12, 24, 30, 12, 13]


def test_captions_name_dyes_where_tiles_are_not_in_h_and_e(tmp_path: Path) -> None:
    corpus = draw_corpus(Recipe(tiles=24, palettes=12, held_out=12), tmp_path, ignore)
    rng = np.random.default_rng(0)
    for index in range(24, 36):
        palette = palette_of(2026, index - 24)
        text = corpus.caption(index, rng)
        assert f"{palette.nuclei} on {palette.ground}: " in text and "H&E" not in text
    assert not any(" on " in corpus.caption(index, rng) for index in (*range(24), 36, 47))


def test_a_former_autoencoder_is_where_training_goes_on_from(tmp_path: Path) -> None:
    torch.manual_seed(3)
    former = make_autoencoder()
    recipe = replace(Recipe.smoke(), autoencoder_steps=2, autoencoder_crops=1)
    corpus = draw_corpus(recipe, tmp_path, ignore)
    after = train_autoencoder(corpus, recipe, tmp_path, ignore, former)
    for (name, own), old in zip(
        after.state_dict().items(), former.state_dict().values(), strict=True
    ):
        assert torch.allclose(own, old, atol=0.01), name  # two steps of a warm-up away


def test_the_learning_rate_warms_up_and_falls() -> None:
    schedule = Schedule(steps=100, rate=1.0, warm_up=10)
    rates = [schedule.rate_at(step) for step in range(100)]
    assert rates[0] < 0.2 and max(rates) == max(rates[8:12]) and rates[-1] < 0.02


def regression(step: int) -> TensorBatch:
    x = torch.from_numpy(np.random.default_rng(step).standard_normal((8, 3), np.float32))
    return x, x.sum(dim=1, keepdim=True)


def linear_task() -> Task:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return Task("line", model, regression, lambda b: (model(b[0]) - b[1]).square().mean())


def test_the_trainer_learns_and_its_shards_change_nothing(tmp_path: Path) -> None:
    weights = []
    for shards in (1, 2):
        task = linear_task()
        (tmp_path / str(shards)).mkdir()
        schedule = Schedule(steps=300, rate=0.05, ema_decay=0.9)
        TaskTrainer(task, schedule, tmp_path / str(shards), shards).run(ignore)
        weights.append(next(task.module.parameters()).detach())
    assert torch.allclose(weights[0], torch.ones(1, 3), atol=0.05)
    assert torch.allclose(weights[0], weights[1], atol=1e-4)


def test_a_killed_run_goes_on_and_ends_alike(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(stage: str, step: int, steps: int) -> None:
        if step == 25:
            raise Killed

    schedule = Schedule(steps=40, rate=0.05, ema_decay=0.9, checkpoint_every=10)
    (tmp_path / "whole").mkdir()
    whole, broken, resumed = linear_task(), linear_task(), linear_task()
    TaskTrainer(whole, schedule, tmp_path / "whole", 1).run(ignore)
    with pytest.raises(Killed):
        TaskTrainer(broken, schedule, tmp_path, 1).run(kill)
    second = TaskTrainer(resumed, schedule, tmp_path, 1)
    assert second.step == 20
    second.run(ignore)
    for a, b in zip(whole.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_standardised_latents_have_unit_variance_and_the_same_pictures() -> None:
    torch.manual_seed(0)
    vae = make_autoencoder().eval().requires_grad_(False)
    images = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    before = reconstruct(vae, images)
    standardise(vae, encode(vae, images))
    latents = encode(vae, images)
    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-2)
    assert torch.allclose(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-2)
    assert np.abs(reconstruct(vae, images).astype(int) - before).max() <= 1


@pytest.mark.slow
def test_a_smoke_run_makes_a_pipeline_that_samples(tmp_path: Path) -> None:
    stages: list[str] = []
    pretrain_tiny_base(
        tmp_path / "base", Recipe.smoke(), lambda stage, step, steps: stages.append(stage)
    )
    assert list(dict.fromkeys(stages)) == ["tiles", "autoencoder", "judge", "diffusion"]
    assert not (tmp_path / "base" / ".checkpoints").exists()
    (image,) = sample(load_base(tmp_path / "base"), ["glands"], [0], steps=2)
    assert image.size == (64, 64)
    config = json.loads((tmp_path / "base" / "text_encoder" / "config.json").read_text())
    assert config["dtype"] == "float32"  # or diffusers alone could not draw from it
    card = (tmp_path / "base" / "README.md").read_text()
    assert "not for any medical use" in card and "| glands |" in card


@pytest.mark.slow
@needs_weights
def test_a_run_goes_on_from_a_former_base_in_its_shapes_and_tokens(tmp_path: Path) -> None:
    pretrain_tiny_base(tmp_path / "base", Recipe.smoke(), former=TINY)
    after, former = load_base(tmp_path / "base"), load_base(TINY)
    assert after.tokenizer.get_vocab() == former.tokenizer.get_vocab()
    for part in ("vae", "text_encoder", "unet"):
        own, old = (getattr(base, part).state_dict() for base in (after, former))
        assert own.keys() == old.keys()
        for name, tensor in own.items():
            assert torch.allclose(tensor, old[name], atol=0.02, rtol=0.01), name
    latents = [encode(base.vae, draw_series(5, 0, 4)) for base in (after, former)]
    assert (latents[0] - latents[1]).square().mean() < 0.1  # of a variance of 1
    card = (tmp_path / "base" / "README.md").read_text()
    assert folder_digest(TINY) in card and "--former" in card


@needs_weights
def test_the_shipped_weights_are_small_half_precision_and_shaped_as_stable_diffusion() -> None:
    files = list(TINY.rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= 12 * 1024 * 1024
    index = json.loads((TINY / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    pipeline = load_base(TINY)
    assert parameter_count(pipeline.unet) < 2_700_000
    assert pipeline.scheduler.config.clip_sample is False
    names = [name for name, _ in pipeline.unet.named_modules()]
    assert any("attn2.to_q" in name for name in names) and any("up_blocks.1" in n for n in names)
    half = torch.float16
    loaded = load_base(TINY, dtype=half)
    assert {p.dtype for p in loaded.unet.parameters()} == {half}


@pytest.mark.slow
@needs_weights
def test_the_shipped_weights_obey_their_captions_by_both_judges() -> None:
    done = evaluate_captions(TINY, per_morphology=2)
    for scores in done.scores.values():
        means = np.array([score.mean for score in scores])
        assert len(scores) == len(MORPHOLOGIES)
        draws = np.random.default_rng(0).choice(means, (2000, len(means))).mean(axis=1)
        assert np.percentile(draws, 2.5) > 1  # nats, over morphologies
    assert morphology_sheet(done.images, 2).size == (2 * 66 * 2, 12 * 66 * 2)
    assert "glands" in score_table(done)


def test_captions_are_drawn_for_studies_that_show_the_morphology() -> None:
    rng = np.random.default_rng(0)
    texts = [draw_caption(MORPHOLOGIES.index("keratin"), rng) for _ in range(30)]
    assert all("keratin" in text for text in texts)
