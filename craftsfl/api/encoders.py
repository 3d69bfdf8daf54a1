"""Frozen encoders of images and texts: the shipped ones, a local folder, or a hub id.

Importing this imports torch; loading one imports transformers.

>>> from PIL import Image
>>> from craftsfl.api.encoders import load_image_text_encoder, prepare
>>> encoder = load_image_text_encoder("tiny-evaluator")
>>> images = prepare([Image.new("RGB", (80, 64), "pink")], encoder)
>>> tuple(images.shape), tuple(encoder.embed(images).shape)
((1, 3, 64, 64), (1, 64))
>>> similarity = encoder.embed(images) @ encoder.embed_text(["fat cells."]).T
>>> tuple(similarity.shape)
(1, 1)

An encoder of your own is an object that fits the protocol `ImageEncoder` (docs/research.md).
"""

from __future__ import annotations

from model.encoders import (
    ImageEncoder,
    ImageTextEncoder,
    load_encoder,
    load_image_text_encoder,
    prepare,
)
from privacy.errors import CraftsflError, ModelError

__all__ = [
    "CraftsflError",
    "ImageEncoder",
    "ImageTextEncoder",
    "ModelError",
    "load_encoder",
    "load_image_text_encoder",
    "prepare",
]
