"""Encoders that know only images: ViT-style transformers and convolutional networks."""

from __future__ import annotations

import torch

from model.encoders.files import EncoderFiles
from model.encoders.interface import check_images
from model.encoders.loading import EncoderNetwork, crop_size, load_network, normalisation
from privacy.errors import ModelError

VIT_KINDS = frozenset({"vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit"})
CNN_KINDS = frozenset({"resnet", "convnext", "convnextv2"})
# these were trained at 518 px and are used at 224: their positions are interpolated
_INTERPOLATING = frozenset({"dinov2", "dinov2_with_registers", "dinov3_vit"})
_BATCH = 64
_CNN_SIZE = 224


def token_grid(sequence: torch.Tensor, side: int) -> torch.Tensor:
    """Tokens [n, k + side², D] to [n, D, side, side]; the first k are class and register tokens.

    Raises ModelError if there are fewer than side² tokens.
    """
    n, length, width = sequence.shape
    if length < side * side:
        raise ModelError(
            f"The encoder returned {length} tokens for a grid of {side} x {side}.",
            "Its config.json does not fit its weights: get the encoder again.",
        )
    return sequence[:, -side * side :].transpose(1, 2).reshape(n, width, side, side)


class FrozenNetwork:
    """Shared by both: files, normalisation, batches of bounded memory; subclasses set `size`."""

    size: int

    def __init__(self, files: EncoderFiles, device: torch.device) -> None:
        self.network: EncoderNetwork = load_network(files).to(device)
        self.name, self.digest = files.source, files.digest()
        self.device = device
        mean, std = normalisation(files)
        self._mean, self._std = mean.to(device), std.to(device)

    def batches(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Checked and normalised images, in parts of at most 64."""
        check_images(images, self.size)
        scaled = (images.to(self.device, torch.float32) - self._mean) / self._std
        return list(torch.split(scaled, _BATCH))


class VitEncoder(FrozenNetwork):
    """ViT, DeiT, DINOv2, DINOv3: `embed` is the class token after the last layer norm."""

    def __init__(self, files: EncoderFiles, device: torch.device) -> None:
        super().__init__(files, device)
        trained = int(self.network.config.image_size)
        self.size = crop_size(files) or trained if files.kind in _INTERPOLATING else trained
        self._grid = self.size // int(self.network.config.patch_size)

    def _sequence(self, images: torch.Tensor) -> torch.Tensor:
        parts = [self.network(part).last_hidden_state for part in self.batches(images)]
        return torch.cat(parts)

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """See ImageEncoder."""
        return token_grid(self._sequence(images), self._grid)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """See ImageEncoder."""
        return self._sequence(images)[:, 0]


class CnnEncoder(FrozenNetwork):
    """ResNet, ConvNeXt: tokens are the last feature map, `embed` its mean."""

    def __init__(self, files: EncoderFiles, device: torch.device) -> None:
        super().__init__(files, device)
        self.size = crop_size(files) or int(files.config.get("image_size", _CNN_SIZE))

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """See ImageEncoder."""
        return torch.cat([self.network(part).last_hidden_state for part in self.batches(images)])

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """See ImageEncoder."""
        return self.tokens(images).mean(dim=(2, 3))
