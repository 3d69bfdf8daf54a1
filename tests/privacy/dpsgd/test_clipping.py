from __future__ import annotations

import math

import pytest
import torch

from privacy.dpsgd.clipping import add_clipped


def test_the_norm_is_taken_in_double_precision() -> None:
    """Squares of 1e-30 vanish in float32: their norm would be 0, and nothing would be clipped."""
    gradients = torch.full((1, 4), 1e-30)
    total = torch.zeros(4, dtype=torch.float64)
    assert add_clipped(total, gradients, torch.tensor([True]), 1e-30) == 0
    assert float(total.norm()) == pytest.approx(1e-30)
    large = torch.full((1, 4), 1e30)
    total.zero_()
    assert add_clipped(total, large, torch.tensor([True]), 1.0) == 0
    assert float(total.norm()) == pytest.approx(1.0)


@pytest.mark.parametrize("columns", [1, 5, (1 << 14) - 1, (1 << 14) + 3, 3 << 14])
def test_any_number_of_columns(columns: int) -> None:
    gradients = torch.randn(3, columns, generator=torch.Generator().manual_seed(0))
    norms = gradients.double().norm(dim=1)
    clip = float(norms.median())
    total = torch.zeros(columns, dtype=torch.float64)
    add_clipped(total, gradients, torch.ones(3, dtype=torch.bool), clip)
    expected = ((clip / norms).clamp(max=1)[:, None] * gradients.double()).sum(0)
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_or_marked_adds_nothing(value: float) -> None:
    gradients = torch.ones(3, 4)
    gradients[0, 2] = value
    total = torch.zeros(4, dtype=torch.float64)
    assert add_clipped(total, gradients, torch.tensor([True, False, True]), 100.0) == 2
    assert total.tolist() == [1.0] * 4
