"""The composed loss: its parts by hand, its passes counted, and what it shares between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from model.adapters import without_adapter
from model.losses import (
    Loss,
    Rows,
    StageTwoLoss,
    above_diagonal,
    caught,
    correlations,
    denoising,
    stage_two,
    stage_two_loss,
)
from model.text import encode_captions
from privacy.dpsgd.engine import PhysicalBatch
from privacy.errors import AccountingError, ModelError
from privacy.study.stage_two import Passes, StageTwo
from tests.model.losses.worlds import (
    BLOCK,
    CAPTIONS,
    DRIFT,
    EFFECT_TERM,
    EFFECTS,
    ENGINES,
    GROUNDING,
    LOSSES,
    PHRASES,
    STRUCTURE,
    World,
    make_rows,
    without,
)

ON, OFF = (True, 4), (False, 4)


def value(world: World, loss: Loss, rows: Rows) -> torch.Tensor:
    with torch.no_grad():
        return loss(world.unet, rows, world.schedule)


def said(world: World, rows: Rows, text: torch.Tensor) -> torch.Tensor:
    noised = world.schedule.noised(rows)
    with torch.no_grad():
        return world.unet(noised, rows.timesteps, text).sample


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("denoising", [ON]),
        ("structure", [ON]),  # the features come from the pass that is made anyhow
        ("effects", [OFF, OFF, ON]),  # nothing said, and the phrase, by the base
        ("drift", [OFF, ON]),
        ("public drift", [OFF, ON, ON]),
        ("grounding", [ON, ON, ON]),  # 1 + K, each of the batch's rows
        ("stage-two", [OFF, OFF, OFF, ON, ON, ON]),
    ],
)
def test_the_passes_of_each_loss(world: World, name: str, passes: list[tuple[bool, int]]) -> None:
    seen = world.passes()
    assert LOSSES[name](world.unet, make_rows(), world.schedule).shape == (4,)
    assert seen == passes
    assert declared(name) == Passes(passes.count(ON), passes.count(OFF))


def declared(name: str) -> Passes:
    """What privacy.study tells whoever plans a study."""
    drift = DRIFT.model_copy(update={"captions": ("x",)}) if name == "public drift" else DRIFT
    whole = StageTwo(structure=STRUCTURE, effects=EFFECTS, drift=drift, grounding=GROUNDING)
    parts = {"denoising": (), "public drift": ("drift",), "stage-two": tuple(dict(whole))}
    chosen = parts.get(name, (name,))
    return StageTwo(**{term: getattr(whole, term) for term in chosen}).passes


def test_structure_is_the_weighted_hinge_of_the_same_pass(world: World) -> None:
    rows = make_rows()
    with caught(world.unet, BLOCK) as features:
        plain = value(world, denoising, rows)
    assert features[0].shape == (4, 64, 8, 8)
    upper = above_diagonal(correlations(features[0]))
    pairs = [torch.stack([upper[i], rows.reference[i].float()]) for i in range(4)]  # type: ignore[index]
    rho = torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs])
    wanted = plain + 0.7 * world.schedule.signal(rows) * (1.0 - rho)
    torch.testing.assert_close(value(world, LOSSES["structure"], rows), wanted)
    for margin, active in ((-1.0, False), (float(rho.max()) + 0.1, True)):
        loss = StageTwoLoss(STRUCTURE.model_copy(update={"margin": margin}))
        assert bool((value(world, loss, rows) > plain).all()) is active


def effects_of(world: World, rows: Rows, chosen: list[int]) -> torch.Tensor:
    """rho by numpy's own Pearson, of channels centred one by one."""
    with without_adapter(world.unet):
        empty = said(world, rows, PHRASES[4:].expand(len(chosen), -1, -1))
        known = said(world, rows, PHRASES[chosen]) - empty
    own = said(world, rows, rows.text) - empty
    flat = [(d - d.mean(dim=(2, 3), keepdim=True)).flatten(1) for d in (own, known)]
    pairs = zip(*flat, strict=True)
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])


def test_effects_are_the_hinge_under_the_phrase_of_the_rows_turn(world: World) -> None:
    """Row by row: the two phrases of largest r in turn with t, weighted by the chosen one's r."""
    likeness = torch.tensor(
        [[0.9, 0.2, 0.5, 0.1], [0.9, 0.2, 0.5, 0.1], [0.3, 0.3, -0.1, 0.0], [-0.5, -0.1, 0.0, -1]]
    )
    rows = replace(make_rows(), timesteps=torch.tensor([500, 501, 701, 300]), likeness=likeness)
    rho = effects_of(world, rows, [0, 2, 1, 2])
    r = torch.tensor([0.9, 0.5, 0.3, 0.0])  # the last caption is like none: off
    wanted = value(world, denoising, rows) + 0.6 * r * (1.0 - rho)
    torch.testing.assert_close(value(world, LOSSES["effects"], rows), wanted, rtol=1e-4, atol=1e-4)


def with_effects(**changed: object) -> StageTwoLoss:
    return StageTwoLoss(effects=replace(EFFECT_TERM, constants=EFFECTS.model_copy(update=changed)))


def test_beyond_its_margin_or_below_its_least_likeness_an_effect_is_free(world: World) -> None:
    rows = make_rows()
    plain = value(world, denoising, rows)
    assert bool((value(world, LOSSES["effects"], rows) > plain).all())
    assert torch.equal(value(world, with_effects(margin=-1.0), rows), plain)
    low = replace(rows, likeness=torch.full((4, 4), 0.5))
    assert torch.equal(value(world, with_effects(least=0.5), low), plain)


def test_a_phrases_own_words_cost_nothing_at_the_base(world: World) -> None:
    """The caption is the phrase, and the adapter says what the base does: rho is 1."""
    with torch.no_grad():
        for parameter in world.trained:
            parameter.zero_()
    rows = replace(make_rows(), text=PHRASES[:4], likeness=torch.eye(4) + 0.0)
    rows = replace(rows, timesteps=torch.tensor([500, 600, 700, 800]))  # even: the nearest one
    plain = value(world, denoising, rows)
    torch.testing.assert_close(value(world, LOSSES["effects"], rows), plain, atol=1e-3, rtol=0)


def test_a_caption_without_words_has_a_gradient_of_a_usual_size(world: World) -> None:
    """Its effect is zero at the base: the correlation's slope must not explode there."""
    with torch.no_grad():
        for parameter in world.trained[::2]:  # B is not zero, A is: no effect of the adapter
            parameter.zero_()
    rows = replace(make_rows(), text=PHRASES[4:].expand(4, -1, -1))
    lengths = []
    for loss in (denoising, LOSSES["effects"]):
        total = loss(world.unet, rows, world.schedule).sum()
        found = torch.autograd.grad(total, world.trained)
        lengths.append(torch.cat([g.flatten() for g in found]).norm())
    assert lengths[1].isfinite()
    assert lengths[1] < 1e4 * lengths[0]


def test_perfect_agreement_costs_nothing(world: World) -> None:
    rows = make_rows()
    with caught(world.unet, BLOCK) as features:
        plain = value(world, denoising, rows)
    mine = replace(rows, reference=above_diagonal(correlations(features[0])))
    torch.testing.assert_close(value(world, LOSSES["structure"], mine), plain)


def test_drift_is_the_distance_from_the_base(world: World) -> None:
    rows = make_rows()
    with without_adapter(world.unet):
        base = said(world, rows, rows.text)
    own = said(world, rows, rows.text)
    assert (own - base).abs().max() > 0
    wanted = (own - rows.noise).square() + 0.4 * (own - base).square()
    torch.testing.assert_close(
        value(world, LOSSES["drift"], rows), wanted.flatten(1).mean(dim=1), rtol=1e-4, atol=1e-6
    )


def test_drift_under_public_captions_leaves_the_own_ones_alone(world: World) -> None:
    """Captions (7 t) mod 3, for the adapted and for the frozen prediction."""
    rows = replace(make_rows(), timesteps=torch.tensor([0, 1, 2, 999]))
    text = CAPTIONS[[0, 1, 2, 0]]
    with without_adapter(world.unet):
        base = said(world, rows, text)
    drift = (said(world, rows, text) - base).square().flatten(1).mean(dim=1)
    wanted = value(world, denoising, rows) + 0.4 * drift
    torch.testing.assert_close(value(world, LOSSES["public drift"], rows), wanted)


@pytest.mark.parametrize("count", [*range(1, 40), 77, 91, 143, 1001, 120])
def test_every_public_caption_has_its_turn(count: int) -> None:
    assert {stage_two._stride(count) * t % count for t in range(count)} == set(range(count))


def test_an_untouched_adapter_does_not_drift(world: World) -> None:
    with torch.no_grad():
        for parameter in world.trained:
            parameter.zero_()
    assert torch.equal(
        value(world, LOSSES["drift"], make_rows()), value(world, denoising, make_rows())
    )


def test_grounding_turns_through_the_public_captions_with_t(world: World) -> None:
    rows = replace(make_rows(), timesteps=torch.tensor([0, 1, 2, 999]))
    texts = [rows.text, CAPTIONS[[0, 1, 2, 0]], CAPTIONS[[1, 2, 0, 1]]]
    errors = [(said(world, rows, text) - rows.noise).square().flatten(1).mean(1) for text in texts]
    own = (-torch.stack(errors, dim=1) / 0.05).softmax(dim=1)[:, 0]
    wanted = errors[0] - 0.3 * own.log()
    torch.testing.assert_close(
        value(world, LOSSES["grounding"], rows), wanted, rtol=1e-4, atol=1e-6
    )


def test_a_rows_own_caption_is_no_negative(world: World) -> None:
    rows = make_rows()
    only = GROUNDING.model_copy(update={"captions": ("x",), "each": 1})
    loss = StageTwoLoss(grounding=only, captions=rows.text[2:3])
    plain, found = value(world, denoising, rows), value(world, loss, rows)
    assert (found == plain).tolist() == [False, False, True, False]


def test_the_whole_is_the_sum_of_its_parts(world: World) -> None:
    rows = make_rows()
    plain = value(world, denoising, rows)
    parts = sum(
        value(world, LOSSES[n], rows) - plain
        for n in ("structure", "effects", "drift", "grounding")
    )
    torch.testing.assert_close(value(world, LOSSES["stage-two"], rows), plain + parts)
    assert torch.equal(value(world, StageTwoLoss(), rows), plain)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_engines_see_what_autograd_sees(world: World, engine: str) -> None:
    """With the adapter switched off for one pass, and layers computed once for all passes."""
    rows, loss = make_rows(), LOSSES["stage-two"]
    total = loss(world.unet, rows, world.schedule).sum()
    plain = torch.cat([g.flatten() for g in torch.autograd.grad(total, world.trained)]).double()
    with ENGINES[engine](world.unet, world.trained) as made:
        batch = PhysicalBatch(torch.arange(4), lambda: loss(world.unet, rows, world.schedule))
        found = made.clipped_sum([batch], 1e5).total
    assert (found - plain).norm() <= 1e-5 * plain.norm()


@pytest.mark.parametrize("name", LOSSES)
def test_no_trace_is_left_on_the_model(world: World, name: str) -> None:
    parts = list(world.unet.modules())
    before = [(set(vars(p)), len(p._forward_hooks), len(p._forward_pre_hooks)) for p in parts]
    wants = [parameter.requires_grad for parameter in world.unet.parameters()]
    LOSSES[name](world.unet, make_rows(), world.schedule)
    after = [(set(vars(p)), len(p._forward_hooks), len(p._forward_pre_hooks)) for p in parts]
    assert after == before
    assert [parameter.requires_grad for parameter in world.unet.parameters()] == wants


def test_an_error_within_a_pass_leaves_no_trace_either(world: World) -> None:
    rows = replace(make_rows(), text=torch.zeros(4, 16, 31))
    with pytest.raises(RuntimeError):
        LOSSES["stage-two"](world.unet, rows, world.schedule)
    assert not any("forward" in vars(part) for part in world.unet.modules())


def test_frozen_factors_stay_frozen(world: World) -> None:
    """FFA-LoRA trains the second factors alone; peft's own switch would wake the first ones."""
    world.trained[0].requires_grad_(False)
    LOSSES["drift"](world.unet, make_rows(), world.schedule)
    assert world.trained[0].requires_grad is False


def test_rows_of_another_number_would_be_refused_by_the_engine(world: World) -> None:
    """Why K public captions are K passes, and not one of K times the rows."""
    rows = make_rows()

    def at_once() -> torch.Tensor:
        text, noised = torch.cat([rows.text, rows.text]), world.schedule.noised(rows)
        out = world.unet(torch.cat([noised, noised]), rows.timesteps.repeat(2), text).sample
        return out.flatten(1).mean(dim=1)[:4]

    with (
        ENGINES["lora"](world.unet, world.trained) as engine,
        pytest.raises(AccountingError, match="row by row"),
    ):
        engine.clipped_sum([PhysicalBatch(torch.arange(4), at_once)], 1.0)


CASES = ["no reference", "other grid", "finer", "no captions", "no likeness", "other phrases"]


@pytest.mark.parametrize("case", CASES)
def test_rows_that_lack_something_are_told(world: World, case: str) -> None:
    rows, loss = make_rows(), LOSSES["structure"]
    match case:
        case "no reference":
            rows, told = without(rows, "reference"), "no reference"
        case "other grid":
            rows, told = replace(rows, reference=torch.zeros(4, 10)), "5 places"
        case "finer":
            rows, told = make_rows(side=9), "81 places"
        case "no likeness":
            rows, loss, told = without(rows, "likeness"), LOSSES["effects"], "how alike"
        case "other phrases":
            rows, told = replace(rows, likeness=torch.zeros(4, 9)), "how alike"
            loss = LOSSES["effects"]
        case _:
            loss, told = StageTwoLoss(grounding=GROUNDING), "public captions"
    with pytest.raises(ModelError, match=told):
        value(world, loss, rows)


def test_a_coarser_reference_is_met_by_averaging_areas(world: World) -> None:
    assert value(world, LOSSES["structure"], make_rows(side=4)).isfinite().all()


def test_public_captions_are_encoded_once(tiny_pipeline: Any) -> None:
    terms = StageTwo(structure=STRUCTURE, drift=DRIFT, grounding=GROUNDING)
    loss = stage_two_loss(terms, tiny_pipeline)
    assert loss.captions is not None
    torch.testing.assert_close(loss.captions, encode_captions(tiny_pipeline, ["a", "b", "c"]))
    assert stage_two_loss(StageTwo(drift=DRIFT), tiny_pipeline) == StageTwoLoss(drift=DRIFT)
    effects = stage_two_loss(StageTwo(effects=EFFECTS), tiny_pipeline).effects
    assert effects is not None
    torch.testing.assert_close(effects.phrases[:3], loss.captions)
    torch.testing.assert_close(effects.empty, encode_captions(tiny_pipeline, [""]))
    public = stage_two_loss(
        StageTwo(drift=DRIFT.model_copy(update={"captions": ("a",)})), tiny_pipeline
    )
    assert public.drift_captions is not None
    torch.testing.assert_close(public.drift_captions, loss.captions[:1])
