"""A random Stable-Diffusion-shaped pipeline, made in about a second: the fast tests' base model.

64x64 pixels, 4x16x16 latents unless asked for others, weights drawn from a fixed seed. It draws
noise, not tissue: use the shipped weights where a picture matters.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TEXT_WIDTH = 32
TEXT_LENGTH = 16


def build_tiny_base(
    folder: Path,
    *,
    seed: int = 0,
    prediction_type: str = "epsilon",
    latents: int = 16,
    channels: tuple[int, int] = (32, 64),
) -> Path:
    """Write the pipeline into `folder` (made if absent) and return it; same seed, same files.

    With half the channels a training step takes two thirds of the time.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionPipeline(
            vae=_autoencoder(4 * latents),
            text_encoder=_text_encoder(),
            tokenizer=_tokenizer(),
            unet=_unet(latents, channels),
            scheduler=DDIMScheduler(
                clip_sample=False, steps_offset=1, prediction_type=prediction_type
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def _unet(latents: int, channels: tuple[int, int]) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=latents,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=channels[0] // 4,
    )


def _autoencoder(pixels: int) -> AutoencoderKL:
    return AutoencoderKL(
        sample_size=pixels,
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
    )


def _text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TEXT_LENGTH,
        bos_token_id=_vocabulary()["<|startoftext|>"],
        eos_token_id=_vocabulary()["<|endoftext|>"],
    )
    return CLIPTextModel(config)


def _tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer without merges: one token a byte."""
    return CLIPTokenizer(vocab=_vocabulary(), merges=[], model_max_length=TEXT_LENGTH)


def _vocabulary() -> dict[str, int]:
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}
