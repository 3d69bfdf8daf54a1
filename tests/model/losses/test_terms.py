"""Each term against numbers worked out by hand, or by another library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.losses import (
    above_diagonal,
    contrast,
    correlations,
    effect_correlation,
    hinge,
    pearson,
    squared_error,
)


def tokens(count: int = 3, seed: int = 0, *, channels: int = 7, side: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 5 + 3 * torch.randn(count, channels, side, side, generator=generator)


def test_squared_error_is_the_mean_over_a_rows_elements() -> None:
    predicted = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]])
    target = torch.tensor([[[[0.0, 0.0]]], [[[3.0, 4.0]]]])
    assert squared_error(predicted, target).tolist() == [2.5, 12.5]


def test_correlations_by_hand() -> None:
    """Channel one: -1, 1 at the tokens (0 and 2, mean 1); channel two: 1, -1. X rows: (-1, 1)/√2,
    (1, -1)/√2: their product is -1. A channel scaled or shifted changes nothing."""
    found = correlations(torch.tensor([[[[0.0, 2.0]], [[30.0, 10.0]]]]))
    torch.testing.assert_close(found, torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]]))


def test_correlations_are_those_of_numpy() -> None:
    x = tokens()[1].flatten(1).numpy().astype(np.float64)
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    x /= np.linalg.norm(x, axis=0)
    np.testing.assert_allclose(correlations(tokens())[1].numpy(), x.T @ x, atol=1e-5)


def test_without_centring_nothing_would_be_left() -> None:
    """Why channels are centred: a common offset drowns what tells the tokens apart."""
    plain = torch.nn.functional.normalize(1000 + tokens().flatten(2), dim=1)
    assert (plain.transpose(1, 2) @ plain).min() > 0.999
    assert above_diagonal(correlations(1000 + tokens())).std() > 0.2


def test_the_triangle_is_strict_and_goes_row_by_row() -> None:
    matrix = torch.arange(9.0).reshape(1, 3, 3)
    assert above_diagonal(matrix).tolist() == [[1.0, 2.0, 5.0]]


def test_pearson_is_numpys() -> None:
    r, other = correlations(tokens(seed=1)), above_diagonal(correlations(tokens(seed=2)))
    upper = above_diagonal(r)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(upper.numpy(), other.numpy(), strict=True)]
    np.testing.assert_allclose(pearson(r, other).numpy(), expected, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 10), st.floats(-3, 3), st.integers(0, 1000))
def test_pearson_knows_neither_scale_nor_offset(scale: float, offset: float, seed: int) -> None:
    r = correlations(tokens(2, seed))
    same = scale * above_diagonal(r) + offset
    torch.testing.assert_close(pearson(r, same), torch.ones(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(pearson(r, -same), -torch.ones(2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("flat", ["features", "reference"])
def test_a_blank_tile_has_no_correlation_and_no_gradient(flat: str) -> None:
    features, reference = tokens(1), above_diagonal(correlations(tokens(1, 3)))
    if flat == "features":
        features = torch.ones_like(features)
    else:
        reference = torch.zeros_like(reference)
    features.requires_grad_()
    rho = pearson(correlations(features), reference)
    rho.sum().backward()
    assert abs(float(rho.detach())) < 1e-3
    assert features.grad is not None
    assert features.grad.isfinite().all()
    if flat == "reference":
        assert features.grad.abs().max() == 0


def test_the_gradient_of_the_regulation_is_numerically_right() -> None:
    reference = above_diagonal(correlations(tokens(2, 3, side=3)))
    features = tokens(2, 4, side=3).requires_grad_()
    loss = hinge(pearson(correlations(features), reference), 1.0).sum()
    (gradient,) = torch.autograd.grad(loss, features)
    direction = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    step = 1e-2
    with torch.no_grad():
        ends = [
            hinge(pearson(correlations(features + s * direction), reference), 1.0).sum()
            for s in (step, -step)
        ]
    slope = float(ends[0] - ends[1]) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=0.02)


def test_correlations_stay_in_full_precision_under_autocast() -> None:
    plain = correlations(tokens())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(correlations(tokens()), plain)


def test_the_hinge_rests_beyond_its_margin() -> None:
    rho = torch.tensor([-0.5, 0.2, 0.4, 0.9], requires_grad=True)
    losses = hinge(rho, 0.4)
    torch.testing.assert_close(losses.detach(), torch.tensor([0.9, 0.2, 0.0, 0.0]))
    losses.sum().backward()
    assert rho.grad is not None
    assert rho.grad.tolist() == [-1.0, -1.0, 0.0, 0.0]


def test_contrast_by_hand() -> None:
    """Errors 1 against 2 and 3 at tau = 0.5: -log(e^-2 / (e^-2 + e^-4 + e^-6))."""
    none = torch.zeros(1, 2, dtype=torch.bool)
    own, others = torch.tensor([1.0]), [torch.tensor([2.0]), torch.tensor([3.0])]
    found = contrast(own, others, none, 0.5)
    assert float(found) == pytest.approx(math.log(1 + math.exp(-2) + math.exp(-4)))
    assert float(contrast(own, [own], none[:, :1], 0.5)) == pytest.approx(math.log(2))


def test_a_public_caption_that_is_the_own_one_is_left_out() -> None:
    own, others = (
        torch.tensor([1.0], requires_grad=True),
        [torch.tensor([1.0]), torch.tensor([2.0])],
    )
    found = contrast(own, others, torch.tensor([[True, False]]), 1.0)
    assert float(found) == pytest.approx(math.log(1 + math.exp(-1)))
    alone = contrast(own, others[:1], torch.tensor([[True]]), 1.0)
    assert float(alone) == 0
    (gradient,) = torch.autograd.grad(alone.sum(), own)
    assert float(gradient) == 0


def test_contrast_is_finite_at_any_distance() -> None:
    none = torch.zeros(1, 1, dtype=torch.bool)
    found = contrast(torch.tensor([1e3]), [torch.tensor([0.0])], none, 1e-2)
    assert float(found) == pytest.approx(1e5)


def effects(count: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 4, 6, 6, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 10), st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.integers(0, 1000))
def test_effects_have_no_scale_and_no_colour(scale: float, shift: list[float], seed: int) -> None:
    """A larger effect wins nothing, and a channel that is shifted everywhere loses nothing."""
    own = effects(2, seed)
    other = scale * own + torch.tensor(shift).reshape(1, 4, 1, 1)
    torch.testing.assert_close(effect_correlation(own, other), torch.ones(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(effect_correlation(own, -other), -torch.ones(2), atol=1e-3, rtol=0)


def test_effects_are_compared_by_pearson() -> None:
    own, known = effects(seed=1), effects(seed=2)
    flat = [(d - d.mean(dim=(2, 3), keepdim=True)).flatten(1).numpy() for d in (own, known)]
    wanted = [np.corrcoef(a, b)[0, 1] for a, b in zip(*flat, strict=True)]
    np.testing.assert_allclose(effect_correlation(own, known).numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("none", ["own", "known"])
def test_no_effect_agrees_with_nothing_and_pulls_gently(none: str) -> None:
    own, known = effects(seed=1), effects(seed=2)
    if none == "own":
        own = torch.ones_like(own)
    else:
        known = torch.ones_like(known)
    own.requires_grad_()
    rho = effect_correlation(own, known)
    rho.sum().backward()
    assert rho.detach().abs().max() < 1e-3
    assert own.grad is not None
    assert own.grad.flatten(1).norm(dim=1).max() < 1e3  # 1 / sqrt(1e-6): a slope has a bound


def test_effects_stay_in_full_precision_under_autocast() -> None:
    plain = effect_correlation(effects(), effects(seed=2))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(effect_correlation(effects(), effects(seed=2)), plain)
