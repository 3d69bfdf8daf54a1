"""One contract for every kind of encoder; what is refused; the shipped weights."""

from __future__ import annotations

import json
import logging
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from model.encoders import (
    ImageEncoder,
    ImageTextEncoder,
    load_encoder,
    load_image_text_encoder,
    prepare,
)
from model.encoders.files import SHIPPED_ENCODERS, find_encoder, shipped_encoder
from model.encoders.vision import token_grid
from privacy.errors import ModelError
from tests.model.encoders.small import TEXTS

# kind: side in px, width of tokens and their grid, width of embeddings
SHAPES = {
    "clip": (64, 128, 8, 64),
    "dual": (64, 128, 4, 64),
    "vit": (32, 16, 4, 16),
    "dinov2": (28, 16, 2, 16),
    "resnet": (64, 16, 8, 16),
    "convnext": (224, 16, 7, 16),
}


def pictures(n: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), np.uint8)


@pytest.mark.parametrize("kind", SHAPES)
def test_every_kind_keeps_the_contract(encoders: dict[str, Path], kind: str) -> None:
    encoder = load_encoder(str(encoders[kind]))
    size, width, side, features = SHAPES[kind]
    images = prepare(pictures(3, 48, 80), encoder)
    assert isinstance(encoder, ImageEncoder) and encoder.size == size
    assert encoder.digest.startswith("sha256:") and len(encoder.digest) == 71
    assert images.shape == (3, 3, size, size) and 0 <= images.min() <= images.max() <= 1
    tokens, embedded = encoder.tokens(images), encoder.embed(images)
    assert tokens.shape == (3, width, side, side) and tokens.dtype == torch.float32
    assert embedded.shape == (3, features) and embedded.dtype == torch.float32
    assert not embedded.requires_grad and not torch.allclose(embedded[0], embedded[1])
    one = encoder.embed(images[1:2])  # no image sways another
    assert torch.allclose(one[0], embedded[1], atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "dual"])
def test_images_and_texts_share_one_space(encoders: dict[str, Path], kind: str) -> None:
    encoder = load_image_text_encoder(str(encoders[kind]))
    assert isinstance(encoder, ImageTextEncoder)
    texts = encoder.embed_text(TEXTS)
    images = encoder.embed(prepare(pictures(2), encoder))
    assert texts.shape == images.shape == (2, 64)
    for rows in (texts, images):
        assert torch.allclose(rows.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(encoder.embed_text(TEXTS[:1])[0], texts[0], atol=1e-5)  # padding is inert
    assert encoder.embed_text([]).shape == (0, 64)


@pytest.mark.parametrize("kind", ["clip", "dual"])
def test_they_compute_what_transformers_computes(encoders: dict[str, Path], kind: str) -> None:
    from transformers import AutoModel

    encoder = load_image_text_encoder(str(encoders[kind]))
    model = AutoModel.from_pretrained(encoders[kind], dtype=torch.float32).eval()
    images = prepare(pictures(2), encoder)
    ids = encoder._tokenizer(TEXTS, padding=True, return_tensors="pt")
    out = model(
        input_ids=ids["input_ids"],
        attention_mask=ids["attention_mask"],
        pixel_values=images * 2 - 1,
    )
    ours = encoder.embed(images) @ encoder.embed_text(TEXTS).T * model.logit_scale.exp()
    assert torch.allclose(ours, out.logits_per_image, atol=1e-4)


def test_a_long_text_is_cut_and_nothing_of_it_is_logged(
    encoders: dict[str, Path], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder = load_image_text_encoder(str(encoders["clip"]))
    logging.getLogger("transformers").propagate = True
    with caplog.at_level(logging.DEBUG):
        encoder.embed_text(["secretword " * 200])
    heard = caplog.text + "".join(capfd.readouterr())
    assert "secretword" not in heard and "longer than" not in heard


def test_tokens_are_laid_out_as_the_image_is() -> None:
    sequence = torch.arange(2 + 9).float()[None, :, None]  # two special tokens, then 3 x 3
    assert token_grid(sequence, 3)[0, 0].tolist() == [[2, 3, 4], [5, 6, 7], [8, 9, 10]]
    with pytest.raises(ModelError, match="grid"):
        token_grid(sequence[:, :5], 3)


@pytest.mark.parametrize("kind", ["clip", "vit", "resnet"])
def test_a_changed_corner_changes_its_own_token_most(encoders: dict[str, Path], kind: str) -> None:
    encoder = load_encoder(str(encoders[kind]))
    images = prepare(pictures(1), encoder)
    changed = images.clone()
    changed[:, :, : encoder.size // 4, -encoder.size // 4 :] = 1.0
    moved = (encoder.tokens(changed) - encoder.tokens(images)).norm(dim=1)[0]
    row, column = divmod(int(moved.argmax()), moved.shape[1])
    assert row < moved.shape[0] / 2 <= column


def test_pictures_of_all_sizes_are_cut_square_and_resized(encoders: dict[str, Path]) -> None:
    encoder = load_encoder(str(encoders["clip"]))
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 32:96] = 255  # what the square keeps is white
    mixed = [Image.fromarray(wide), Image.new("L", (200, 300), 255)]
    assert prepare(mixed, encoder).min() > 0.99
    exact = pictures(2)
    again = prepare([Image.fromarray(image) for image in exact], encoder)
    assert torch.equal(again, torch.from_numpy(exact).permute(0, 3, 1, 2).float() / 255)


def test_what_is_no_image_is_refused(encoders: dict[str, Path]) -> None:
    encoder = load_encoder(str(encoders["clip"]))
    for wrong in (pictures(1)[0], pictures(1).astype(np.float32), pictures(1)[..., :2]):
        with pytest.raises(ModelError, match="not a set of images"):
            prepare(wrong, encoder)
    with pytest.raises(ModelError, match="no images"):
        prepare([], encoder)
    with pytest.raises(ModelError, match="64 x 64 px"):
        encoder.tokens(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ModelError, match="64 x 64 px"):
        encoder.embed(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_an_encoder_of_images_alone_has_no_text_tower(encoders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="no text tower"):
        load_image_text_encoder(str(encoders["vit"]))


def test_the_digest_pins_weights_and_tokenizer_but_not_the_card(
    encoders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(encoders["clip"], tmp_path / "copy")
    pinned = load_encoder(str(encoders["clip"])).digest
    (folder / "README.md").write_text("a card")
    assert load_encoder(str(folder), digest=pinned).digest == pinned
    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] = weights["logit_scale"] + 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="was asked for"):
        load_encoder(str(folder), digest=pinned)


def test_weights_that_no_digest_covers_are_refused(
    encoders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(encoders["vit"], tmp_path / "copy")
    pinned = load_encoder(str(folder)).digest
    (folder / "adapter_config.json").write_text("{}")  # transformers would apply it
    with pytest.raises(ModelError, match="has an adapter next to its weights"):
        load_encoder(str(folder), digest=pinned)
    (folder / "adapter_config.json").unlink()
    for index in ({"weight_map": {"a": "elsewhere.safetensors"}}, {"weight_map": []}):
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(ModelError, match="names weights that are not here"):
            load_encoder(str(folder))


def test_unknown_kinds_missing_weights_and_pickles_are_refused(
    encoders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(encoders["vit"], tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    last = "vit.encoder.layer.1" if "vit.encoder.layer.1" in str(weights.keys()) else "layers.1"
    kept = {name: value for name, value in weights.items() if last not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks"):
        load_encoder(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(ModelError, match="kind 'bert'"):
        load_encoder(str(folder))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no safetensors"):
        load_encoder(str(folder))


def test_broken_files_are_errors_of_ours(encoders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(encoders["clip"], tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_encoder(str(folder))
    settings = json.loads((folder / "config.json").read_text())
    settings["vision_config"] = settings["vision_config"] | {"num_attention_heads": "two"}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_encoder(str(folder))
    for text, expected in (("{", "not valid JSON"), ("[]", "not a JSON object")):
        (folder / "config.json").write_text(text)
        with pytest.raises(ModelError, match=expected):
            load_encoder(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="holds no encoder"):
        load_encoder(str(folder))


def test_a_source_that_is_nowhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="neither a folder"):
        find_encoder("not a name!")

    def refuse(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ModelError, match="cannot be downloaded"):
        find_encoder("nobody/nothing")


def test_what_is_on_this_machine_is_preferred_to_the_network(
    encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def snapshot(name: str, *, allow_patterns: list[str], local_files_only: bool = False) -> str:
        asked.append(local_files_only)
        assert not any(pattern.endswith((".bin", ".py")) for pattern in allow_patterns)
        return str(encoders["vit"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert find_encoder("someone/encoder").kind == "vit" and asked == [True]


@pytest.mark.parametrize("source", ["someone/encoder", "not a name!"])
def test_an_encoder_that_a_study_names_is_looked_for_on_this_machine_only(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("a connection was tried")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ModelError, match="is not on this machine") as caught:
        load_encoder(source, online=False)
    assert "craftsfl model install --encoder" in caught.value.hint


def test_shipped_encoders_are_found_installed_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("model.encoders.files.__file__", str(tmp_path / "a" / "b" / "files.py"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "prefix"))
    assert shipped_encoder("tiny") is None
    with pytest.raises(ModelError, match="not installed"):
        load_encoder("tiny")
    for source, name in SHIPPED_ENCODERS.items():
        place = tmp_path / "prefix" / "share" / "craftsfl" / name
        place.mkdir(parents=True)
        assert shipped_encoder(source) == place
