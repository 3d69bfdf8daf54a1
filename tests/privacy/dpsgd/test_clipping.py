from __future__ import annotations

import math

import pytest
import torch

from privacy.dpsgd import clipping
from privacy.dpsgd.clipping import GRID_BITS, add_clipped, clipped_integers
from privacy.dpsgd.engine import PatientGradients
from privacy.dpsgd.release import CONTRIBUTION_BITS


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


UNIT = 2**CONTRIBUTION_BITS


def integers(
    gradients: torch.Tensor, clip: float, usable: list[bool] | None = None
) -> torch.Tensor:
    """What every row adds, int64, in units of C 2^-30."""
    marks = torch.tensor(usable or [True] * len(gradients))
    found = clipped_integers(PatientGradients(gradients.clone(), marks), clip)
    assert found.dtype == torch.int32
    return found.long()


def squared_norms(rows: torch.Tensor) -> list[int]:
    """Exactly, in Python's integers."""
    return [sum(int(number) ** 2 for number in row) for row in rows]


@pytest.mark.parametrize("columns", [1, 2, 5, (1 << 14) + 3])
def test_contributions_are_the_clipped_gradients_truncated(columns: int) -> None:
    gradients = torch.randn(6, columns, generator=torch.Generator().manual_seed(3))
    norms = gradients.double().norm(dim=1)
    clip = float(norms.median())
    exact = (clip / norms).clamp(max=1)[:, None] * gradients.double() / clip * UNIT
    found = integers(gradients, clip)
    assert (found.abs() <= exact.abs() + 1e-5).all()
    assert (exact.abs() - found.abs() < 1 + 1e-5).all()
    assert (found * exact >= 0).all()  # towards zero


@pytest.mark.parametrize("clip", [1e-12, 1e-6, 0.3, 5.0, 1e30])
def test_no_contribution_is_longer_than_the_clip_not_even_in_the_last_bit(clip: float) -> None:
    """Vectors of which nothing is truncated among them: powers of two, one number, equal ones."""
    generator = torch.Generator().manual_seed(4)
    rows = [torch.randn(4, generator=generator) * 10.0**power for power in range(-30, 30)]
    rows += [torch.eye(4)[0] * value for value in (1.0, 3.0, 1e-38, 3.4e38, clip, 2 * clip)]
    rows += [torch.full((4,), value) for value in (1.0, 1e-38, 3.4e38, clip, 0.1, -0.3)]
    found = integers(torch.stack(rows), clip)
    assert max(squared_norms(found)) <= UNIT**2
    if clip < 1:  # and nobody is thrown away for it
        large = torch.stack(rows).double().norm(dim=1) > clip
        least = min(n for n, clipped in zip(squared_norms(found), large, strict=True) if clipped)
        assert least > 0.999 * UNIT**2


def test_a_row_that_were_longer_all_the_same_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the norm that is divided by were wrong."""
    sound = clipping._norms
    monkeypatch.setattr(clipping, "_norms", lambda rows: sound(rows) * (1 - 1e-6))
    gradients = torch.randn(3, 100, generator=torch.Generator().manual_seed(5))
    gradients[1] *= 1e-3
    first, small, last = integers(gradients, 1.0)
    assert not first.any()
    assert not last.any()
    assert small.any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_contributions_of_wrong_places_are_zeros_and_the_others_stay(value: float) -> None:
    gradients = torch.randn(4, 6, generator=torch.Generator().manual_seed(6))
    wanted = integers(gradients, 0.5)
    spoiled = gradients.clone()
    spoiled[0, 2] = value
    spoiled[1] = value
    found = integers(spoiled, 0.5, [True, False, True, False])
    assert torch.equal(found[2], wanted[2])
    assert not found[[0, 1, 3]].any()
