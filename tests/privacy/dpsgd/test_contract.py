"""The contract of `ClippingEngine`: every engine runs through all of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from privacy.dpsgd.clipping import GRID_BITS
from privacy.dpsgd.engine import BLANK, ClippingEngine
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.errors import AccountingError, ModelError
from tests.privacy.dpsgd.engines import ENGINES, Make
from tests.privacy.dpsgd.worlds import World, conv_unet, frozen_a_unet, mixer, unet

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

HUGE = 1e3  # a clipping norm that clips nothing; the grid is 1e-9 then
HUGER = 1e6  # for losses that multiply losses


@pytest.fixture(params=ENGINES["argvalues"], ids=ENGINES["ids"])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


@dataclass(frozen=True)
class Pattern:
    """A world to copy, and the plain loop's gradient of each of its patients: float64 [P]."""

    world: World
    gradients: Mapping[int, torch.Tensor]

    @property
    def norms(self) -> list[float]:
        return [float(gradient.norm()) for gradient in self.gradients.values()]


@pytest.fixture(
    scope="module",
    params=[mixer, unet, conv_unet, frozen_a_unet],
    ids=["mixer", "unet", "conv", "frozen-a"],
)
def pattern(request: pytest.FixtureRequest) -> Pattern:
    """Made once: the plain loop takes longer than most of the tests."""
    world = request.param()
    gradients = {patient: world.plain_gradient(patient) for patient in world.patients}
    return Pattern(world, gradients)


@pytest.fixture
def world(pattern: Pattern) -> World:
    return replace(pattern.world, module=copy.deepcopy(pattern.world.module))


@pytest.fixture
def engine(make: Make, world: World) -> Iterator[ClippingEngine]:
    yield make(world)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def norms(world: World) -> list[float]:
    return [float(world.plain_gradient(patient).norm()) for patient in world.patients]


def clipped(gradient: torch.Tensor, clipping_norm: float) -> torch.Tensor:
    return gradient * min(1.0, clipping_norm / float(gradient.norm()))


def units(total: torch.Tensor, clip: float) -> torch.Tensor:
    """The integers that were added up: in units of C 2^-40, of which every sum is a multiple."""
    return (total / (clip * 2.0**-GRID_BITS)).round().long()


def test_each_patients_gradient_is_the_plain_loops(
    pattern: Pattern, world: World, engine: ClippingEngine
) -> None:
    everyone = engine.clipped_sum([world.batch()], HUGE)
    assert (everyone.patients, everyone.dropped) == (len(world.patients), 0)
    for patient, plain in pattern.gradients.items():
        alone = engine.clipped_sum([world.batch([patient])], HUGE).total
        within = everyone.total - engine.clipped_sum([world.without(patient)], HUGE).total
        assert relative(alone, plain) <= 1e-5
        assert (within - plain).norm() <= 1e-5 * max(pattern.norms)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 1.0])
def test_the_sum_is_of_clipped_gradients(
    pattern: Pattern, world: World, engine: ClippingEngine, quantile: float
) -> None:
    clip = float(torch.tensor(pattern.norms).quantile(quantile)) * 0.999
    expected = sum(clipped(gradient, clip) for gradient in pattern.gradients.values())
    assert relative(engine.clipped_sum([world.batch()], clip).total, expected) <= 1e-5


@pytest.mark.parametrize("shrink", [1.0, 1e-3])
def test_one_patient_moves_the_sum_by_at_most_the_clip(
    pattern: Pattern, world: World, engine: ClippingEngine, shrink: float
) -> None:
    clip = min(pattern.norms) * shrink  # everyone is clipped
    batches = [world.batch([patient]) for patient in world.patients]
    apart = engine.clipped_sum(batches, clip).total
    joint = engine.clipped_sum([world.batch()], clip).total
    for position, patient in enumerate(world.patients):
        rest = [batch for index, batch in enumerate(batches) if index != position]
        for moved in (
            apart - engine.clipped_sum(rest, clip).total,
            joint - engine.clipped_sum([world.without(patient)], clip).total,
        ):
            assert clip * (1 - 1e-6) <= moved.norm() <= clip * (1 + 1e-6)


@pytest.mark.parametrize("share", [0.02, 0.2, 1.0])
def test_a_hostile_adapter_moves_it_by_no_more(
    pattern: Pattern, world: World, engine: ClippingEngine, share: float
) -> None:
    """Large factors amplify the last bits, in which a row of another batch would differ."""
    clip = 1e-3 * min(pattern.norms)
    generator = torch.Generator().manual_seed(6)
    for parameter in world.parameters:
        factors = torch.randn(parameter.shape, generator=generator)
        parameter.data = share * world.largest_factors * factors
    joint = engine.clipped_sum([world.batch()], clip)
    assert joint.dropped == 0  # a gradient that is not finite would move nothing
    for patient in world.patients:
        moved = joint.total - engine.clipped_sum([world.without(patient)], clip).total
        assert clip * (1 - 1e-6) <= moved.norm() <= clip * (1 + 1e-6)
        alone = engine.clipped_sum([world.batch([patient])], clip).total
        assert torch.equal(units(moved, clip), units(alone, clip))


@pytest.mark.parametrize("filler", ["other", math.nan, math.inf, 1e38, 1e-40, 0.0])
def test_what_others_hold_changes_not_one_bit(
    world: World, engine: ClippingEngine, filler: float | str
) -> None:
    """Bit for bit, before any clip: blanks, other rows, values that poison, denormal ones."""
    kept = torch.tensor([True, False, True, False, True])

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        losses = world.loss(module, rows)
        if filler == "other":
            return losses
        return losses * torch.where(kept.repeat_interleave(world.rows_each), 1.0, filler)

    wanted = engine.gradients(world.batch()).values.clone()
    if filler == "other":
        changed = world.standing([world.patients[0], 9, world.patients[2], 4, world.patients[4]])
        changed = replace(changed, patients=torch.tensor([4, BLANK, 7, BLANK, 9]))
    else:
        changed = world.with_loss(loss).batch()
    found = engine.gradients(changed)
    assert torch.equal(found.values[kept], wanted[kept])
    assert found.usable[kept].all()
    if filler in (math.nan, math.inf) or filler == "other":
        assert not found.usable[~kept].any()


def test_the_others_contributions_stay(
    pattern: Pattern, world: World, engine: ClippingEngine
) -> None:
    clip = float(torch.tensor(pattern.norms).median())
    total = engine.clipped_sum([world.batch()], clip).total
    for patient in world.patients:
        rest = engine.clipped_sum([world.without(patient)], clip).total
        own = engine.clipped_sum([world.batch([patient])], clip).total
        assert torch.equal(units(total, clip), units(own, clip) + units(rest, clip))
        assert relative(own, clipped(pattern.gradients[patient], clip)) <= 1e-5


def test_what_each_place_adds_is_its_own(
    pattern: Pattern, world: World, engine: ClippingEngine
) -> None:
    """The same clip in integers, place by place; with one blank, the others' bits are the same."""
    clip = float(torch.tensor(pattern.norms).median())
    (everyone,) = engine.contributions([world.batch()], clip)
    assert everyone.dtype == torch.int32
    for place, patient in enumerate(world.patients):
        own = everyone[place].double() * clip * 2.0**-CONTRIBUTION_BITS
        assert relative(own, clipped(pattern.gradients[patient], clip)) <= 1e-5
        assert sum(int(number) ** 2 for number in everyone[place]) <= 4**CONTRIBUTION_BITS
        (rest,) = engine.contributions([world.without(patient)], clip)
        assert not rest[place].any()
        others = torch.arange(len(world.patients)) != place
        assert torch.equal(rest[others], everyone[others])


def test_contributions_come_batch_after_batch_of_blanks_too(
    world: World, engine: ClippingEngine
) -> None:
    blank, some = engine.contributions([world.batch([]), world.batch([4])], 1.0)
    assert not blank.any()
    assert some.any()
    again = engine.contributions([world.batch([4, 0]), world.batch([4])], 1.0)
    next(again)
    with pytest.raises(AccountingError, match="two places"):
        next(again)
    with pytest.raises(AccountingError, match="clipping norm"):
        next(engine.contributions([world.batch()], 0.0))


def test_a_batch_of_another_shape_is_refused(world: World, engine: ClippingEngine) -> None:
    engine.clipped_sum([world.batch()], 1.0)
    fewer = world.standing(world.patients[:-1])
    with pytest.raises(AccountingError, match="4 places of 2 rows; the engine's others have 5 of"):
        engine.clipped_sum([fewer], 1.0)
    longer = replace(world.batch(), patients=torch.arange(1), rows_each=10)
    with pytest.raises(AccountingError, match="blanks"):
        engine.clipped_sum([longer], 1.0)


def test_blanks_alone_are_zero(world: World, engine: ClippingEngine) -> None:
    nobody = engine.clipped_sum([world.batch([])], 1.0)
    assert (float(nobody.total.abs().sum()), nobody.patients, nobody.dropped) == (0.0, 0, 0)


def test_many_copies_of_a_tile_weigh_no_more_than_one(make: Make) -> None:
    """Clipping per tile instead of per patient would let four tiles count four times."""
    one, four = mixer([0], 1), mixer([0], 4)
    four = four.with_loss(lambda module, rows: one.loss(module, torch.zeros_like(rows)))
    clip = 0.5 * norms(one)[0]
    single = make(one).clipped_sum([one.batch()], clip).total
    copies = make(four).clipped_sum([four.batch()], clip).total
    assert copies.norm() <= clip * (1 + 1e-6)
    assert relative(copies, single) <= 1e-5


def test_physical_batches_do_not_matter(
    pattern: Pattern, world: World, engine: ClippingEngine
) -> None:
    clip = float(torch.tensor(pattern.norms).median())
    whole = engine.clipped_sum([world.batch()], clip)
    split = engine.clipped_sum((world.batch([patient]) for patient in world.patients), clip)
    assert relative(split.total, whole.total) <= 1e-5
    assert split.patients == whole.patients


def test_an_empty_draw_is_zero(engine: ClippingEngine) -> None:
    nothing = engine.clipped_sum([], 1.0)
    assert nothing.total.shape == (engine.size,)
    assert (float(nothing.total.abs().sum()), nothing.patients, nothing.dropped) == (0.0, 0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_patient_that_is_not_finite_contributes_zero(
    pattern: Pattern, world: World, engine: ClippingEngine, value: float
) -> None:
    clip = float(torch.tensor(pattern.norms).median())
    first = int(world.rows_of(4)[0])

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return world.loss(module, rows) * torch.where(rows == first, value, 1.0)

    sick = engine.clipped_sum([world.with_loss(loss).batch()], clip)
    healthy = engine.clipped_sum([world.without(4)], clip)
    assert (sick.patients, sick.dropped) == (len(world.patients), 1)
    assert torch.equal(sick.total, healthy.total)


def test_a_loss_that_is_not_finite_drops_even_a_finite_gradient(make: Make) -> None:
    world = mixer()
    spoiled = world.with_loss(
        lambda module, rows: world.loss(module, rows) + torch.where(rows == 3, math.nan, 0.0)
    )
    summed = make(world).clipped_sum([spoiled.batch()], HUGE)
    assert summed.dropped == 1
    assert summed.total.isfinite().all()


def test_train_and_eval_mode_agree_and_are_kept(world: World, engine: ClippingEngine) -> None:
    totals = []
    for mode in (True, False):
        world.module.train(mode)
        totals.append(engine.clipped_sum([world.batch()], HUGE).total)
        assert all(part.training is mode for part in world.module.modules())
    assert torch.equal(*totals)
    assert totals[0].norm() > 0


def test_nothing_is_left_behind(world: World, engine: ClippingEngine) -> None:
    before = {name: value.clone() for name, value in world.module.state_dict().items()}
    first = engine.clipped_sum([world.batch()], HUGE).total
    assert torch.equal(engine.clipped_sum([world.batch()], HUGE).total, first)
    assert all(parameter.grad is None for parameter in world.module.parameters())
    for name, value in world.module.state_dict().items():
        assert torch.equal(value, before[name])
    plain = [world.plain_gradient(patient) for patient in world.patients]  # autograd still works
    assert relative(first, sum(plain)) <= 1e-5


def test_an_error_in_the_forward_pass_passes_through(make: Make) -> None:
    world = mixer()
    engine = make(world)
    expected = engine.clipped_sum([world.batch()], HUGE).total

    def stop(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        world.loss(module, rows)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.clipped_sum([world.with_loss(stop).batch()], HUGE)
    assert torch.equal(engine.clipped_sum([world.batch()], HUGE).total, expected)


def test_a_teacher_pass_without_gradient(world: World, engine: ClippingEngine) -> None:
    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            teacher = world.loss(module, rows)
        student = world.loss(module, rows)
        with torch.no_grad():
            world.loss(module, rows)
        return student * (1 + teacher)

    taught = world.with_loss(loss)
    expected = sum(taught.plain_gradient(patient) for patient in world.patients)
    assert relative(engine.clipped_sum([taught.batch()], HUGER).total, expected) <= 1e-5


def test_two_passes_with_gradient(world: World, engine: ClippingEngine) -> None:
    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return world.loss(module, rows) * world.loss(module, rows).sqrt()

    twice = world.with_loss(loss)
    expected = sum(twice.plain_gradient(patient) for patient in world.patients)
    assert relative(engine.clipped_sum([twice.batch()], HUGER).total, expected) <= 1e-5


def test_draws_of_a_tile_are_averaged_before_the_clip(make: Make) -> None:
    """Two tiles, three draws each: the patient's gradient is the mean of the tiles' means."""
    world = mixer([5, 8], 6)
    first = World(world.module, world.loss, (1,), 3)
    second = first.with_loss(lambda module, rows: world.loss(module, rows + 3))
    mean = (first.plain_gradient(1) + second.plain_gradient(1)) / 2
    clip = 0.5 * float(mean.norm())
    engine = make(world)
    assert relative(engine.clipped_sum([world.batch([5])], HUGE).total, mean) <= 1e-5
    assert relative(engine.clipped_sum([world.batch([5])], clip).total, mean / 2) <= 1e-5


def test_a_step_without_any_gradient_is_refused(make: Make) -> None:
    world = mixer()

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return world.loss(module, rows)

    with pytest.raises(AccountingError, match="row by row"):
        make(world).clipped_sum([world.with_loss(loss).batch()], 1.0)


def test_more_rows_than_the_batch_are_refused(make: Make) -> None:
    world = mixer()

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return world.loss(module, torch.cat([rows, rows]))[: len(rows)]

    engine = make(world)
    with pytest.raises(AccountingError, match="row by row"):
        engine.clipped_sum([world.with_loss(loss).batch()], 1.0)
    assert engine.clipped_sum([world.batch()], 1.0).total.norm() > 0


def test_a_patient_in_two_places_is_refused(make: Make) -> None:
    world = mixer()
    engine = make(world)
    with pytest.raises(AccountingError, match="two places"):
        engine.clipped_sum([world.batch([4, 0]), world.batch([4])], 1.0)
    with pytest.raises(AccountingError, match="two places"):
        engine.clipped_sum([world.standing([4, 0, 4, 2, 9])], 1.0)


def test_losses_of_another_shape_are_refused(make: Make) -> None:
    world = mixer()
    mean = world.with_loss(lambda module, rows: world.loss(module, rows).mean())
    with pytest.raises(AccountingError, match="one number for each row"):
        make(world).clipped_sum([mean.batch()], 1.0)


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf])
def test_bad_clipping_norms_are_refused(make: Make, clip: float) -> None:
    with pytest.raises(AccountingError, match="clipping norm"):
        make(mixer()).clipped_sum([], clip)


def test_a_batch_norm_in_train_mode_is_refused(make: Make) -> None:
    world = mixer()
    mixed = nn.Sequential(world.module, nn.BatchNorm1d(4).requires_grad_(False))
    engine = make(World(mixed, world.loss, world.patients))
    with pytest.raises(ModelError, match="batch norm"):
        engine.clipped_sum([], 1.0)
    mixed.eval()
    assert engine.clipped_sum([], 1.0).patients == 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_norms_hold_under_bf16_autocast(make: Make, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    world = mixer()
    world.module.to(device)

    def loss(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, dtype=torch.bfloat16):
            x = torch.ones(len(rows), 4, 5, device=device) * (rows[:, None, None].to(device) + 1)
            return module(x).float().square().mean(dim=(1, 2))

    world = world.with_loss(loss)
    engine = make(world)
    clip = 1e-3
    total = engine.clipped_sum([world.batch([patient]) for patient in world.patients], clip).total
    for patient in world.patients:
        alone = engine.clipped_sum([world.batch([patient])], clip).total
        assert alone.norm() <= clip * (1 + 1e-6)
        assert alone.norm() >= clip * (1 - 1e-6)
    assert total.norm() <= clip * len(world.patients) * (1 + 1e-6)


@pytest.mark.parametrize("make", **ENGINES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    patients=st.integers(1, 6),
    rows_each=st.integers(1, 4),
    width=st.integers(1, 6),
    length=st.integers(1, 4),
    clip=st.floats(1e-3, 1e3),
)
def test_any_shape(
    make: Make, patients: int, rows_each: int, width: int, length: int, clip: float
) -> None:
    # Double precision: a norm over two nearly equal numbers is too ill-conditioned for single.
    numbers = range(patients)
    world = mixer(numbers, rows_each, width=width, length=length, dtype=torch.float64)
    total = make(world).clipped_sum([world.batch()], clip).total
    parts = [clipped(world.plain_gradient(patient), clip) for patient in world.patients]
    assert (total - sum(parts)).norm() <= 1e-5 * max(float(part.norm()) for part in parts)


def test_the_order_of_places_does_not_matter(world: World, engine: ClippingEngine) -> None:
    """On this processor; where it does on another device, patients get fixed places there."""
    expected = engine.clipped_sum([world.batch()], 0.5).total
    found = engine.clipped_sum([world.standing([9, 2, 0, 4, 7])], 0.5).total
    assert relative(found, expected) <= 1e-5
