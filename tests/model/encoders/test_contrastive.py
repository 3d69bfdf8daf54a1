"""Training the tiny encoders: corpus, loss, resumption, figures; the shipped weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from craftsfl.model.commands import app
from model.encoders import load_encoder, load_image_text_encoder, prepare
from model.encoders.files import shipped_encoder
from model.lab.pretraining.contrastive import RECIPES, EncoderRecipe, find_recipe, pretrain_encoder
from model.lab.pretraining.contrastive.corpus import (
    CONTENTS,
    content_of,
    draw_content_caption,
    draw_held_out,
    draw_training,
    vocabulary_texts,
)
from model.lab.pretraining.contrastive.training import contrastive_loss
from model.lab.pretraining.contrastive.validation import ValidationFigure, validate, validate_layout
from model.lab.pretraining.contrastive.wording import WORDINGS
from model.lab.pretraining.tokenizer import MAX_LENGTH, train_tokenizer
from model.lab.tissue.domain import RARE_TYPES, STAINS, draw_domain
from model.lab.tissue.tile import MORPHOLOGIES
from privacy.errors import ModelError

TINY_BASE = Path(__file__).parents[3] / "weights" / "tiny"
needs_base = pytest.mark.skipif(not TINY_BASE.is_dir(), reason="weights/tiny is not checked out")
needs_weights = pytest.mark.skipif(
    shipped_encoder("tiny") is None or shipped_encoder("tiny-evaluator") is None,
    reason="the tiny encoders are not checked out",
)
SMOKE = RECIPES["reference"].smoke()


def ignore(stage: str, step: int, steps: int) -> None:
    del stage, step, steps


def test_contents_are_numbered_once_and_captioned() -> None:
    numbers = {
        content_of(stain, rare) for stain in range(len(STAINS)) for rare in range(len(RARE_TYPES))
    }
    assert numbers == set(range(len(MORPHOLOGIES), CONTENTS))
    rng = np.random.default_rng(0)
    texts = {draw_content_caption(content, rng) for content in sorted(numbers)}
    assert texts == set(draw_domain(40, 1, 0).captions)
    assert "keratin" in draw_content_caption(MORPHOLOGIES.index("keratin"), rng)


def test_the_tokenizer_fits_every_caption_of_the_domain() -> None:
    rng = np.random.default_rng(0)
    for wording in WORDINGS.values():
        tokenizer = train_tokenizer(vocabulary_texts(1, wording, 1040), 1200)
        texts = vocabulary_texts(2, wording, 520)
        texts += [draw_content_caption(content, rng) for content in range(CONTENTS)]
        assert max(len(tokenizer(text)["input_ids"]) for text in texts) <= MAX_LENGTH


def test_the_encoders_learn_no_caption_in_common_and_none_of_the_domains_patients() -> None:
    learned = {role: set(vocabulary_texts(3, WORDINGS[role])) for role in RECIPES}
    assert not learned["reference"] & learned["evaluator"]
    of_patients = set(draw_domain(40, 1, 0).captions)
    assert not of_patients & (learned["reference"] | learned["evaluator"])
    assert {recipe.words for recipe in RECIPES.values()} == set(RECIPES)
    for texts in learned.values():  # yet each knows the words for every type and stain
        assert all(any(rare.name in text for text in texts) for rare in RARE_TYPES)
        assert all(any(stain.words in text for text in texts) for stain in STAINS)


def test_training_tiles_come_drawn_then_reconstructed_and_are_kept(tmp_path: Path) -> None:
    calls: list[int] = []

    def darker(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        return images // 2

    data = draw_training(SMOKE, darker, tmp_path, ignore)
    assert data.drawn == 2 * SMOKE.tiles and len(data.images) == 2 * (SMOKE.tiles + 12)
    for domain in (False, True):
        of = data.part(domain=domain, drawn=True)[: SMOKE.reconstructed]
        again = data.part(domain=domain, drawn=False)
        assert np.array_equal(data.images[again], data.images[of] // 2)
        assert np.array_equal(data.contents[again], data.contents[of])
    kept = draw_training(SMOKE, darker, tmp_path, ignore)
    assert np.array_equal(kept.images, data.images) and calls == [24]


def test_held_out_galleries_show_every_content_once_and_no_training_tile(tmp_path: Path) -> None:
    held_out = draw_held_out(SMOKE)
    galleries = held_out.contents.reshape(SMOKE.galleries, CONTENTS)
    assert all(np.array_equal(row, np.arange(CONTENTS)) for row in galleries)
    training = draw_training(SMOKE, lambda images: images, tmp_path, ignore)
    seen = {image.tobytes() for image in training.images}
    assert not seen & {image.tobytes() for image in held_out.images}


def test_the_loss_pulls_all_pairs_of_a_content_and_pushes_the_rest() -> None:
    contents = torch.tensor([0, 0, 1])
    same = (contents[:, None] == contents).float()
    # all pairs of a content equally near and the rest far: nothing but the entropy is left
    best = contrastive_loss(100 * same, contents)
    assert best.item() == pytest.approx(2 / 3 * np.log(2), abs=1e-5)
    assert contrastive_loss(100 * torch.eye(3), contents) > best + 1
    single = torch.tensor([0, 1, 2])  # plain InfoNCE where every content is there once
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    rows = torch.nn.functional.cross_entropy(logits, single)
    columns = torch.nn.functional.cross_entropy(logits.T, single)
    assert torch.allclose(contrastive_loss(logits, single), (rows + columns) / 2)


class Oracle:
    """Knows what a tile is by its number in red, and a caption by its text."""

    name, digest, size, device = "oracle", "sha256:", 64, torch.device("cpu")

    def __init__(self, tiles: int) -> None:
        self.tiles, self.codes = tiles, torch.eye(CONTENTS)

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 8)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return self.codes[torch.arange(len(images)) % CONTENTS]

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        return self.codes[torch.arange(len(texts)) % CONTENTS]


def test_an_encoder_that_knows_all_scores_one_and_its_control_does_not() -> None:
    tiles = draw_held_out(SMOKE)
    figures = validate(Oracle(len(tiles.images)), tiles, seed=1)
    for name in ("image to text R@1", "text to image R@1", "rare type, 8 to choose from"):
        assert figures[name].mean == 1.0
    assert figures["stain, 5 to choose from"].mean == 1.0
    assert figures["image to text R@1, captions shuffled"].mean == 0.0
    assert figures["cosine, own less shuffled caption"].low > 0.8


def test_tokens_that_follow_the_nuclei_beat_those_of_another_tile() -> None:
    figures = validate_layout(Oracle(0), seed=1, per_morphology=3)
    assert figures["layout of nuclei, r"].mean > 0.2
    assert figures["layout of nuclei, r less another tile's"].low > 0.1


def test_intervals_hold_the_mean_and_shrink_with_n() -> None:
    rng = np.random.default_rng(0)
    few, many = (
        ValidationFigure.of(rng.normal(1, 1, 20)),
        ValidationFigure.of(rng.normal(1, 1, 2000)),
    )
    for figure in (few, many):
        assert figure.low < figure.mean < figure.high
    assert many.high - many.low < (few.high - few.low) / 3


@pytest.mark.slow
@needs_base
@pytest.mark.parametrize(
    "role",
    list(RECIPES),
)
def test_a_killed_run_goes_on_and_writes_an_encoder_with_its_card(
    tmp_path: Path, role: str
) -> None:
    class Killed(Exception):
        pass

    def kill(stage: str, step: int, steps: int) -> None:
        if stage == "encoder" and step == 3:
            raise Killed

    recipe: EncoderRecipe = replace(RECIPES[role].smoke(), galleries=1)
    out = tmp_path / role
    with pytest.raises(Killed):
        pretrain_encoder(out, role, kill, recipe=recipe)
    with pytest.raises(ModelError, match="other values of steps"):
        pretrain_encoder(out, role, kill, recipe=replace(recipe, steps=9))
    stages: list[tuple[str, int]] = []
    figures = pretrain_encoder(out, role, lambda *at: stages.append(at[:2]), recipe=recipe)
    assert stages == [("encoder", 3), ("encoder", 4)]
    assert not (out / ".checkpoints").exists()
    encoder = load_image_text_encoder(str(out))
    assert encoder.tokens(torch.rand(1, 3, 64, 64)).shape[2:] == (
        (8, 8) if role == "reference" else (4, 4)
    )
    card = (out / "README.md").read_text()
    assert "not for any medical use" in card and "captions shuffled" in card
    written = json.loads((out / "figures.json").read_text())
    assert written["drawn"]["image to text R@1"]["n"] == CONTENTS
    assert figures["reconstructed"].keys() < figures["drawn"].keys()


def test_an_unknown_recipe_is_an_error_also_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Unknown recipe 'x'"):
        find_recipe("x")
    result = CliRunner().invoke(app, ["pretrain-encoder", str(tmp_path), "--recipe", "x"])
    assert isinstance(result.exception, ModelError)


def test_without_a_base_there_is_no_autoencoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.lab.pretraining.contrastive.run.shipped_base", lambda: None)
    with pytest.raises(ModelError, match="not installed"):
        pretrain_encoder(tmp_path, recipe=SMOKE)


@needs_weights
@pytest.mark.parametrize("source", ["tiny", "tiny-evaluator"])
def test_the_shipped_encoders_prefer_own_to_shuffled_captions(source: str) -> None:
    tiles = draw_domain(40, 1, 90_001)
    encoder = load_image_text_encoder(source)
    images = encoder.embed(prepare(tiles.images, encoder))
    similarity = (images @ encoder.embed_text(tiles.captions).T).numpy()
    own = np.diagonal(similarity)
    shuffled = np.diagonal(similarity[:, np.random.default_rng(0).permutation(40)])
    assert ValidationFigure.of(own - shuffled).low > 0.2
    assert (similarity.argmax(axis=1) == np.arange(40)).mean() > 0.7  # chance: 1 in 40


@needs_weights
def test_the_shipped_reference_sees_where_nuclei_lie() -> None:
    encoder = load_encoder("tiny")
    assert encoder.tokens(torch.rand(1, 3, 64, 64)).shape == (1, 128, 8, 8)
    figures = validate_layout(encoder, seed=90_001, per_morphology=3)
    assert figures["layout of nuclei, r less another tile's"].low > 0.1


@needs_weights
def test_the_shipped_encoders_are_small_and_unlike() -> None:
    folders = [shipped_encoder(source) for source in ("tiny", "tiny-evaluator")]
    for folder in folders:
        assert folder is not None
        assert (folder / "model.safetensors").stat().st_size < 3 * 1024 * 1024
        assert "| image to text R@1 |" in (folder / "README.md").read_text()
    assert load_encoder("tiny").digest != load_encoder("tiny-evaluator").digest
