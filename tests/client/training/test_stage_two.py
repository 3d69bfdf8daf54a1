"""Stage two at a site: references made once, cached with the tiles, gone with a patient."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTModel

from client.agent.withdrawals import purge
from client.data import SiteData, read_tile
from client.training import EncodedTiles, LocalTrainer, encode_site, phrases_of, reference_of
from model.adapters import initial_vector
from model.encoders import load_encoder
from model.losses import reference_correlations
from model.losses.draws import draw_rows
from privacy.config import check
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.opacus_engine import OpacusEngine
from privacy.errors import ModelError
from privacy.study.manifest import Study
from tests.client.pictures import tile_of
from tests.client.training.tiles import SeededNoise, make_tiles

DIGEST = "sha256:" + "1" * 64
BLOCK = "up_blocks.0"  # 8 by 8 places in the random tiny base


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder for images of 32 px, with 4 by 4 patches."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ViTConfig(image_size=32, patch_size=8, intermediate_size=32, **shape)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture
def study(study_values: dict[str, Any], encoder: Path) -> Study:
    study_values["training"] |= {"loss": "stage-two", "clipping_norm": 0.01}
    study_values["sites"][0]["declared_patients"] = 12
    pinned = {"source": str(encoder), "digest": load_encoder(str(encoder)).digest}
    study_values["stage_two"] = {
        "structure": {"weight": 0.5, "margin": 0.9, "block": BLOCK, "encoder": pinned},
        "drift": {"weight": 0.5},
        "grounding": {"weight": 0.1, "temperature": 0.05, "captions": ["fat", "bone"]},
    }
    return check(study_values, Study, where="test")


@pytest.fixture
def site(tmp_path: Path) -> SiteData:
    random = np.random.default_rng(0)
    tiles = []
    for index, patient in enumerate([0, 0, 2, 1]):
        path = tmp_path / f"{index}.png"
        Image.fromarray(random.integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(path)
        tiles.append(tile_of(path, "glands", patient))
    return SiteData(tuple(tiles), 3, ())


def encode(pipeline: Any, data: SiteData, study: Study, cache: Path | None = None) -> EncodedTiles:
    return encode_site(
        pipeline,
        data,
        base_digest=DIGEST,
        reference=reference_of(study, pipeline),
        phrases=phrases_of(study, pipeline),
        cache=cache,
    )


def test_references_are_those_of_the_clean_images(
    tiny_pipeline: Any, site: SiteData, study: Study, encoder: Path
) -> None:
    tiles = encode(tiny_pipeline, site, study)
    assert tiles.reference is not None
    assert (tiles.reference.shape, tiles.reference.dtype) == ((4, 120), torch.float16)  # 16 places
    image = read_tile(site.tiles[2].path, 64)[None]
    wanted = reference_correlations(load_encoder(str(encoder)), image, 8)
    torch.testing.assert_close(tiles.reference[2:3], wanted, atol=1e-3, rtol=0)


def test_an_encoder_of_the_hub_is_not_fetched_by_the_agent(
    tiny_pipeline: Any, site: SiteData, study: Study, no_hub: None
) -> None:
    values = study.model_dump(mode="json")
    values["stage_two"]["structure"]["encoder"]["source"] = "someone/encoder"
    with pytest.raises(ModelError, match="craftsfl model install --encoder someone/encoder"):
        encode(tiny_pipeline, site, check(values, Study, where="test"))


def test_rows_carry_the_reference_of_their_tile(
    tiny_pipeline: Any, site: SiteData, study: Study
) -> None:
    tiles = encode(tiny_pipeline, site, study)
    assert tiles.reference is not None
    chosen = [np.array([3]), np.array([0, 2])]
    rows = draw_rows(tiles, chosen, 2, 1000, [np.random.default_rng(0)] * 2)
    assert rows.reference is not None
    assert torch.equal(rows.reference, tiles.reference[[3, 3, 0, 0, 2, 2]])
    plain = dataclasses.replace(tiles, reference=None)
    assert draw_rows(plain, chosen, 2, 1000, [np.random.default_rng(0)] * 2).reference is None


def test_the_encoder_is_loaded_once_and_not_where_tiles_are_cached(
    tiny_pipeline: Any, site: SiteData, study: Study, tmp_path: Path
) -> None:
    reference, loads = reference_of(study, tiny_pipeline), []
    assert reference is not None
    counted = dataclasses.replace(reference, load=lambda: (loads.append(1), reference.load())[1])
    found = [
        encode_site(
            tiny_pipeline, site, base_digest=DIGEST, reference=counted, cache=tmp_path / "cache"
        )
        for _ in range(2)
    ]
    assert len(loads) == 1
    assert found[0].reference is not None
    assert found[1].reference is not None
    assert torch.equal(found[0].reference, found[1].reference)


def test_the_cache_is_the_owners_and_goes_with_a_withdrawal(
    tiny_pipeline: Any, site: SiteData, study: Study, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    encode(tiny_pipeline, site, study, cache)
    (entry,) = cache.iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert purge(cache) == 1
    assert not list(cache.iterdir())


@pytest.mark.parametrize("change", ["loss", "encoder", "block"])
def test_another_reference_is_another_entry(
    tiny_pipeline: Any, site: SiteData, study: Study, tmp_path: Path, change: str
) -> None:
    cache = tmp_path / "cache"
    encode(tiny_pipeline, site, study, cache)
    (before,) = cache.iterdir()
    reference = reference_of(study, tiny_pipeline)
    assert reference is not None
    match change:
        case "loss":
            other = None
        case "encoder":
            other = dataclasses.replace(reference, digest="sha256:" + "2" * 64)
        case _:
            other = dataclasses.replace(reference, side=2)
    found = encode_site(tiny_pipeline, site, base_digest=DIGEST, reference=other, cache=cache)
    (after,) = cache.iterdir()
    assert after.name != before.name
    assert (found.reference is None) is (change == "loss")


def test_a_withdrawn_patients_references_are_gone(
    tiny_pipeline: Any, site: SiteData, study: Study
) -> None:
    tiles = encode(tiny_pipeline, site, study)
    left = tiles.without([0])
    assert tiles.reference is not None
    assert left.reference is not None
    assert torch.equal(left.reference, tiles.reference[2:])
    assert left.reference.untyped_storage().nbytes() == left.reference.nbytes
    nobody = encode(tiny_pipeline, dataclasses.replace(site, tiles=()), study)
    assert nobody.reference is not None
    assert nobody.reference.shape == (0, 120)


def test_another_encoder_than_the_pinned_is_refused(
    tiny_pipeline: Any, site: SiteData, study: Study, encoder: Path
) -> None:
    values = study.model_dump(mode="json")
    values["stage_two"]["structure"]["encoder"]["digest"] = DIGEST
    with pytest.raises(ModelError, match=f"{DIGEST} was asked for"):
        encode(tiny_pipeline, site, check(values, Study, where="test"))


def test_a_relative_encoder_is_found_beside_the_study(
    tiny_pipeline: Any, study: Study, encoder: Path
) -> None:
    values = study.model_dump(mode="json")
    values["stage_two"]["structure"]["encoder"]["source"] = encoder.name
    relative = check(values, Study, where="test")
    reference = reference_of(relative, tiny_pipeline, root=encoder.parent)
    assert reference is not None
    assert reference.load().size == 32


def with_references(tiles: EncodedTiles) -> EncodedTiles:
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(len(tiles), 120, generator=generator).half()
    return dataclasses.replace(tiles, reference=reference)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@pytest.mark.parametrize("engine", [LoraEngine, pytest.param(OpacusEngine, marks=pytest.mark.slow)])
def test_a_private_round_with_the_whole_loss(tiny_pipeline: Any, study: Study, engine: Any) -> None:
    """Both engines give the same noised update, and it is another one than denoising's."""
    tiles = with_references(make_tiles(6, side=16))
    updates = []
    for made, loss in ((LoraEngine, study), (engine, study), (engine, denoising_only(study))):
        trainer = LocalTrainer(
            loss, "north", tiny_pipeline, tiles, noise=SeededNoise(1), engine=made
        )
        start = initial_vector(trainer.layout, b"s")
        updates.append(trainer.train(start, progress=lambda *_: None, should_stop=lambda: False))
    assert np.isfinite(updates[0]).all()
    assert np.abs(updates[0]).max() > 0
    np.testing.assert_allclose(updates[1], updates[0], rtol=1e-3, atol=1e-6)
    assert np.abs(updates[2] - updates[0]).max() > 1e-5


def denoising_only(study: Study) -> Study:
    values = study.model_dump(mode="json")
    values["training"]["loss"], values["stage_two"] = "denoising", None
    return check(values, Study, where="test")


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("tiles", "without the reference"),
        ("block", "no block 'up_block.0'"),
        ("late adapter", "No layer of the adapter comes before"),
    ],
)
def test_what_cannot_be_trained_is_told_before_any_round(
    tiny_pipeline: Any, study: Study, case: str, told: str
) -> None:
    tiles, values = with_references(make_tiles(2)), study.model_dump(mode="json")
    match case:
        case "tiles":
            tiles = make_tiles(2)
        case "block":
            values["stage_two"]["structure"]["block"] = "up_block.0"
        case _:
            values["adapter"]["targets"] = ["up_blocks.1.attentions.0.proj_in"]
    with pytest.raises(ModelError, match=told):
        LocalTrainer(check(values, Study, where="test"), "north", tiny_pipeline, tiles)
