"""What stage one of the tiny base does: sizes, step counts, seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CHECKPOINTS = ".checkpoints"  # a folder in the output folder, removed at the end

# on_progress(stage, step, steps)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Recipe:
    """Fixed step counts, so that the same recipe and seed make the same model on the same machine.

    `tiles` are in H&E, `palettes` in other dyes, which their captions name. So many of the
    autoencoder's first steps as `autoencoder_crops` are on quarters of twice as many tiles, at half
    the price. `shards`: how many threads compute a batch on a CPU; unlike threads within each
    operation, they meet once a step.
    """

    seed: int = 2026
    tiles: int = 24_000
    palettes: int = 12_000
    held_out: int = 960
    vocabulary: int = 1200
    autoencoder_steps: int = 1600
    autoencoder_crops: int = 1100
    autoencoder_batch: int = 16
    autoencoder_rate: float = 2e-3
    judge_steps: int = 500
    judge_batch: int = 64
    diffusion_steps: int = 5000
    diffusion_batch: int = 32
    diffusion_rate: float = 1e-3
    caption_dropout: float = 0.1
    ema_decay: float = 0.999
    shards: int = 2
    checkpoint_every: int = 300

    @classmethod
    def continued(cls) -> Recipe:
        """What a base of H&E alone still has to learn: the other dyes, half of what it sees."""
        return cls(
            tiles=12_000,
            autoencoder_steps=1200,
            autoencoder_crops=900,
            diffusion_steps=3000,
            diffusion_rate=5e-4,
            ema_decay=0.995,
            checkpoint_every=100,
        )

    @classmethod
    def smoke(cls) -> Recipe:
        """A run of seconds that exercises every stage and learns nothing."""
        return cls(
            tiles=96,
            palettes=48,
            held_out=48,
            autoencoder_steps=5,
            autoencoder_crops=2,
            autoencoder_batch=4,
            judge_steps=5,
            judge_batch=8,
            diffusion_steps=5,
            diffusion_batch=4,
            checkpoint_every=3,
        )
