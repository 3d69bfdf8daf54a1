from __future__ import annotations

import math

import pytest
import torch

from privacy.dpsgd.clipping import GRID_BITS, add_clipped
from privacy.dpsgd.engine import PatientGradients


def summed(
    gradients: torch.Tensor, clip: float, usable: list[bool] | None = None
) -> tuple[torch.Tensor, int]:
    """The sum in float64, and how many added to it."""
    total = torch.zeros(gradients.shape[1], dtype=torch.int64)
    marks = torch.tensor(usable or [True] * len(gradients))
    kept = add_clipped(total, PatientGradients(gradients, marks), clip)
    return total.double() * clip * 2.0**-GRID_BITS, kept


def test_the_norm_is_taken_in_double_precision() -> None:
    """Squares of 1e-30 vanish in float32: their norm would be 0, and nothing would be clipped."""
    small, kept = summed(torch.full((1, 4), 1e-30), 1e-30)
    assert kept == 1
    assert float(small.norm()) == pytest.approx(1e-30)
    large, kept = summed(torch.full((1, 4), 1e30), 1.0)
    assert kept == 1
    assert float(large.norm()) == pytest.approx(1.0)


@pytest.mark.parametrize("columns", [1, 5, (1 << 14) - 1, (1 << 14) + 3, 3 << 14])
def test_any_number_of_columns(columns: int) -> None:
    gradients = torch.randn(3, columns, generator=torch.Generator().manual_seed(0))
    norms = gradients.double().norm(dim=1)
    clip = float(norms.median())
    expected = ((clip / norms).clamp(max=1)[:, None] * gradients.double()).sum(0)
    total, _ = summed(gradients, clip)
    torch.testing.assert_close(total, expected, rtol=0, atol=3 * clip * 2.0**-GRID_BITS)


def test_rounding_lengthens_no_vector() -> None:
    """Towards zero: to the nearest would add up to half a unit in each of many coordinates."""
    generator = torch.Generator().manual_seed(1)
    for clip in (1e-6, 0.3, 5.0):
        for gradient in torch.randn(20, 1, 100_000, generator=generator):
            total, _ = summed(gradient.clone(), clip)
            assert float(total.norm()) <= clip * (1 + 1e-12)
            assert (total.abs() <= gradient[0].double().abs() + 1e-15).all()


def test_the_order_of_patients_changes_not_one_bit() -> None:
    gradients = torch.randn(50, 1000, generator=torch.Generator().manual_seed(2)) * 1e3
    first, _ = summed(gradients.clone(), 0.7)
    second, _ = summed(gradients.flip(0).clone(), 0.7)
    assert torch.equal(first, second)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_place_that_is_not_finite_or_marked_adds_nothing(value: float) -> None:
    gradients = torch.ones(3, 4)
    gradients[0, 2] = value
    gradients[1] = value
    total, kept = summed(gradients, 100.0, [True, False, True])
    assert kept == 1
    torch.testing.assert_close(total, torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-9)
