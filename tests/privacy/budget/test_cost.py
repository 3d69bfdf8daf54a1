"""From charges to epsilon, and from epsilon back to their number."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest

from privacy.accounting import epsilon
from privacy.budget import Book, attempts_behind, cost_of_attempts, study_cost
from privacy.errors import AccountingError
from privacy.events import GaussianSteps, gaussian_steps
from privacy.mechanisms.local import PoissonGaussian

from .charges import BARE, CHARGE, ELSEWHERE, EVENT, FILTERED, LIMITS, OTHER, STUDY, entries

ROOT = Path(__file__).parents[3]
PACKAGES = ("privacy", "model", "strategies", "server", "client", "craftsfl", "bench")


def test_a_study_is_composed_by_pld_at_its_smallest_delta() -> None:
    assert study_cost(()) == 0.0
    assert study_cost([CHARGE] * 2) == epsilon([EVENT] * 2, 1e-5) == cost_of_attempts(CHARGE, 2)
    other_delta = type(CHARGE)(STUDY, EVENT, 1e-6)
    assert study_cost([CHARGE, other_delta]) == epsilon([EVENT] * 2, 1e-6)


def test_anything_without_noise_costs_infinitely_much() -> None:
    assert math.isinf(study_cost([ELSEWHERE, BARE]))
    assert math.isinf(Book((CHARGE, BARE)).lifetime_epsilon(LIMITS))
    assert math.isinf(Book((CHARGE, BARE)).lifetime_epsilon(FILTERED))
    assert Book((CHARGE, BARE)).study_epsilon(STUDY) < math.inf


def test_a_thousand_equal_charges_are_looked_at_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An agent holds its lock meanwhile, at every attempt and every greeting."""
    looks = 0

    def charged(event: PoissonGaussian) -> tuple[GaussianSteps, ...]:
        nonlocal looks
        looks += 1
        return (gaussian_steps(event.sampling_rate, event.noise_multiplier, event.steps),)

    monkeypatch.setattr(PoissonGaussian, "charged", property(charged))
    assert cost_of_attempts(CHARGE, 1000) > 0
    assert looks < 20


def test_the_number_of_attempts_follows_from_their_epsilon() -> None:
    for count in (0, 1, 5):
        assert attempts_behind(cost_of_attempts(CHARGE, count), CHARGE, 5) == count
    assert attempts_behind(cost_of_attempts(CHARGE, 1) * 1.01, CHARGE, 5) is None
    assert attempts_behind(cost_of_attempts(CHARGE, 6), CHARGE, 5) is None
    assert attempts_behind(math.inf, BARE, 5) == 1


def test_a_book_holds_charges_by_study() -> None:
    book = Book.of(entries(CHARGE, ELSEWHERE, CHARGE))
    assert book.studies() == (STUDY, OTHER)
    assert book.of_study(STUDY) == (CHARGE, CHARGE)
    assert book.without(STUDY) == Book((ELSEWHERE,))
    assert book.of_study(b"\3" * 32) == ()
    assert Book().lifetime_epsilon(LIMITS) == Book().lifetime_delta(LIMITS) == 0.0


def test_studies_are_summed_with_their_deltas_unless_a_filter_composes_them() -> None:
    book = Book((CHARGE, ELSEWHERE, CHARGE))
    two, one = epsilon([EVENT] * 2, 1e-5), epsilon([ELSEWHERE.event], 1e-5)
    assert book.lifetime_epsilon(LIMITS) == pytest.approx(two + one)
    assert book.lifetime_delta(LIMITS) == pytest.approx(2e-5)
    assert book.lifetime_delta(FILTERED) == FILTERED.delta
    assert 0 < book.lifetime_epsilon(FILTERED) < math.inf


def test_an_order_at_which_nothing_fits_is_refused() -> None:
    with pytest.raises(AccountingError, match="nothing fits"):
        type(LIMITS)(epsilon=1.0, delta=1e-5, study_epsilon=1.0, rdp_order=3).over_studies()


def test_one_place_composes_the_epsilon_of_charges() -> None:
    """Whoever else asked the accountant about charges could answer differently."""
    found = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if not path.is_relative_to(ROOT / "privacy" / "accounting")
        and {"worst_of", "RenyiFilter"} & _names(path)
    }
    assert found == {"privacy/budget/cost.py", "privacy/budget/limits.py"}


def _names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
