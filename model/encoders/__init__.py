"""Frozen encoders by name, folder or hub id: CLIP-shaped, ViT-style, convolutional."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.encoders.files import SHIPPED_ENCODERS, EncoderFiles, find_encoder
from model.encoders.interface import ImageEncoder, ImageTextEncoder, prepare
from privacy.errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = [
    "SHIPPED_ENCODERS",
    "ImageEncoder",
    "ImageTextEncoder",
    "load_encoder",
    "load_image_text_encoder",
    "prepare",
]


def load_encoder(
    source: str,
    device: torch.device | str = "cpu",
    *,
    digest: str | None = None,
    online: bool = True,
) -> ImageEncoder:
    """The frozen encoder `source`: "tiny", "tiny-evaluator", a local folder or a hub id.

    `online`: whether the hub may be asked for it. With `digest` its files must have that digest.
    Raises `ModelError` if there is no such encoder, if it has another digest, or if its kind is
    unknown.
    """
    import torch

    from model.encoders.image_text import IMAGE_TEXT_KINDS, ClipEncoder
    from model.encoders.vision import CNN_KINDS, VIT_KINDS, CnnEncoder, VitEncoder

    files = _checked(source, digest, online)
    place = torch.device(device)
    if files.kind in IMAGE_TEXT_KINDS:
        return ClipEncoder(files, place)
    if files.kind in VIT_KINDS:
        return VitEncoder(files, place)
    if files.kind in CNN_KINDS:
        return CnnEncoder(files, place)
    known = ", ".join(sorted(IMAGE_TEXT_KINDS | VIT_KINDS | CNN_KINDS))
    raise ModelError(
        f"{source!r} is not an encoder known here: its config.json names the kind {files.kind!r}.",
        f"Use a model of one of these kinds: {known}.",
    )


def load_image_text_encoder(
    source: str,
    device: torch.device | str = "cpu",
    *,
    digest: str | None = None,
    online: bool = True,
) -> ImageTextEncoder:
    """As `load_encoder`, for an encoder of images and texts; ModelError where it knows no texts."""
    from model.encoders.image_text import IMAGE_TEXT_KINDS

    if find_encoder(source, online=online).kind not in IMAGE_TEXT_KINDS:
        raise ModelError(
            f"The encoder {source!r} has no text tower.",
            "Name a CLIP-shaped model (CLIP, PLIP), tiny or tiny-evaluator.",
        )
    encoder = load_encoder(source, device, digest=digest, online=online)
    if not isinstance(encoder, ImageTextEncoder):
        raise ModelError(f"The encoder {source!r} has no text tower.", "Name a CLIP-shaped model.")
    return encoder


def _checked(source: str, digest: str | None, online: bool) -> EncoderFiles:
    files = find_encoder(source, online=online)
    if digest is not None and (found := files.digest()) != digest:
        raise ModelError(
            f"The encoder {source!r} is {found}; {digest} was asked for.",
            "Get exactly the encoder that is pinned, or pin this one.",
        )
    return files
