from __future__ import annotations

import itertools
import math

import pytest

from privacy.accounting import epsilon, epsilon_known_to
from privacy.accounting.capacity import OVERFLOW_SHARE
from privacy.errors import AccountingError
from privacy.mechanisms.local import PoissonGaussian
from tests.privacy.accounting.oracles import DEMO, NORMAL, gaussian_delta

WORKED = PoissonGaussian(0.25, 2.51, 1.0, 60)  # a case in which one site costs 3.6


def test_reference_figures_for_one_two_and_three_sites() -> None:
    figures = [
        epsilon_known_to(sites, WORKED, 1e-5, "pooled", discretization=4e-3) for sites in (1, 2, 3)
    ]
    assert figures == pytest.approx([3.6, 8.2, 13.5], abs=0.06)


@pytest.mark.parametrize(("tiles", "figure"), [(1, 10), (2, 23), (4, 55), (16, 405)])
def test_a_tiles_epsilon_is_not_a_patients(tiles: int, figure: float) -> None:
    # The same mixture: every tile of a patient is drawn and clipped on its own. The
    # published figures leave delta open, and are rounded.
    tile = PoissonGaussian(0.0135, 0.79, 1.0, 3690)
    found = epsilon_known_to(tiles, tile, 2e-7, "pooled", discretization=4e-3)
    assert found == pytest.approx(figure, rel=0.03)


def test_at_one_site_it_is_the_plain_figure() -> None:
    assert epsilon_known_to(1, DEMO, 1e-5, "local") == epsilon([DEMO], 1e-5)
    assert epsilon_known_to(1, DEMO, 1e-5, "pooled") == pytest.approx(epsilon([DEMO], 1e-5))


def test_local_sites_compose() -> None:
    # A draw may be larger than there is room at each of them.
    left = 1e-5 * (1 - 3 * OVERFLOW_SHARE) / (1 - OVERFLOW_SHARE)
    assert epsilon_known_to(3, DEMO, 1e-5, "local") == pytest.approx(epsilon([DEMO] * 3, left))


def test_two_ids_at_one_site_cost_more_than_two_sites() -> None:
    # Both records add to one sum under one noise: for q = 1 exactly twice the sensitivity.
    one, double = PoissonGaussian(1.0, 8.0, 1.0, 9), PoissonGaussian(1.0, 4.0, 1.0, 9)
    two = epsilon_known_to(2, one, 1e-5, "pooled", discretization=1e-2)
    assert two == pytest.approx(epsilon([double], 1e-5), abs=1e-2)
    assert two > epsilon_known_to(2, one, 1e-5, "local")


@pytest.mark.parametrize("records", [2, 3])
@pytest.mark.parametrize("eps", [0.5, 2.0])
def test_a_step_with_several_records_is_the_exact_mixture(records: int, eps: float) -> None:
    q, sigma = 0.25, 1.6
    chances = [math.comb(records, j) * q**j * (1 - q) ** (records - j) for j in range(records + 1)]
    edges = [-12 + 30 * i / 20_000 for i in range(20_001)]

    def below(x: float) -> float:
        return sum(p * NORMAL.cdf((x - j) / sigma) for j, p in enumerate(chances))

    cells = [
        (below(b) - below(a), NORMAL.cdf(b / sigma) - NORMAL.cdf(a / sigma))
        for a, b in itertools.pairwise(edges)
    ]
    delta = sum(max(0.0, p - math.exp(eps) * r) for p, r in cells)
    event = PoissonGaussian(q, sigma, 1.0, 1)
    found = epsilon_known_to(records, event, delta, "pooled", discretization=1e-2)
    assert eps - 1e-4 <= found <= eps + 2e-2


def test_if_everybody_is_drawn_it_is_the_exact_gaussian() -> None:
    eps = epsilon_known_to(2, PoissonGaussian(1.0, 8.0, 1.0, 9), 1e-5, "pooled")
    mu = 2 * 3 / 8.0
    assert gaussian_delta(eps, mu) <= 1e-5 <= gaussian_delta(eps - 2e-3, mu)


def test_every_further_site_costs_more() -> None:
    figures = [
        epsilon_known_to(sites, DEMO, 1e-5, "pooled", discretization=1e-2) for sites in (1, 2, 4)
    ]
    assert figures[0] < figures[1] < figures[2]
    assert figures[1] > epsilon_known_to(2, DEMO, 1e-5, "local")


@pytest.mark.parametrize("sites", [0, -1, 65, 1.0, math.nan, True])
def test_bad_numbers_of_sites_are_refused(sites: object) -> None:
    with pytest.raises(AccountingError, match="sites"):
        epsilon_known_to(sites, DEMO, 1e-5, "local")  # type: ignore[arg-type]


def test_what_is_unknown_is_refused_by_name() -> None:
    with pytest.raises(AccountingError, match="central"):
        epsilon_known_to(2, DEMO, 1e-5, "central")  # type: ignore[arg-type]
    for mode in ("local", "pooled"):
        with pytest.raises(AccountingError, match="dict"):
            epsilon_known_to(2, {}, 1e-5, mode)  # type: ignore[arg-type]
        with pytest.raises(AccountingError, match="without noise"):
            epsilon_known_to(2, PoissonGaussian(0.5, 0.0, 1.0, 1), 1e-5, mode)  # type: ignore[arg-type]
