"""Random encoders of every kind, small enough to be made in a test."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTForImageClassification,
)

from model.lab.pretraining.contrastive.export import export_encoder
from model.lab.pretraining.contrastive.networks import make_image_text
from model.lab.pretraining.contrastive.recipe import RECIPES
from model.lab.pretraining.tokenizer import train_tokenizer

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXTS = ["round glands with open lumens", "chordoma, sacrum; PAS reaction."]


def save(kind: str, folder: Path) -> Path:
    """A random encoder of one kind in `folder`, as transformers saves it."""
    torch.manual_seed(0)
    if kind in ("clip", "dual"):
        role = "reference" if kind == "clip" else "evaluator"
        tokenizer = train_tokenizer(TEXTS * 20, 600)
        export_encoder(make_image_text(RECIPES[role], tokenizer), tokenizer, folder)
        return folder
    if kind == "vit":  # saved as a classifier, as public ones are: without a pooler
        model = ViTForImageClassification(
            ViTConfig(image_size=32, patch_size=8, intermediate_size=32, **SMALL)
        )
    elif kind == "dinov2":
        model = Dinov2Model(Dinov2Config(image_size=56, patch_size=14, **SMALL))
    elif kind == "resnet":
        model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))
    else:
        model = ConvNextModel(ConvNextConfig(hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1]))
    model.save_pretrained(folder)
    if kind in ("resnet", "dinov2"):
        sizes = {"crop_size": {"height": 64, "width": 64}} if kind == "resnet" else {"size": 28}
        (folder / "preprocessor_config.json").write_text(json.dumps(sizes))
    return folder
