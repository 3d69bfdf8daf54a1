"""Encoders of images and texts: CLIP-like ones, and transformers' VisionTextDualEncoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from model.encoders.files import EncoderFiles
from model.encoders.loading import crop_size, load_tokenizer
from model.encoders.vision import FrozenNetwork, token_grid

IMAGE_TEXT_KINDS = frozenset({"clip", "vision-text-dual-encoder"})
_TEXT_BATCH = 256


class ClipEncoder(FrozenNetwork):
    """A CLIP-shaped model (CLIP, PLIP, ...) or a dual encoder with any image tower.

    Tokens of a transformer are those before its last layer: the loss that trained it sees only the
    class token of the last, so what that layer does to patches was never learnt (the choice of
    Liu et al. 2023, "Visual instruction tuning", section 4.1). Tokens of a convolutional tower are
    its last feature map.
    """

    def __init__(self, files: EncoderFiles, device: torch.device) -> None:
        super().__init__(files, device)
        vision = self.network.config.vision_config
        self.size = int(getattr(vision, "image_size", None) or crop_size(files) or 224)
        self._patch = vision.patch_size if hasattr(vision, "num_attention_heads") else None
        self._tokenizer = load_tokenizer(files)
        text = self.network.config.text_config
        limits = int(self._tokenizer.model_max_length), int(text.max_position_embeddings)
        self._length = min(limits)

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """See ImageEncoder."""
        tower = self.network.vision_model
        parts = []
        for part in self.batches(images):
            if self._patch is None:
                parts.append(tower(part).last_hidden_state)
                continue
            states = tower(part, output_hidden_states=True).hidden_states
            parts.append(token_grid(states[-2], self.size // int(self._patch)))
        return torch.cat(parts)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """See ImageEncoder."""
        network = self.network
        parts = []
        for part in self.batches(images):
            pooled = network.vision_model(part).pooler_output
            parts.append(network.visual_projection(pooled.flatten(1)))
        return functional.normalize(torch.cat(parts), dim=-1)

    def embed_text(self, texts: Sequence[str]) -> torch.Tensor:
        """See ImageTextEncoder."""
        parts = [
            self._embed_texts(list(texts[start : start + _TEXT_BATCH]))
            for start in range(0, len(texts), _TEXT_BATCH)
        ]
        if not parts:
            return torch.empty(0, int(self.network.config.projection_dim), device=self.device)
        return functional.normalize(torch.cat(parts), dim=-1)

    def _embed_texts(self, texts: list[str]) -> torch.Tensor:
        # cut here: the tokenizer logs about texts that only the model would find too long
        filled = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self.device)
        pooled = self.network.text_model(
            input_ids=filled["input_ids"], attention_mask=filled["attention_mask"]
        ).pooler_output
        return torch.as_tensor(self.network.text_projection(pooled))
