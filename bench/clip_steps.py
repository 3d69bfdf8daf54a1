"""The training steps that `bench.clip` compares: one without privacy, four with clipping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from bench.training import TrainingStep
from model.adapters import attach, parameters
from privacy.dpsgd.engine import PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.study.manifest import Adapter

CLIPPING_NORM: Final = 1e-3  # below most rows' norms, so that clipping has an effect
STEP_SIZE: Final = 1e-4

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
_CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut")

TARGET_SETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "attn": _ATTENTION,
        "attn+ff": (*_ATTENTION, *_FEED_FORWARD),
        "attn+ff+conv": (*_ATTENTION, *_FEED_FORWARD, *_CONVOLUTIONS),
    }
)


@dataclass(frozen=True)
class Shape:
    """The dimensions of a UNet2DConditionModel and of its inputs."""

    channels: tuple[int, ...]
    layers: int  # residual layers a block
    latents: int  # height and width
    text: tuple[int, int]  # length and width of the caption's embedding
    heads: int  # diffusers' attention_head_dim


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "tiny": Shape((16, 32), 1, 8, (6, 12), 4),  # for --quick and the tests
        "small": Shape((64, 128, 256), 1, 16, (24, 128), 8),  # 128 px tiles
        "sd15": Shape((320, 640, 1280, 1280), 2, 32, (77, 768), 8),  # Stable Diffusion 1.5, 256 px
    }
)


@dataclass(frozen=True)
class ClipSetting:
    """What one step trains. Every row of the batch is a patient of its own."""

    shape: str
    targets: str
    batch: int
    rank: int = 4
    device: str = "cpu"
    precision: str = "float32"  # or "bf16": autocast


class ClipTask:
    """A UNet with a LoRA adapter and one batch; always the same numbers."""

    def __init__(self, setting: ClipSetting) -> None:
        shape = SHAPES[setting.shape]
        torch.manual_seed(0)
        with torch.device(setting.device):  # created on the device: a GPU fills it almost at once
            self.unet = unet_of(shape).train()
        targets = TARGET_SETS[setting.targets]
        layout = attach(self.unet, Adapter(rank=setting.rank, alpha=setting.rank, targets=targets))
        self.parameters = parameters(self.unet, layout)
        with torch.no_grad():
            for parameter in self.parameters:
                parameter.normal_(std=0.02)
        self.batch = setting.batch
        self._setting = setting
        size = (setting.batch, 4, shape.latents, shape.latents)
        self._latents, self._noise = torch.randn(2, *size).to(setting.device)
        self._text = torch.randn(setting.batch, *shape.text).to(setting.device)
        self._times = torch.randint(0, 1000, (setting.batch,)).to(setting.device)

    def losses(self, network: Callable[..., Any] | None = None) -> Tensor:
        """The denoising loss of every row, [batch]. `network`: the UNet as an engine wraps it."""
        bf16 = self._setting.precision == "bf16"
        with torch.autocast(self._setting.device, torch.bfloat16, enabled=bf16):
            predicted = (network or self.unet)(
                self._latents, self._times, self._text, return_dict=False
            )[0]
        losses: Tensor = (predicted.float() - self._noise).square().flatten(1).mean(dim=1)
        return losses

    def optimizer(self) -> torch.optim.Optimizer:
        """Plain SGD over the adapter."""
        return torch.optim.SGD(self.parameters, lr=STEP_SIZE)


def unet_of(shape: Shape) -> Any:  # noqa: ANN401 - diffusers is untyped
    """A UNet of this shape with random weights."""
    kind: Any = UNet2DConditionModel
    deeper = len(shape.channels) - 1
    return kind(
        sample_size=shape.latents,
        block_out_channels=shape.channels,
        layers_per_block=shape.layers,
        down_block_types=("CrossAttnDownBlock2D",) * deeper + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * deeper,
        cross_attention_dim=shape.text[1],
        attention_head_dim=shape.heads,
        norm_num_groups=min(32, shape.channels[0] // 4),
    )


def plain(task: ClipTask) -> TrainingStep:
    """An ordinary LoRA step: forward, backward, SGD."""
    optimizer = task.optimizer()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        task.losses().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def lora(task: ClipTask) -> TrainingStep:
    """The same with this project's engine."""
    optimizer = task.optimizer()
    engine = LoraEngine(task.unet, task.parameters)
    batch = PhysicalBatch(torch.arange(task.batch), task.losses)

    def step() -> None:
        total = engine.clipped_sum([batch], CLIPPING_NORM).total.float()
        sizes = [parameter.numel() for parameter in task.parameters]
        parts = torch.split(total, sizes)
        for parameter, part in zip(task.parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def opacus_hooks(task: ClipTask) -> TrainingStep:
    """opacus with its rules for layers: GradSampleModule and DPOptimizer, noise 0."""
    return _opacus(task, functorch=False)


def opacus_functorch(task: ClipTask) -> TrainingStep:
    """opacus with functorch instead of its rules."""
    return _opacus(task, functorch=True)


def _opacus(task: ClipTask, *, functorch: bool) -> TrainingStep:
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer

    wrapped = GradSampleModule(task.unet, loss_reduction="sum", force_functorch=functorch)
    optimizer = DPOptimizer(task.optimizer(), **_constants(task))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        task.losses(wrapped).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def opacus_ghost(task: ClipTask) -> TrainingStep:
    """opacus' ghost clipping: norms without gradients, and a second backward pass."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

    wrapped = GradSampleModuleFastGradientClipping(
        task.unet, loss_reduction="sum", max_grad_norm=CLIPPING_NORM, use_ghost_clipping=True
    )
    optimizer = DPOptimizerFastGradientClipping(task.optimizer(), **_constants(task))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        losses = task.losses(wrapped)
        DPTensorFastGradientClipping(wrapped, optimizer, losses, "sum").backward()
        optimizer.step()

    return step


def _constants(task: ClipTask) -> dict[str, Any]:
    """No noise: only clipping is compared. A sum, like ours."""
    return {
        "noise_multiplier": 0.0,
        "max_grad_norm": CLIPPING_NORM,
        "expected_batch_size": task.batch,
        "loss_reduction": "sum",
    }


CLIP_STEPS: Mapping[str, Callable[[ClipTask], TrainingStep]] = MappingProxyType(
    {
        "lora": lora,
        "opacus-hooks": opacus_hooks,
        "opacus-ghost": opacus_ghost,
        "opacus-functorch": opacus_functorch,
    }
)


def make_clip_step(engine: str, setting: ClipSetting) -> TrainingStep:
    """A step of `engine`, or of "plain", on its own task."""
    make = plain if engine == "plain" else CLIP_STEPS[engine]
    return make(ClipTask(setting))
