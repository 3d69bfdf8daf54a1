"""What is particular to the engine on opacus' hooks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from privacy.dpsgd.engine import PhysicalBatch
from privacy.dpsgd.opacus_engine import OpacusEngine
from privacy.errors import AccountingError, ModelError
from tests.privacy.dpsgd.worlds import World, mixer, unet

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def hooked(module: nn.Module) -> set[str]:
    return {
        name for name, part in module.named_modules() if part._forward_hooks or part._backward_hooks
    }


@pytest.mark.parametrize("make", [mixer, unet])
def test_only_the_lora_leaves_are_hooked(make: type[World]) -> None:
    world = make()
    with OpacusEngine(world.module, world.parameters):
        names = hooked(world.module)
        assert len(names) == len(world.parameters)
        assert all("lora_" in name for name in names)
    assert hooked(world.module) == set()


def test_no_gradient_of_a_frozen_weight_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = unet()
    shapes: list[tuple[int, ...]] = []
    real = nn.functional.linear

    def watched(x: torch.Tensor, weight: torch.Tensor, bias: object = None) -> torch.Tensor:
        out = real(x, weight, bias)
        if out.requires_grad and not isinstance(weight, nn.Parameter):
            raise AssertionError("a weight that is no parameter")
        if weight.requires_grad:
            shapes.append(tuple(weight.shape))
        return out

    monkeypatch.setattr(nn.functional, "linear", watched)
    with OpacusEngine(world.module, world.parameters) as engine:
        engine.clipped_sum([world.batch()], 1.0)
    assert len(shapes) == len(world.parameters)
    assert all(2 in shape for shape in shapes)  # the rank: nothing but LoRA asks for a gradient
    assert all(parameter.grad is None for parameter in world.module.parameters())


def test_something_else_left_trainable_is_refused() -> None:
    world = mixer()
    world.module.norm.requires_grad_(True)
    with pytest.raises(ModelError, match="4 parameters to clip, 6 trainable"):
        OpacusEngine(world.module, world.parameters[:2] + world.parameters[4:])


@pytest.mark.parametrize("wrong", [[], "twice", "missing"])
def test_a_wrong_list_of_parameters_is_refused(wrong: object) -> None:
    world = mixer()
    lists = {"twice": [*world.parameters, world.parameters[0]], "missing": world.parameters[1:]}
    with pytest.raises(ModelError, match="parameters to clip"):
        OpacusEngine(world.module, lists[wrong] if isinstance(wrong, str) else [])


class OddLinear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).flip(-1)


@pytest.mark.parametrize(
    "layer",
    [OddLinear(3, 3), nn.MultiheadAttention(4, 2), nn.BatchNorm1d(3), nn.PReLU()],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_without_a_rule_are_refused(layer: nn.Module) -> None:
    with pytest.raises(ModelError, match="No rule for"):
        OpacusEngine(layer, list(layer.parameters()))


def test_a_second_engine_on_the_same_module_is_refused() -> None:
    world = mixer()
    first = OpacusEngine(world.module, world.parameters)
    with pytest.raises(ModelError, match="cannot be clipped"):
        OpacusEngine(world.module, world.parameters)
    first.close()
    first.close()
    with OpacusEngine(world.module, world.parameters) as engine:
        assert engine.size == sum(parameter.numel() for parameter in world.parameters)


def test_a_pass_whose_gradient_is_thrown_away_is_refused() -> None:
    world = mixer()

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return world.loss(module, rows) + world.loss(module, rows).detach()

    with OpacusEngine(world.module, world.parameters) as engine:
        with pytest.raises(AccountingError, match="no_grad"):
            engine.clipped_sum([world.with_loss(loss).batch()], 1.0)
        assert engine.clipped_sum([world.batch()], 1.0).total.norm() > 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_is_right_or_refused_never_wrong(reentrant: bool) -> None:
    world = mixer()
    module = world.module

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        dummy = torch.ones((), requires_grad=True)  # the reentrant kind needs an input with one

        def run(one: torch.Tensor) -> torch.Tensor:
            return world.loss(module, rows) * one

        return checkpoint(run, dummy, use_reentrant=reentrant)

    with OpacusEngine(module, world.parameters) as engine:
        expected = engine.clipped_sum([world.batch()], 1.0).total
        try:
            total = engine.clipped_sum([world.with_loss(loss).batch()], 1.0).total
        except AccountingError:
            return
        assert (total - expected).norm() <= 1e-5 * expected.norm()


def test_sampling_images_leaves_no_activations() -> None:
    world = mixer()
    with OpacusEngine(world.module, world.parameters) as engine:
        world.module.train()
        world.module(torch.ones(2, 4, 5)).sum().backward()
        assert not any(hasattr(part, "activations") for part in world.module.modules())
        assert engine.clipped_sum([], 1.0).patients == 0


def test_convolutions_and_embeddings_are_clipped_too() -> None:
    module = nn.Sequential(nn.Embedding(7, 6), nn.Conv1d(4, 2, 3), nn.GroupNorm(1, 2)).eval()
    rows = torch.arange(16).reshape(4, 4) % 7
    batch = PhysicalBatch(torch.tensor([0, 1]), lambda: module(rows).square().mean(dim=(1, 2)), 2)
    with OpacusEngine(module, list(module.parameters())) as engine:
        total = engine.clipped_sum([batch], 1e3).total
    losses = module(rows).square().mean(dim=(1, 2))
    parts = torch.autograd.grad(losses.sum() / 2, list(module.parameters()))
    plain = torch.cat([part.flatten() for part in parts])
    assert (total - plain).norm() <= 1e-5 * plain.norm()
