"""What is particular to the engine for LoRA."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from privacy.dpsgd.engine import PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.opacus_engine import OpacusEngine
from privacy.errors import AccountingError, ModelError
from tests.privacy.dpsgd.worlds import World, conv_unet, mixer, unet

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

HUGE = 1e3


def engine_of(world: World) -> LoraEngine:
    return LoraEngine(world.module, world.parameters)


def close(ours: torch.Tensor, theirs: torch.Tensor, within: float = 1e-5) -> bool:
    return bool((ours - theirs).norm() <= within * theirs.norm())


def test_nothing_stays_on_the_module() -> None:
    world = conv_unet()
    before = [dict(vars(part)) for part in world.module.modules()]
    with engine_of(world) as engine:
        engine.clipped_sum([world.batch()], 1.0)
    after = [dict(vars(part)) for part in world.module.modules()]
    assert [sorted(part) for part in after] == [sorted(part) for part in before]


def test_no_weight_gets_a_gradient() -> None:
    """Only per-patient gradients are formed: none is summed over the batch beside them."""
    world = conv_unet()
    seen: list[bool] = []
    for parameter in world.parameters:
        parameter.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad is not None))
    engine_of(world).clipped_sum([world.batch()], 1.0)
    assert not any(seen)
    seen.clear()
    world.loss(world.module, torch.arange(2)).sum().backward()
    assert seen == [True] * len(world.parameters)


def test_one_backward_pass_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[None] = []
    real = torch.Tensor.backward
    monkeypatch.setattr(
        torch.Tensor, "backward", lambda *args: (passes.append(None), real(*args))[1]
    )
    world = mixer()
    engine_of(world).clipped_sum((world.batch([patient]) for patient in world.patients), 1.0)
    assert len(passes) == len(world.patients)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("make", [mixer, conv_unet])
def test_checkpointing_changes_nothing(make: Callable[[], World], reentrant: bool) -> None:
    world = make()

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        one = torch.ones((), requires_grad=True)  # the reentrant kind needs an input with gradient
        return checkpoint(lambda one: world.loss(module, rows) * one, one, use_reentrant=reentrant)

    engine = engine_of(world)
    expected = engine.clipped_sum([world.batch()], 1.0)
    found = engine.clipped_sum([world.with_loss(loss).batch()], 1.0)
    assert close(found.total, expected.total, 1e-6)


def test_the_unets_own_checkpointing_changes_nothing() -> None:
    world = conv_unet()
    engine = engine_of(world)
    expected = engine.clipped_sum([world.batch()], 1.0).total
    world.module.enable_gradient_checkpointing()
    world.module.train()
    calls: list[None] = []
    leaf = next(part for name, part in world.module.named_modules() if name.endswith("attn1.to_q"))
    leaf.register_forward_hook(lambda *_: calls.append(None))
    assert close(engine.clipped_sum([world.batch()], 1.0).total, expected, 1e-6)
    assert len(calls) == 2  # it was really computed again


def test_a_pass_whose_gradient_is_thrown_away_counts_nothing() -> None:
    world = mixer()
    thrown = world.with_loss(
        lambda module, rows: world.loss(module, rows) + world.loss(module, rows).detach()
    )
    engine = engine_of(world)
    expected = engine.clipped_sum([world.batch()], 1.0).total
    assert torch.equal(engine.clipped_sum([thrown.batch()], 1.0).total, expected)


def test_a_loss_may_take_a_gradient_of_its_own() -> None:
    """As guidance does; what flows through the adapter there is no gradient of the loss."""
    world = mixer()

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        scale = torch.ones(len(rows), requires_grad=True)
        inner = world.loss(module, rows) * scale
        weight = torch.autograd.grad(inner.sum(), scale)[0]
        return world.loss(module, rows) * weight

    guided = world.with_loss(loss)
    expected = sum(guided.plain_gradient(patient) for patient in world.patients)
    assert close(engine_of(world).clipped_sum([guided.batch()], 1e3 * HUGE).total, expected)


def test_a_weight_used_past_its_layer_is_refused() -> None:
    world = mixer()
    weight = world.parameters[0]
    around = world.with_loss(lambda module, rows: world.loss(module, rows) + weight.square().sum())
    engine = engine_of(world)
    with pytest.raises(AccountingError, match="row by row"):
        engine.clipped_sum([around.batch()], 1.0)
    assert weight.grad is None
    assert engine.clipped_sum([world.batch()], 1.0).total.norm() > 0


def test_a_forward_that_was_replaced_already_is_refused() -> None:
    world = mixer()
    leaf = world.module.one.lora_A["a"]
    leaf.forward = leaf.forward
    engine = engine_of(world)
    with pytest.raises(ModelError, match="forward of its own"):
        engine.clipped_sum([world.batch()], 1.0)
    assert "forward" in vars(leaf)


def test_a_compiled_model_is_refused() -> None:
    world = mixer()
    world.module.compile()
    with pytest.raises(ModelError, match="compiled model"):
        engine_of(world).clipped_sum([], 1.0)


def test_a_tied_layer_adds_up() -> None:
    world = mixer(width=3)
    world.module.two.lora_A["a"].weight = nn.Parameter(world.module.two.lora_A["a"].weight.data)
    twice = world.with_loss(
        lambda module, rows: world.loss(module, rows) + 2 * world.loss(module, rows).sqrt()
    )
    expected = sum(twice.plain_gradient(patient) for patient in world.patients)
    assert close(engine_of(world).clipped_sum([twice.batch()], HUGE).total, expected)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 2, 3, padding=1),
        nn.Conv2d(4, 2, 3),
        nn.Conv2d(4, 2, (3, 1), padding=(1, 0), bias=False),
        nn.Conv2d(4, 2, 3, stride=2, padding=1),
        nn.Conv2d(4, 2, 3, dilation=2, padding=2),
        nn.Conv2d(4, 2, 3, padding=4),
        nn.Conv2d(4, 9, 1, bias=False),
        nn.Conv2d(4, 3, 1, stride=2),
        nn.Conv2d(4, 3, 1, padding=1),
        nn.Linear(7, 3),
        nn.Linear(7, 12, bias=False),
    ],
    ids=str,
)
@pytest.mark.parametrize("unfolded", [None, 200])
def test_every_geometry(
    layer: nn.Module, unfolded: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if unfolded:  # a limit that makes large batches go through in parts
        monkeypatch.setattr("privacy.dpsgd.lora_leaves._UNFOLDED", unfolded)
    module = nn.Sequential(nn.Conv2d(4, 4, 1).requires_grad_(False), layer, nn.Tanh())
    x = torch.randn(6, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    x[3] *= 10
    world = World(
        module, lambda module, rows: module(x[rows]).square().mean((1, 2, 3)), (2, 0, 1), 2
    )
    engine = engine_of(world)
    for patient in world.patients:
        total = engine.clipped_sum([world.batch([patient])], HUGE).total
        assert close(total, world.plain_gradient(patient))
    clip = 0.9 * min(float(world.plain_gradient(patient).norm()) for patient in world.patients)
    with OpacusEngine(module, world.parameters) as oracle:
        expected = oracle.clipped_sum([world.batch()], clip).total
    assert close(engine.clipped_sum([world.batch()], clip).total, expected)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(4, 3, 3)], ids=["linear", "conv"])
def test_half_a_layer_may_be_frozen(layer: nn.Module, frozen: str) -> None:
    getattr(layer, frozen).requires_grad_(False)
    x = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    world = World(
        layer,
        lambda module, rows: module(x[rows]).square().mean((1, 2, 3)),
        (0, 1),
        2,
    )
    expected = sum(world.plain_gradient(patient) for patient in world.patients)
    assert close(engine_of(world).clipped_sum([world.batch()], HUGE).total, expected)
    layer.requires_grad_(True)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Embedding(3, 3),
        nn.Conv1d(4, 2, 3),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 2, 3, padding="same"),
        nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular"),
        nn.LayerNorm(3),
    ],
    ids=str,
)
def test_layers_without_a_rule_are_refused(layer: nn.Module) -> None:
    with pytest.raises(ModelError, match="No rule for"):
        LoraEngine(layer, list(layer.parameters()))


def test_what_else_is_trainable_is_refused() -> None:
    world = mixer()
    world.module.norm.requires_grad_(True)
    with pytest.raises(ModelError, match="4 parameters to clip, 6 trainable"):
        LoraEngine(world.module, world.parameters[:2] + world.parameters[4:])


def test_bf16_autocast_keeps_the_gradient_and_the_clip() -> None:
    world = conv_unet()

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return world.loss(module, rows)

    low = world.with_loss(loss)
    engine = engine_of(world)
    for patient in world.patients:
        full = world.plain_gradient(patient)
        ours = engine.clipped_sum([low.batch([patient])], HUGE).total
        # As far from the true gradient as autograd's own under autocast, and no farther.
        assert (ours - full).norm() <= 1.5 * (low.plain_gradient(patient) - full).norm()
        clip = 0.5 * float(full.norm())
        clipped = engine.clipped_sum([low.batch([patient])], clip).total
        assert clip * (1 - 1e-6) <= clipped.norm() <= clip * (1 + 1e-6)


def test_inputs_are_kept_in_the_precision_of_autocast() -> None:
    world = mixer()
    kept: list[torch.dtype] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.dtype)
        return tensor

    leaf = world.module.one.lora_A["a"]
    for parameter in world.parameters:
        parameter.requires_grad_(parameter is leaf.weight)
    x = torch.ones(2, 4, 5)

    def losses() -> torch.Tensor:
        saving = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with torch.autocast("cpu", dtype=torch.bfloat16), saving:
            return leaf(x).float().mean((1, 2))

    engine = LoraEngine(world.module, [leaf.weight])
    engine.clipped_sum([PhysicalBatch(torch.tensor([0, 1]), losses)], 1.0)
    assert kept.count(torch.bfloat16) == 2  # input and weight, as autocast itself keeps them
    assert torch.float32 not in kept


def test_a_bf16_base_with_a_float32_adapter() -> None:
    world = unet()
    world.module.to(torch.bfloat16)
    for parameter in world.parameters:
        parameter.data = parameter.data.float()

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(10, 4, 8, 8, generator=generator)[rows].bfloat16()
        text = torch.randn(10, 6, 12, generator=generator)[rows].bfloat16()
        out = module(x, rows, encoder_hidden_states=text).sample
        return out.float().square().mean((1, 2, 3))

    low = world.with_loss(loss)
    engine = engine_of(low)
    for patient in low.patients:
        ours = engine.clipped_sum([low.batch([patient])], 1e-3).total
        assert 1e-3 * (1 - 1e-6) <= ours.norm() <= 1e-3 * (1 + 1e-6)


def test_a_compiled_wrapper_is_refused() -> None:
    world = mixer()
    wrapped = torch.compile(world.module)  # lazy: nothing is compiled here
    with pytest.raises(ModelError, match="compiled model"):
        LoraEngine(wrapped, world.parameters).clipped_sum([], 1.0)
