"""Effects at a site: likeness of captions made once, cached with the tiles, counted, withdrawn."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from client.data import SiteData
from client.training import (
    CaptionPhrases,
    EncodedTiles,
    LocalTrainer,
    encode_site,
    phrases_of,
)
from model.adapters import initial_vector
from model.encoders import load_image_text_encoder
from model.losses import phrase_likeness
from model.losses.draws import draw_rows
from privacy.config import check
from privacy.errors import ModelError
from privacy.study.manifest import Study
from tests.client.pictures import tile_of
from tests.client.training.tiles import SeededNoise, make_tiles
from tests.model.encoders.small import save

DIGEST = "sha256:" + "1" * 64
PHRASES = ["glands", "fat, breast", "mucin"]
CAPTIONS = ["round glands", "chordoma, sacrum; PAS reaction.", "round glands", "fat"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("clip", tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def study(study_values: dict[str, Any], encoder: Path) -> Study:
    study_values["training"] |= {"loss": "stage-two", "clipping_norm": 0.01}
    study_values["sites"][0]["declared_patients"] = 12
    pinned = {
        "source": str(encoder),
        "digest": load_image_text_encoder(str(encoder)).digest,
    }
    effects = {"weight": 0.5, "margin": 0.5, "encoder": pinned, "phrases": PHRASES}
    study_values["stage_two"] = {"effects": effects}
    return check(study_values, Study, where="test")


@pytest.fixture
def site(tmp_path: Path) -> SiteData:
    tiles = []
    for index, (patient, caption) in enumerate(zip([0, 0, 2, 1], CAPTIONS, strict=True)):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (64, 64), (40 * index, 90, 120)).save(path)
        tiles.append(tile_of(path, caption, patient))
    return SiteData(tuple(tiles), 3, ())


def encode(
    pipeline: Any, data: SiteData, phrases: CaptionPhrases | None, cache: Path | None = None
) -> EncodedTiles:
    return encode_site(pipeline, data, base_digest=DIGEST, phrases=phrases, cache=cache)


def test_likeness_is_of_captions_and_rows_carry_their_captions_own(
    tiny_pipeline: Any, site: SiteData, study: Study, encoder: Path
) -> None:
    tiles = encode(tiny_pipeline, site, phrases_of(study, "cpu"))
    assert tiles.likeness is not None
    known = sorted(set(CAPTIONS))
    wanted = phrase_likeness(load_image_text_encoder(str(encoder)), known, PHRASES)
    assert torch.equal(tiles.likeness, wanted)  # bit for bit, whatever else is at the site
    chosen = [np.array([3]), np.array([0, 2])]
    rows = draw_rows(tiles, chosen, 2, 1000, [np.random.default_rng(0)] * 2)
    captions = [known.index(CAPTIONS[tile]) for tile in (3, 3, 0, 0, 2, 2)]
    assert rows.likeness is not None
    assert torch.equal(rows.likeness, wanted[captions])


def test_a_captions_likeness_does_not_depend_on_the_others(
    tiny_pipeline: Any, site: SiteData, study: Study
) -> None:
    phrases = phrases_of(study, "cpu")
    whole = encode(tiny_pipeline, site, phrases)
    alone = encode(tiny_pipeline, dataclasses.replace(site, tiles=site.tiles[1:2]), phrases)
    assert whole.likeness is not None
    assert alone.likeness is not None
    row = sorted(set(CAPTIONS)).index(CAPTIONS[1])
    assert torch.equal(alone.likeness[0], whole.likeness[row])


def test_the_encoder_is_not_loaded_where_tiles_are_cached_and_other_phrases_are_another_entry(
    tiny_pipeline: Any, site: SiteData, study: Study, tmp_path: Path
) -> None:
    phrases, loads, cache = phrases_of(study, "cpu"), [], tmp_path / "cache"
    assert phrases is not None
    counted = dataclasses.replace(phrases, load=lambda: (loads.append(1), phrases.load())[1])
    first, second = (encode(tiny_pipeline, site, counted, cache) for _ in range(2))
    assert len(loads) == 1
    assert first.likeness is not None
    assert second.likeness is not None
    assert torch.equal(first.likeness, second.likeness)
    (before,) = cache.iterdir()
    for change in ({"phrases": ("glands", "fat")}, {"digest": "sha256:" + "2" * 64}):
        encode(tiny_pipeline, site, dataclasses.replace(phrases, **change), cache)
        (after,) = cache.iterdir()
        assert after.name != before.name
        before = after
    assert encode(tiny_pipeline, site, None, cache).likeness is None


def test_a_withdrawn_patients_captions_are_gone(
    tiny_pipeline: Any, site: SiteData, study: Study
) -> None:
    tiles = encode(tiny_pipeline, site, phrases_of(study, "cpu"))
    left = tiles.without([0, 2])
    assert left.likeness is not None
    assert left.likeness.shape == (1, 3)
    assert left.likeness.untyped_storage().nbytes() == left.likeness.nbytes
    nobody = encode(tiny_pipeline, dataclasses.replace(site, tiles=()), phrases_of(study, "cpu"))
    assert nobody.likeness is not None
    assert nobody.likeness.shape == (0, 3)


def test_captions_that_are_like_no_phrase_are_counted_and_not_named(
    tiny_pipeline: Any,
    site: SiteData,
    study: Study,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    phrases = phrases_of(study, "cpu")
    assert phrases is not None
    with caplog.at_level(logging.WARNING, "craftsfl.agent"):
        encode(tiny_pipeline, site, phrases, tmp_path / "cache")
    assert not caplog.records
    strict = dataclasses.replace(phrases, least=0.999999)
    for _ in range(2):  # encoded now, and from the cache
        caplog.clear()
        encode(tiny_pipeline, site, strict, tmp_path / "cache")
        (said,) = [record.getMessage() for record in caplog.records]
        assert "none of the study's phrases: " in said
        assert "of 3" in said
        assert not any(word in said for word in ("round", "chordoma", "fat"))


def test_an_encoder_that_knows_no_texts_or_is_not_the_pinned_one_is_refused(
    tiny_pipeline: Any, site: SiteData, study: Study, tmp_path: Path
) -> None:
    values = study.model_dump(mode="json")
    effects = values["stage_two"]["effects"]
    effects["encoder"]["digest"] = DIGEST
    with pytest.raises(ModelError, match=f"{DIGEST} was asked for"):
        encode(tiny_pipeline, site, phrases_of(check(values, Study, where="t"), "cpu"))
    effects["encoder"]["source"] = str(save("vit", tmp_path / "vit"))
    with pytest.raises(ModelError, match="no text tower"):
        encode(tiny_pipeline, site, phrases_of(check(values, Study, where="t"), "cpu"))


def test_a_text_encoder_of_the_hub_is_not_fetched_by_the_agent(
    tiny_pipeline: Any, site: SiteData, study: Study, no_hub: None
) -> None:
    values = study.model_dump(mode="json")
    values["stage_two"]["effects"]["encoder"]["source"] = "someone/encoder"
    with pytest.raises(ModelError, match="craftsfl model install --encoder someone/encoder"):
        encode(tiny_pipeline, site, phrases_of(check(values, Study, where="t"), "cpu"))


def with_likeness(tiles: EncodedTiles) -> EncodedTiles:
    generator = torch.Generator().manual_seed(0)
    return dataclasses.replace(tiles, likeness=torch.rand(3, 3, generator=generator))


def test_a_private_round_with_effects_is_another_than_without(
    tiny_pipeline: Any, study: Study
) -> None:
    """Batches with blank places, noise and clip: the loss goes the whole way."""
    updates = []
    for tiles in (with_likeness(make_tiles(6, side=16)), no_likeness(make_tiles(6, side=16))):
        trainer = LocalTrainer(study, "north", tiny_pipeline, tiles, noise=SeededNoise(1))
        start = initial_vector(trainer.layout, b"s")
        updates.append(trainer.train(start, progress=lambda *_: None, should_stop=lambda: False))
    assert np.isfinite(updates[0]).all()
    assert np.abs(updates[0]).max() > 0
    assert np.abs(updates[1] - updates[0]).max() > 1e-6


def no_likeness(tiles: EncodedTiles) -> EncodedTiles:
    """Every caption like none: the term is off in every row."""
    return dataclasses.replace(tiles, likeness=torch.full((3, 3), -1.0))


def test_tiles_without_likeness_are_refused_before_any_round(
    tiny_pipeline: Any, study: Study
) -> None:
    with pytest.raises(ModelError, match="without the likeness"):
        LocalTrainer(study, "north", tiny_pipeline, make_tiles(2))
