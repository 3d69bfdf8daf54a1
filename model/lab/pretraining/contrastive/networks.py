"""The tiny encoders, untrained."""

from __future__ import annotations

from typing import Any, TypeAlias

from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    ConvNextConfig,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from model.lab.pretraining.contrastive.recipe import EncoderRecipe
from model.lab.pretraining.networks import text_config

IMAGE_SIZE = 64
_TEXT_WIDTH = 96
_WIDTH = 64  # of the space that images and texts share
# transformers' classes are built from configurations that no type checker sees
ImageText: TypeAlias = Any
TextConfig: TypeAlias = Any


def make_image_text(recipe: EncoderRecipe, tokenizer: CLIPTokenizer) -> ImageText:
    """A CLIPModel or a dual encoder, by the recipe's tower; texts as in stage one's encoder."""
    text: TextConfig = text_config(tokenizer, _TEXT_WIDTH, _WIDTH)
    return _make_clip(text) if recipe.tower == "vit" else _make_dual(text)


def _make_clip(text: TextConfig) -> ImageText:
    kind: Any = CLIPConfig
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        projection_dim=_WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=8,
    )
    config = kind(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=_WIDTH)
    return CLIPModel(config)


def _make_dual(text: TextConfig) -> ImageText:
    kind: Any = VisionTextDualEncoderConfig
    last = 128
    tower: Any = ConvNextConfig
    vision = tower(
        num_stages=3,
        hidden_sizes=[40, 80, last],
        depths=[1, 2, 2],
        patch_size=4,
        image_size=IMAGE_SIZE,
        layer_scale_init_value=1.0,
        hidden_size=last,  # where the dual encoder looks for the tower's width
    )
    config = kind.from_vision_text_configs(vision, text, projection_dim=_WIDTH)
    return VisionTextDualEncoderModel(config)
