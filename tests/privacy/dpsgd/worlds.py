"""Small models with LoRA, rows of several patients, and the plain loop that engines must match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from privacy.dpsgd.engine import BLANK, PhysicalBatch

Forward = Callable[[nn.Module, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class World:
    """A frozen module with LoRA, a loss of each row, and patients with `rows_each` rows each.

    Row r belongs to patient `patients[r // rows_each]`, who has the place `r // rows_each`.
    """

    module: nn.Module
    loss: Forward  # (module, row indices) -> losses [rows]
    patients: tuple[int, ...]
    rows_each: int = 1
    largest_factors: float = 15.0  # deviation of random factors: all gradients are still finite

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.module.parameters() if p.requires_grad]

    def rows_of(self, patient: int) -> torch.Tensor:
        start = self.patients.index(patient) * self.rows_each
        return torch.arange(start, start + self.rows_each)

    def batch(self, patients: Sequence[int] | None = None) -> PhysicalBatch:
        """Everyone's places, with all rows of `patients` (default: everyone) in theirs.

        Blank rows may hold anything: here they repeat the first row.
        """
        wanted = self.patients if patients is None else patients
        standing = [patient if patient in wanted else BLANK for patient in self.patients]
        return self.standing(standing)

    def standing(self, patients: Sequence[int]) -> PhysicalBatch:
        """The batch in which place p holds `patients[p]`, or a blank."""
        blank = torch.zeros(self.rows_each, dtype=torch.int64)
        parts = [blank if one == BLANK else self.rows_of(one) for one in patients]
        rows = torch.cat(parts)
        names = torch.tensor(list(patients))
        return PhysicalBatch(names, lambda: self.loss(self.module, rows), self.rows_each)

    def without(self, patient: int) -> PhysicalBatch:
        return self.batch([other for other in self.patients if other != patient])

    def plain_gradient(self, patient: int) -> torch.Tensor:
        """Gradient of the patient's mean loss, row by row with ordinary autograd: float64 [P]."""
        total = torch.zeros(sum(p.numel() for p in self.parameters), dtype=torch.float64)
        for row in self.rows_of(patient):
            loss = self.loss(self.module, row[None]).sum()
            parts = torch.autograd.grad(loss, self.parameters)
            total += torch.cat([part.flatten() for part in parts]).double() / self.rows_each
        return total

    def with_loss(self, loss: Forward) -> World:
        return replace(self, loss=loss)


PATIENTS = (4, 0, 7, 2, 9)
ROWS_EACH = 2


ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
FEED_FORWARD = ["ff.net.0.proj", "ff.net.2"]
CONVOLUTIONS = [  # 3x3, 1x1, 3x3 with stride 2, and the projections around attention
    *("conv_in", "conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "proj_in", "proj_out")
]


def attach(module: nn.Module, targets: list[str], scale: float = 0.3) -> None:
    """LoRA of rank 2 and alpha 3 on `targets`: both halves random, everything else frozen."""
    module.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=3, target_modules=targets), module, "a")
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)


class Mixer(nn.Module):
    """Two linear layers over a sequence with a norm between them: the shapes of attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one = nn.Linear(width, width + 1)
        self.norm = nn.LayerNorm(width + 1)
        self.two = nn.Linear(width + 1, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(torch.nn.functional.gelu(self.norm(self.one(x))))


def mixer(
    patients: Sequence[int] = PATIENTS,
    rows_each: int = ROWS_EACH,
    *,
    width: int = 5,
    length: int = 4,
    dtype: torch.dtype = torch.float32,
) -> World:
    """Linear layers on [rows, length, width]; the gradients' norms differ widely."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        module = Mixer(width)
    attach(module, ["one", "two"])
    module.to(dtype)
    count = len(patients) * rows_each
    x = torch.randn(count, length, width, generator=generator).to(dtype)
    y = torch.randn(count, length, 3, generator=generator).to(dtype)
    y *= torch.logspace(-1, 2, count)[:, None, None]

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return (module(x[rows]) - y[rows]).square().mean(dim=(1, 2))

    return World(module, loss, tuple(patients), rows_each)


def conv_unet() -> World:
    """The same with LoRA on feed-forward layers and convolutions too."""
    world = unet(targets=[*ATTENTION, *FEED_FORWARD, *CONVOLUTIONS])
    return replace(world, largest_factors=2.0)


def frozen_a_unet() -> World:
    """The same as `conv_unet` with the first halves frozen (FFA-LoRA, arXiv 2403.12313)."""
    world = conv_unet()
    for name, parameter in world.module.named_parameters():
        if "lora_A" in name:
            parameter.requires_grad_(False)
    return replace(world, largest_factors=15.0)


def unet(targets: list[str] = ATTENTION) -> World:
    """A tiny UNet2DConditionModel with LoRA on all projections of its attention."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=12,
            attention_head_dim=4,
            norm_num_groups=4,
        )
    # A chain of large convolutions would amplify the rounding of the plain loop itself.
    attach(module, targets, 0.3 if targets == ATTENTION else 0.1)
    generator = torch.Generator().manual_seed(4)
    rows = len(PATIENTS) * ROWS_EACH
    latents = torch.randn(rows, 4, 8, 8, generator=generator)
    noise = torch.randn(rows, 4, 8, 8, generator=generator)
    noise *= torch.logspace(-1, 1, rows)[:, None, None, None]
    text = torch.randn(rows, 6, 12, generator=generator)
    times = torch.randint(0, 1000, (rows,), generator=generator)

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        out = module(latents[rows], times[rows], encoder_hidden_states=text[rows]).sample
        return (out - noise[rows]).square().mean(dim=(1, 2, 3))

    return World(module.eval(), loss, PATIENTS, ROWS_EACH)
