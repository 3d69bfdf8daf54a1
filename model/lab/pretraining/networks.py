"""The networks of the tiny base, untrained: autoencoder, text encoder, UNet, scheduler."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from model.adapters import Unet
from model.lab.pretraining.tokenizer import MAX_LENGTH
from model.losses import Scheduler

TEXT_WIDTH = 96


# diffusers is untyped: its classes carry methods that a type checker cannot see
Autoencoder: TypeAlias = Any


def make_autoencoder() -> Autoencoder:
    """64 x 64 x 3 to 16 x 16 x 4 and back; only convolutions."""
    kind: Any = AutoencoderKL
    return kind(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        sample_size=64,
        block_out_channels=(24, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two CLIP layers over the small vocabulary."""
    return CLIPTextModel(text_config(tokenizer, TEXT_WIDTH, TEXT_WIDTH))


def text_config(tokenizer: CLIPTokenizer, width: int, projected: int) -> CLIPTextConfig:
    """Two CLIP layers of `width`, over the tokenizer's words, projected to `projected` numbers."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=256,
        projection_dim=projected,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def make_unet() -> Unet:
    """Two resolutions, 16 x 16 and 8 x 8; attention only at the cheaper one."""
    kind: Any = UNet2DConditionModel
    return kind(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def make_scheduler() -> Scheduler:
    """Stable Diffusion's noise schedule; clip_sample would cut the latents, which pass 1."""
    kind: Any = DDIMScheduler
    return kind(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def training_device() -> torch.device:
    """The GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parameter_count(*modules: nn.Module) -> int:
    """Number of parameters of all modules together."""
    return sum(p.numel() for module in modules for p in module.parameters())
